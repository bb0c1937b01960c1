"""Stores of the same phantoms in every plane. Not tests."""

from pathlib import Path

from brats_jax.data.planes import PLANES
from brats_jax.data.store.prepare import prepare

PHANTOM = {"patients": 5, "seed": 0, "shape": (16, 32, 24), "workers": 1}


def make(folder: Path) -> None:
    """FOLDER/PLANE of each plane."""
    for plane in PLANES:
        prepare("phantom", folder / plane, normalisation="volume", plane=plane, **PHANTOM)
