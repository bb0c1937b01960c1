"""Synthetic images in place of missing ones: the first stage of a run predicts them."""

import os
from dataclasses import dataclass

import numpy as np

from brats_jax.data.modalities import Synthesis, channel_indices, display_joined
from brats_jax.data.normalise import BY_VOLUME, brain_mask
from brats_jax.data.scans.scan import Scan
from brats_jax.errors import BratsError
from brats_jax.inference.ensemble import Ensemble
from brats_jax.inference.open_by_name import open_model
from brats_jax.inference.trained_run import TrainedRun
from brats_jax.runtime.item_progress import Progress


@dataclass(frozen=True)
class Synthesiser:
    """The first stage of a run, which predicts modalities for its segmentation.

    Attributes:
      ensemble: its networks.
      synthesis: what the networks predict from what; the segmentation reads at least one target.
      hash: of their weights.
    """

    ensemble: Ensemble
    synthesis: Synthesis
    hash: str


def open_synthesiser(
    path: str | os.PathLike[str], trained: TrainedRun, tta: bool, batch_size: int
) -> Synthesiser:
    """Opens the first stage of the run of a segmentation.

    Args:
      path: as in `open_by_name.open_model`.
      trained: the segmentation.
      tta, batch_size: as in `Ensemble`.

    Raises:
      BratsError: there is none, or it predicts nothing that the segmentation reads.
    """
    try:
        first = open_model(path, "reconstruct", trained.members[0].network.mesh)
    except BratsError as error:
        raise BratsError(f"--synthesise needs the first stage of the run: {error}") from None
    useful = any(name in trained.task.inputs for name in first.targets)
    if not useful or first.normalisation != trained.normalisation:
        what = f"{display_joined(first.targets)}, in units of {first.normalisation} normalisation"
        raise BratsError(
            f"--synthesise: the first stage predicts {what}, which the segmentation "
            f"({display_joined(trained.task.inputs)}, {trained.normalisation}) "
            "cannot use: leave it out"
        )
    ensemble = Ensemble(first.members, flips=tta, batch_size=batch_size)
    return Synthesiser(ensemble, Synthesis(first.task.inputs, first.targets), first.hash)


def filled_in(
    scan: Scan,
    images: np.ndarray,
    synthesiser: Synthesiser,
    normalisation: str,
    progress: Progress | None = None,
) -> np.ndarray:
    """The normalised images, with predicted ones in the channels of `scan.synthetic`.

    The predicted ones have the units of the segmentation's input, because both stages learn from
    one store. They are set to 0 where the normalisation sets a real image to 0: by volume outside
    of the brain, by slice in slices without brain.

    Args:
      scan: the scan.
      images: float16[slices, H, W, 4], its normalised images.
      synthesiser: predicts the modalities.
      normalisation: of the images.
      progress: called with the share of the slices that is computed, 0 to 1.
    """
    predicted = synthesiser.ensemble.reconstruct(images, progress)
    predicted = predicted.reshape(*images.shape[:3], len(synthesiser.synthesis.targets))
    brain = brain_mask(scan.images)
    inside = np.asarray(brain)
    if normalisation not in BY_VOLUME:
        inside = np.any(inside, axis=(1, 2), keepdims=True)
    filled = images.copy()
    for name in scan.synthetic:
        (channel,) = channel_indices([name])
        one = predicted[..., synthesiser.synthesis.targets.index(name)]
        filled[..., channel] = np.where(inside, one, 0).astype(images.dtype)
    return filled
