"""Tallies of hand-made label maps, small enough to score with a pencil."""

from collections.abc import Sequence

import numpy as np

from brats_jax.evaluation.conventions import scores_of
from brats_jax.evaluation.rows import rows_of
from brats_jax.evaluation.scoring import tally_segmentation
from brats_jax.evaluation.tallies import SegmentationTally, Slices
from brats_jax.runs.documents import EvaluatedCheckpoint, Evaluation
from brats_jax.runs.folder import RunFolder


def slices_of(sizes: Sequence[int], tumour: np.ndarray, whole: Sequence[bool]) -> Slices:
    """Patients A, B, ... with so many slices each."""
    patient = np.repeat(np.arange(len(sizes)), sizes)
    return Slices(
        index=np.arange(len(patient), dtype=np.int64),
        patient=patient.astype(np.int32),
        number=np.concatenate([np.arange(n) for n in sizes]).astype(np.int32),
        patients=np.array([chr(ord("A") + p) for p in range(len(sizes))]),
        whole=np.array(whole),
        tumour=tumour,
    )


def tally_of(
    prediction: np.ndarray,
    truth: np.ndarray,
    sizes: Sequence[int],
    whole: Sequence[bool] | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> SegmentationTally:
    """The tally of label maps uint8[N, H, W] of patients with `sizes` slices."""
    slices = slices_of(sizes, truth.any(axis=(1, 2)), whole or [True] * len(sizes))
    batches, size = [], 4
    for start in range(0, len(truth), size):
        rows = np.arange(start, start + size)
        valid = rows < len(truth)
        rows = np.where(valid, rows, 0)
        batches.append((prediction[rows], truth[rows], valid))
    spacing = np.tile(np.float32(spacing_mm), (len(sizes), 1))
    return tally_segmentation(iter(batches), slices, truth.shape[1:], spacing, 1.0)


def two_patients() -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """(prediction, truth, slices of each patient), uint8[5, 8, 8].

    A, three slices: nothing; ED 4x4 found whole; NCR 2x2 inside ED 4x4, NCR missed as ED.
    B, two slices: nothing, and nothing but an invented ET of one pixel.
    """
    truth = np.zeros((5, 8, 8), np.uint8)
    truth[1:3, 2:6, 2:6] = 2
    truth[2, 3:5, 3:5] = 1
    prediction = truth.copy()
    prediction[2, 3:5, 3:5] = 2
    prediction[4, 0, 0] = 3
    return prediction, truth, (3, 2)


def evaluation_of(fold, rows, of_set="test"):
    """The evaluation of a fold with these rows."""
    return Evaluation(
        fold=fold,
        set=of_set,
        slices="all",
        split_by="patient",
        patients=2,
        inputs=("t1", "t1gd"),
        target="flair",
        loss="dice_ce",
        ssl=True,
        tolerance_mm=1.0,
        checkpoints={"segment": EvaluatedCheckpoint(5, 1, 0.5)},
        rows=tuple(rows),
    )


def evaluated_run(folder):
    """Two of three folds evaluated; the second finds everything."""
    run = RunFolder(folder)
    prediction, truth, sizes = two_patients()
    for fold, predicted in ((0, prediction), (2, truth)):
        rows = rows_of("segment", scores_of(tally_of(predicted, truth, sizes)))
        evaluation_of(fold, rows).write(run.fold(fold).evaluation_json)
    return run
