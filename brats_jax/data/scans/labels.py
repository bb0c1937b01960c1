"""Label values of segmentation files, and their mapping to the classes 0 to 3.

BraTS until 2021       0 background, 1 NCR/NET, 2 ED, 4 ET
BraTS 2023 and later   0 background, 1 NCR/NET, 2 ED, 3 ET; 4 is a resection cavity
"""

import numpy as np

from brats_jax.data.modalities import CLASSES
from brats_jax.data.scans.volumes import Volume
from brats_jax.errors import BratsError

ET = CLASSES.index("ET")
ET_UNTIL_2021 = 4
_KNOWN = ({0, 1, 2, ET_UNTIL_2021}, {0, 1, 2, ET})


def map_labels(volume: Volume, *, four_is_et: bool) -> np.ndarray:
    """Maps the labels of any release to the classes.

    Args:
      volume: a segmentation, in any number type.
      four_is_et: whether label 4 is ET (see `naming.Naming`).

    Returns:
      uint8[x, y, z] with values as in `modalities.CLASSES`.

    Raises:
      BratsError: other values than those of a release, or a resection cavity.
    """
    values = label_values(volume.voxels)
    if not any(set(values) <= known for known in _KNOWN):
        shown = ", ".join(str(value) for value in values[:8]) + (", ..." if len(values) > 8 else "")
        raise BratsError(
            f"{volume.path} has the label values {shown}; known are 0, 1, 2, 4 (2020, 2021) and "
            "0, 1, 2, 3 (2023 and later): repair or remove the case"
        )
    if ET_UNTIL_2021 in values and not four_is_et:
        raise BratsError(
            f"{volume.path} has label value 4, which in releases named like it is a resection "
            "cavity, not ET: use the pre-operative cases, or remove the case"
        )
    labels = volume.voxels.astype(np.uint8)
    labels[labels == ET_UNTIL_2021] = ET
    return labels


def label_values(voxels: np.ndarray) -> list[float]:
    """The distinct values, ascending; fast where most are 0."""
    flat = voxels.ravel(order="K")
    others = flat[flat != 0]
    values = np.unique(others).tolist()
    return sorted(values + [0] * (len(others) < len(flat)))


def with_et_as(labels: np.ndarray, et_label: int) -> np.ndarray:
    """Replaces ET's value in labels with values as in `modalities.CLASSES`; keeps the type.

    Args:
      labels: integer[...].
      et_label: 3 or 4.

    Raises:
      BratsError: another `et_label`.
    """
    if et_label not in (ET, ET_UNTIL_2021):
        raise BratsError(f"et_label={et_label}: give 4 (BraTS 2020, 2021) or 3 (2023 and later)")
    return np.where(labels == ET, labels.dtype.type(et_label), labels)
