"""Finds the pretexts: every subclass of `Pretext` in the modules of this package."""

import importlib
import inspect
import pkgutil
from pathlib import Path

from brats_jax.pretexts.base import Pretext

DEFAULT = "cross_modality"  # the paper's


def _found() -> dict[str, type[Pretext]]:
    package = __name__.rpartition(".")[0]
    kinds: dict[str, type[Pretext]] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{package}."):
        if module.name == __name__:
            continue
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if (
                issubclass(kind, Pretext)
                and kind.__module__ == module.name
                and not inspect.isabstract(kind)
            ):
                kinds[kind.name] = kind
    return {DEFAULT: kinds.pop(DEFAULT), **dict(sorted(kinds.items()))}


# By name, the default first.
PRETEXTS: dict[str, type[Pretext]] = _found()
