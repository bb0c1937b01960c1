"""Checks by their contrast whether two modalities of a case may be exchanged, without labels."""

from collections.abc import Collection, Mapping

import numpy as np

from brats_jax.data.modalities import DISPLAY_NAMES, MODALITIES

_STEP = 3  # every third voxel along each axis
_LEAST_VOXELS = 5000  # of the brain, so counted; a brain has ten times as many


def exchange_note(images: np.ndarray, files: Mapping[str, str]) -> str:
    """A line if T1Gd is more like T2 or FLAIR than like T1; '' otherwise.

    Rank correlations over the brain are compared. In 20 real cases T1Gd was always more like T1;
    the check finds all exchanges of T1 with T2 or FLAIR and of T1Gd with T2, half of those of T1Gd
    with FLAIR, and no other (benchmarks/numerics/exchanged_files.py).

    Args:
      images: real[D, H, W, 4] in the order of `MODALITIES`, air 0.
      files: by modality, the file of each that is present.
    """
    others = [name for name in ("flair", "t2") if name in files]
    if not ({"t1", "t1gd"} <= {*files} and others):
        return ""
    correlation = _correlations(images, ("t1gd", "t1", *others))
    if correlation is None or correlation[1] >= max(correlation[2:]):
        return ""
    like = others[int(np.argmax(correlation[2:]))]
    t1gd, t1, other = (f"{DISPLAY_NAMES[name]} ({files[name]})" for name in ("t1gd", "t1", like))
    return f"by its contrast {t1gd} is more like {other} than like {t1}: check which is which"


def _correlations(images: np.ndarray, names: Collection[str]) -> np.ndarray | None:
    """Rank correlations of the first modality with each; None with too few voxels."""
    channels = [MODALITIES.index(name) for name in names]
    seen = images[::_STEP, ::_STEP, ::_STEP][..., channels]
    values = seen[(seen != 0).all(axis=-1)]
    if len(values) < _LEAST_VOXELS:
        return None
    ranks = values.argsort(axis=0).argsort(axis=0)
    return np.asarray(np.corrcoef(ranks, rowvar=False)[0])
