"""The results of a model for one scan: labels, or a modality predicted from others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from brats_jax.data.modalities import CLASSES, canonical_name
from brats_jax.data.scans.labels import with_et_as
from brats_jax.data.scans.scan import Scan
from brats_jax.errors import BratsError
from brats_jax.inference.postprocess import VolumeEstimate, tumour_in_air

# Share of the tumour in air above which a case gets a note. Most cases have one or two voxels per
# thousand there, at the head's edge.
_SUSPICIOUS_SHARE = 0.02


@dataclass(frozen=True)
class Segmented:
    """A scan and its labels on the network's grid (`Scan.to_input` goes back to the input's).

    Attributes:
      scan: the segmented scan.
      labels: uint8[slices, H, W], values as in `modalities.CLASSES`.
      probabilities: float32[slices, H, W, 4] by class, or None unless asked for.
      entropy: float32[slices, H, W] in nats, or None.
      volumes: in ml, by class and region; all that is printed of a result.
    """

    scan: Scan = field(repr=False)
    labels: np.ndarray = field(repr=False)
    probabilities: np.ndarray | None = field(repr=False)
    entropy: np.ndarray | None = field(repr=False)
    volumes: Mapping[str, VolumeEstimate]


def share_in_air(labels: np.ndarray, images: np.ndarray) -> float:
    """Share of the tumour's voxels where every modality is 0; 0 without tumour."""
    voxels = np.count_nonzero(labels)
    return np.count_nonzero(tumour_in_air(labels, images)) / voxels if voxels else 0.0


def note_on_air(labels: np.ndarray, images: np.ndarray, *, removed: bool = False) -> str:
    """A note for readers of the result if more than a trace of the tumour lies in air; else ''.

    Args:
      labels: uint8[slices, H, W].
      images: real[slices, H, W, C], intensities of a scan.
      removed: the cleaning removes it from these labels.
    """
    share = share_in_air(labels, images)
    if share <= _SUSPICIOUS_SHARE:
        return ""
    if removed:
        rest = ": check the rest of it before you use it" if share < 1 else ""
        return (
            f"{share:.0%} of the predicted tumour lay in air, where every modality is 0, and was "
            f"removed{rest}"
        )
    return (
        f"{share:.0%} of this tumour lies in air, where every modality is 0, and is wrong: check "
        "the rest of it before you use it"
    )


@dataclass(frozen=True)
class SyntheticModality:
    """A scan and one of its modalities, predicted from others, in normalised units.

    Attributes:
      scan: the scan.
      target: the modality.
      image: float32[slices, H, W].
      error: float32[slices, H, W], `image` minus the real modality; None where there is none.
      mse: mean square of `error` over the brain, or None.
    """

    scan: Scan = field(repr=False)
    target: str
    image: np.ndarray = field(repr=False)
    error: np.ndarray | None = field(repr=False)
    mse: float | None


def chosen_target(found: Sequence[SyntheticModality], target: str) -> SyntheticModality:
    """The one of a target, or with '' the only one.

    Raises:
      BratsError: there is no such target, or none is named where there are several.
    """
    wanted = canonical_name(target) if target else found[0].target
    chosen = [one for one in found if one.target == wanted]
    if not chosen or (not target and len(found) > 1):
        names = ", ".join(one.target for one in found)
        raise BratsError(f"the model predicts {names}: give one of them as target")
    return chosen[0]


def label_names(et_label: int) -> dict[str, str]:
    """The classes by their value in a file, with ET as `et_label`."""
    return {str(et_label if name == "ET" else v): name for v, name in enumerate(CLASSES)}


def label_values(found: Segmented, et_label: int) -> np.ndarray:
    """uint8[x, y, z]: the labels on the input's grid and axes, with ET as `et_label` (3 or 4)."""
    return with_et_as(found.scan.to_input(found.labels, nearest=True), et_label)
