"""The persons whom a model has seen, as hashes: a model is passed on, their names are not."""

import hashlib
from collections.abc import Iterable

from brats_jax.data.scans.persons import subject_of

# Slow, so that trying names costs time. Names of public data sets can be tried nevertheless.
_ROUNDS = 10_000
_BYTES = 16


def hashed_persons(names: Iterable[str], salt: str) -> tuple[str, ...]:
    """PBKDF2-HMAC-SHA256 of the persons of cases or subjects, in 32 hexadecimal digits; sorted.

    Args:
      names: of cases or subjects.
      salt: differs from model to model.
    """
    persons = {subject_of(name) for name in names}
    return tuple(sorted(_hashed(person, salt) for person in persons))


def _hashed(person: str, salt: str) -> str:
    name = person.encode("utf-8", "surrogateescape")
    return hashlib.pbkdf2_hmac("sha256", name, salt.encode(), _ROUNDS, _BYTES).hex()
