"""Panels: pictures of a few test slices with a stage's predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brats_jax.data.modalities import CLASSES, NUM_CLASSES, channel_indices
from brats_jax.data.store.reader import Store
from brats_jax.evaluation.panel_slices import PanelSlices
from brats_jax.evaluation.published_files import publish
from brats_jax.evaluation.slices import network_inputs, predict_slices
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.metrics import image, overlap
from brats_jax.runs.folder import FoldFolder
from brats_jax.tasks import Pretraining
from brats_jax.viewer.panels import (
    ReconstructionRow,
    SegmentationRow,
    reconstruction_drawing,
    segmentation_drawing,
)
from brats_jax.viewer.slices import png

# The overlays lie over FLAIR, where oedema is brightest; the paper shows T1.
SEGMENTATION_IMAGES = ("flair", "t1", "t1gd")


def reconstruction_rows(
    task: Pretraining,
    images: np.ndarray,
    predicted: np.ndarray,
    rows: Sequence[tuple[str, int, int]],
    given: Mapping[str, np.ndarray] | None = None,
) -> list[ReconstructionRow]:
    """The rows of reconstruction.png, each with the SSIM of its slice.

    Args:
      task: the pretraining; the last of its tested modalities is shown.
      images: [N, H, W, 4], the slices.
      predicted: float32[N, H, W], that modality as predicted.
      rows: patient, slice number, and index into the arrays.
      given: the inputs to show, by modality; None: those of the slices.
    """
    inputs = given or {name: _channel(images, name) for name in task.inputs}
    target = _channel(images, task.tested[-1])
    ssim = np.asarray(image.ssim(predicted, target, image.data_range(target, "target")))
    return [
        ReconstructionRow(
            patient,
            number,
            {name: inputs[name][k] for name in inputs},
            target[k],
            predicted[k],
            float(ssim[k]),
        )
        for patient, number, k in rows
    ]


def _channel(images: np.ndarray, name: str) -> np.ndarray:
    return images[..., channel_indices([name])[0]].astype(np.float32)


def draw(
    folder: FoldFolder,
    network: RestoredNetwork,
    store: Store,
    indices: np.ndarray,
    note: str,
    *,
    tta: bool = False,
    planes: str = "",
) -> Path:
    """Writes reconstruction.png or segmentation.png of the given slices into the panels of a fold.

    segmentation.npz beside the latter holds the arrays, from which the report draws several models
    in one figure.
    """
    images, labels = store.read(indices)
    predicted = predict_slices(network, store, indices, tta=tta, planes=planes)
    rows = [
        (store.patients[store.patient_of[i]], int(store.slice_number[i]), k)
        for k, i in enumerate(indices)
    ]
    task = network.task
    if isinstance(task, Pretraining):
        inputs = _target_as_read(task, store, indices)
        return _draw_reconstruction(folder, task, images, predicted, rows, inputs, note)
    return _draw_segmentation(folder, images, labels, predicted, rows, note)


def _target_as_read(
    task: Pretraining, store: Store, indices: np.ndarray
) -> Mapping[str, np.ndarray] | None:
    """The shown target as the network reads it, with hidden blocks or noise; None: it does not."""
    target = task.tested[-1]
    if target not in task.stem or target in task.synthetic:
        return None
    return {target: network_inputs(task, store, indices)[..., task.stem.index(target)]}


def _draw_reconstruction(
    folder: FoldFolder,
    task: Pretraining,
    images: np.ndarray,
    predicted: np.ndarray,
    rows: Sequence[tuple[str, int, int]],
    inputs: Mapping[str, np.ndarray] | None,
    note: str,
) -> Path:
    """Writes reconstruction.png; `images`, `rows` and `inputs` as in `reconstruction_rows`."""
    if len(task.tested) > 1:
        predicted = predicted[..., -1]
    figure = reconstruction_drawing(
        folder.reconstruction_png,
        reconstruction_rows(task, images, predicted, rows, inputs),
        task.tested[-1],
        f"{note}; SSIM: 7 x 7 uniform window, range of the target slice, whole slice",
    )
    publish(folder, folder.reconstruction_png, png(figure))
    return folder.reconstruction_png


def _draw_segmentation(
    folder: FoldFolder,
    images: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    rows: Sequence[tuple[str, int, int]],
    note: str,
) -> Path:
    """Writes segmentation.png and segmentation.npz; `rows` as in `reconstruction_rows`."""
    shown = {name: _channel(images, name) for name in SEGMENTATION_IMAGES}
    dice = np.asarray(overlap.dice(overlap.confusion_counts(predicted, labels, NUM_CLASSES)))
    patients, numbers = [patient for patient, *_ in rows], [number for _, number, _ in rows]
    PanelSlices(patients, numbers, shown, labels, predicted, dice).save(folder.segmentation_npz)
    figure = segmentation_drawing(
        folder.segmentation_png,
        [
            SegmentationRow(
                patient,
                number,
                {name: shown[name][k] for name in shown},
                labels[k],
                predicted[k],
                {name: float(dice[k, c]) for c, name in enumerate(CLASSES) if c},
            )
            for patient, number, k in rows
        ],
        f"{note}; Dice of the slice, empty where the class is in neither mask",
    )
    publish(folder, folder.segmentation_png, png(figure))
    return folder.segmentation_png
