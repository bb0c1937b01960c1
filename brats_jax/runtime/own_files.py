"""The files that this program has written, by name and hash, so that no other is ever replaced.

A ledger is a JSON file beside the files. A file's hash is in it before the file is: a
command that is killed in between finds its files again.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from brats_jax.errors import BratsError
from brats_jax.runtime.document import Sealed, SealedDocument, has_schema_of, read_if_there
from brats_jax.runtime.files import atomic_open, json_text, refuse_link, sha256_of

_KEPT = "kept"


@dataclass(frozen=True)
class Ledger(SealedDocument):
    """The files of a folder that this program wrote.

    Attributes:
      files: SHA-256 by path within the folder; several while a file is being replaced.
    """

    SCHEMA: ClassVar[str] = "brats_jax.files"
    REMEDY: ClassVar[str] = _KEPT
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)


class OwnFiles:
    """The files of this program in a folder.

    Args:
      folder: the folder.
      ledger: the path of the ledger.
      known: further hashes by name, from other documents.

    Attributes:
      folder, path: as given, `path` of the ledger.
      damage: what is wrong with the ledger, which was edited or cut short; '' if it can be read.
        Nothing then tells whether a file was edited.
      foreign: whether another file stands in the ledger's place, which is never replaced.
    """

    def __init__(self, folder: Path, ledger: Path, known: Mapping[str, str] | None = None) -> None:
        self.path = ledger
        self.folder = folder
        self._lists_files = ledger.exists()
        self._files: dict[str, set[str]] = {}
        self.damage, before = "", None
        try:
            before = read_if_there(ledger, Ledger)
        except BratsError as error:
            self.damage = str(error).removesuffix(_KEPT).rstrip(" :;")
        self.foreign = bool(self.damage) and not _is_ledger(ledger)
        for name, hashes in (before.files if before else {}).items():
            self._files.setdefault(name, set()).update(hashes)
        for name, one in (known or {}).items():
            self._files.setdefault(name, set()).add(one)

    def adopt(self, name: str, *, unchanged: bool = True) -> None:
        """Adds a file that an earlier version wrote, which kept no ledger.

        Args:
          name: the file.
          unchanged: its present bytes are those that were written; False: nothing tells.
        """
        hashes = self._files.setdefault(name, set())
        if unchanged:
            hashes.add(sha256_of(self.folder / name))

    def adopt_equal(self, files: Mapping[str, bytes]) -> None:
        """Counts files as written that already have the content which they are to get."""
        for name, data in files.items():
            found = hashlib.sha256(data).hexdigest()
            with contextlib.suppress(OSError):
                if sha256_of(self.folder / name) == found:
                    self._files.setdefault(name, set()).add(found)

    @property
    def has_ledger(self) -> bool:
        """Whether there was a ledger: a folder of an earlier version has none."""
        return self._lists_files

    @property
    def names(self) -> list[str]:
        """The files that were written, whether they are still there or not."""
        return sorted(self._files)

    def knows(self, name: str) -> bool:
        """Whether a file of this name was written."""
        return name in self._files

    def may_replace(self, name: str) -> bool:
        """Whether there is no file of this name, or one with the bytes that were written.

        A link may not be replaced, wherever it leads.
        """
        return not (self.folder / name).is_symlink() and self.is_as_written(name)

    def is_as_written(self, name: str) -> bool:
        """Whether there is no file of this name, or one, or a link to one, with these bytes."""
        try:
            return sha256_of(self.folder / name) in self._files.get(name, ())
        except FileNotFoundError:
            return True
        except OSError:  # a folder, or a file without permission to read
            return False

    def is_cut(self, name: str, whole: bytes) -> bool:
        """Whether there is the beginning of what is to be written: a copy that was cut short."""
        if (self.folder / name).is_symlink():
            return False
        try:
            there = (self.folder / name).read_bytes()
        except OSError:
            return False
        return len(there) < len(whole) and whole.startswith(there)

    def begin(self, files: Mapping[str, bytes]) -> None:
        """Writes the ledger with the files that are there and those that will be written."""
        for name, data in files.items():
            self._files.setdefault(name, set()).add(hashlib.sha256(data).hexdigest())
        self._save()

    def write(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Writes files, each atomically.

        Args:
          files: content by name. `may_replace` holds for each, or the caller has checked that
            what is there may go.

        Returns:
          The SHA-256 of each file.
        """
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        self.begin(files)
        for name, data in files.items():
            with atomic_open(self.folder / name, "wb") as file:
                file.write(data)
            self._files[name] = {hashes[name]}
        self._save()
        return hashes

    def remove(self, names: Iterable[str]) -> list[str]:
        """Removes files that are as they were written; returns the names of all others."""
        kept = []
        for name in names:
            if self.may_replace(name):
                (self.folder / name).unlink(missing_ok=True)
                self._files.pop(name, None)
            else:
                kept.append(name)
        return kept

    def discard_ledger(self) -> None:
        """Removes the ledger, where another document has the hashes."""
        if not self.foreign and not self.path.is_symlink():
            self.path.unlink(missing_ok=True)

    def _save(self) -> None:
        if self.foreign:
            raise BratsError(
                f"{self.path} is there and was not written by this program, which keeps the list "
                "of its files there: kept; move it away, and give the same command again"
            )
        Ledger({name: tuple(sorted(self._files[name])) for name in self.names}).write(self.path)


def _is_ledger(path: Path) -> bool:
    """Whether a ledger that cannot be read is of this program: edited, or cut short."""
    if has_schema_of(path, Ledger):
        return True
    try:
        return json_text({"schema": Ledger.SCHEMA}).encode().startswith(path.read_bytes())
    except OSError:
        return False


def check_own_document(path: Path, kind: type[Sealed], remedy: str) -> None:
    """Refuses to go on where a document would be replaced that this program did not write.

    A document of an earlier version has no seal, so that an edit of it cannot be found.

    Raises:
      BratsError: another file of this name, or a document that was edited since.
    """
    refuse_link(path, remedy)
    try:
        read_if_there(path, kind, _KEPT)
    except BratsError as error:
        reason = str(error).removeprefix(f"{path}").removesuffix(_KEPT).strip(" :;")
        raise BratsError(
            f"{path} is not as this program writes it ({reason}): kept; {remedy}"
        ) from None


def check_replaceable(own: OwnFiles, names: Iterable[str], remedy: str) -> None:
    """Refuses to go on where a file would be replaced that this program did not write.

    Raises:
      BratsError: names the first such file.
    """
    for name in names:
        if not own.may_replace(name):
            refuse_link(own.folder / name, remedy)
            if own.damage:
                raise BratsError(
                    f"{own.damage}, so that an edit of {name} could not be found: kept; {remedy}"
                )
            why = "has changed since it was" if own.knows(name) else "is there and was not"
            raise BratsError(f"{own.folder / name} {why} written by this program: kept; {remedy}")
