"""Comparison of settings as JSON, of runs of any version; settings that leave the machine."""

import dataclasses
import os
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from brats_jax.data.augment import LATER
from brats_jax.runs.settings import ADDED, FREE, PATH, Mark, Settings, marks_of
from brats_jax.runtime.document import Part


def _marked(mark: Mark) -> frozenset[str]:
    return frozenset(name for name, marks in marks_of(Settings) if mark in marks)


# Dotted names, see `Mark`.
FREE_TO_CHANGE = _marked(FREE)
PATHS = _marked(PATH)
ADDED_LATER = _marked(ADDED)


def _defaults(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, default as JSON has it) of every setting with a default."""
    for name, annotation in typing.get_type_hints(kind).items():
        if isinstance(annotation, type) and issubclass(annotation, Part):
            yield from _defaults(annotation, f"{prefix}{name}.")
    for one in dataclasses.fields(kind):
        if one.default is not dataclasses.MISSING:
            value = one.default
            yield f"{prefix}{one.name}", list(value) if isinstance(value, tuple) else value


_DEFAULTS = dict(_defaults(Settings)) | {
    f"{stage}.augmentation.{name}": False for stage in ("pretrain", "segment") for name in LATER
}
# The meaning of a setting that a run of an earlier version does not have, if it is not the default.
BEFORE = {"data.selection": "validation"}
IF_ABSENT = {**_DEFAULTS, **BEFORE}


def flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by dotted name, as the command line has them."""
    from flax import traverse_util  # a third of a second that --status and --help need not wait

    return traverse_util.flatten_dict(nested, sep=".")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """'name: before -> now' of every setting that differs and changes the result.

    Args:
      before, now: settings as JSON has them.
    """
    old, new = flatten(before), flatten(now)
    found = []
    for name in sorted({**old, **new}):
        was, becomes = (side.get(name, IF_ABSENT.get(name)) for side in (old, new))
        if was == becomes or name in FREE_TO_CHANGE:
            continue
        if name in PATHS and old.get(name) and new.get(name):  # the folder has moved
            continue
        if name in ADDED_LATER and name not in old and name not in _DEFAULTS:  # any value fits
            continue
        found.append(f"{name}: {was} -> {becomes}")
    return found


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a file that is passed on, without the paths of the machine.

    Paths among the settings that this program knows are empty, because the content counts (the
    fingerprint of a store, the hash of weights); absolute paths in others are cut to their name.
    """

    def reduced(value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {key: reduced(item, f"{name}.{key}".lstrip(".")) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [reduced(item, name) for item in value]
        if not isinstance(value, str):
            return value
        if name in _PATHS_OF_THE_MACHINE:
            return ""
        return Path(value).name if os.sep in value else value

    return {key: reduced(value, key) for key, value in config.items()}


_PATHS_OF_THE_MACHINE = ("data.store", "data.other_planes", "pretrain.run", "compilation_cache")
