"""The augmentation of a stage, from its settings."""

import dataclasses
from collections.abc import Mapping
from numbers import Real
from typing import Any

from brats_jax.data.augment import Augmentation
from brats_jax.errors import BratsError

_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Augmentation)}


def augmentation_of(stage: str, chosen: Mapping[str, Any]) -> Augmentation | None:
    """The augmentation of a stage; None if nothing is switched on.

    Args:
      stage: 'pretrain' or 'segment'.
      chosen: fields of `Augmentation`, as JSON has them.

    Raises:
      BratsError: an unknown field, or a value of another type or without meaning.
    """
    name = f"config.{stage}.augmentation"
    for field, value in chosen.items():
        if field not in _DEFAULTS:
            raise BratsError(f"{name}.{field}: unknown; valid are {', '.join(_DEFAULTS)}")
        if (expected := _expected_instead(_DEFAULTS[field], value)) is not None:
            raise BratsError(f"{name}.{field}={value}: give {expected}")
    if stage == "pretrain" and chosen.get("lesion_contrast"):
        raise BratsError(f"{name}.lesion_contrast: the pretraining reads no labels; leave it out")
    if not any(chosen.values()):
        return None
    fields: dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value for field, value in chosen.items()
    }
    try:
        return Augmentation(**fields)
    except BratsError as error:
        raise BratsError(f"{name}: {error}") from None


def _expected_instead(default: Any, value: Any) -> str | None:
    """The values that a field takes, for a message; None if `value` has the default's type."""

    def is_number(x: Any) -> bool:
        return isinstance(x, Real) and not isinstance(x, bool)

    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, tuple):
        fits = isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))
        return None if fits else "two numbers, the lowest and the highest"
    return None if is_number(value) else "a number"
