"""Which test slices are shown, and what the best model of a stage makes of them."""

from pathlib import Path

import numpy as np

from brats_jax.data.modalities import CLASSES, NUM_CLASSES, channel_indices
from brats_jax.data.store.reader import Store
from brats_jax.evaluation.panel_slices import PanelSlices
from brats_jax.evaluation.slices import predict_slices
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.metrics import image, overlap
from brats_jax.tasks import Pretraining
from brats_jax.viewer.panels import (
    ReconstructionRow,
    SegmentationRow,
    reconstruction_panel,
    segmentation_panel,
)

# Beneath the overlays lies FLAIR, where oedema is brightest; T1 is what the paper shows.
SEGMENTATION_IMAGES = ("flair", "t1", "t1gd")
APART = 10  # slices between two that are shown of one patient


def slices_to_draw(store: Store, indices: np.ndarray, count: int) -> np.ndarray:
    """The slices of the panels: each patient's with most tumour, then its runners-up.

    A function of the store alone, so that all models are shown on the same slices.

    Args:
      store, indices: candidates, by global index.
      count: how many; fewer where there are not so many.

    Returns:
      int64[<= count], ascending.
    """
    burden = store.pixels[:, 1:].sum(axis=1, dtype=np.int64)
    left = {
        p: indices[store.patient_of[indices] == p] for p in np.unique(store.patient_of[indices])
    }
    chosen: list[int] = []
    while left and len(chosen) < count:
        for patient, mine in list(left.items()):
            best = mine[np.argmax(burden[mine])]
            chosen.append(int(best))
            distance = np.abs(store.slice_number[mine].astype(int) - int(store.slice_number[best]))
            left[patient] = mine[distance >= APART]
            if not left[patient].size:
                del left[patient]
    return np.array(sorted(chosen[:count]), np.int64)


def draw(
    directory: Path, network: RestoredNetwork, store: Store, indices: np.ndarray, note: str
) -> Path:
    """Writes reconstruction.png or segmentation.png of the given slices into `directory`.

    Beside the latter, segmentation.npz has what is in it, so that models can be shown together.
    """
    images, labels = store.read(indices)
    channels = {
        name: images[..., channel_indices([name])[0]].astype(np.float32)
        for name in {*network.task.inputs, *SEGMENTATION_IMAGES}
    }
    predicted = predict_slices(network, store, indices)
    patients = [store.patients[p] for p in store.patient_of[indices]]
    numbers = [int(n) for n in store.slice_number[indices]]
    if isinstance(network.task, Pretraining):
        task = network.task
        target = images[..., channel_indices([task.target])[0]].astype(np.float32)
        scores = np.asarray(image.ssim(predicted, target, image.data_range(target, "target")))
        rows = [
            ReconstructionRow(
                patients[k],
                numbers[k],
                {name: channels[name][k] for name in task.inputs},
                target[k],
                predicted[k],
                float(scores[k]),
            )
            for k in range(len(indices))
        ]
        note = f"{note}; SSIM: 7 x 7 uniform window, range of the target slice, whole slice"
        return reconstruction_panel(directory / "reconstruction.png", rows, task.target, note)
    dice = np.asarray(overlap.dice(overlap.confusion_counts(predicted, labels, NUM_CLASSES)))
    PanelSlices(
        patients, numbers, {n: channels[n] for n in SEGMENTATION_IMAGES}, labels, predicted, dice
    ).save(directory / "segmentation.npz")
    return segmentation_panel(
        directory / "segmentation.png",
        [
            SegmentationRow(
                patients[k],
                numbers[k],
                {name: channels[name][k] for name in SEGMENTATION_IMAGES},
                labels[k],
                predicted[k],
                {name: float(dice[k, c]) for c, name in enumerate(CLASSES) if c},
            )
            for k in range(len(indices))
        ],
        f"{note}; Dice of the slice, empty where the class is in neither mask",
    )
