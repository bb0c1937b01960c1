"""Runs with the same splits, scored alone and averaged, on the patients that none has trained on.

For each fold, the network that each run trained for this fold predicts the fold's test patients. A
run reads them from its own store, in slices of its own plane. A run that was trained on several
planes can take part once for each plane. All predictions are scored in axial slices.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from brats_jax.data.planes import to_axial
from brats_jax.data.splits import Splits, fold_split
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.calibration import opened_data
from brats_jax.evaluation.over_planes import decided, modalities_of
from brats_jax.evaluation.scoring import tally_segmentation
from brats_jax.evaluation.slices import air_in
from brats_jax.evaluation.tallies import SegmentationTally, Slices
from brats_jax.inference.ensemble import Ensemble
from brats_jax.inference.several_runs import averaged_model, with_planes
from brats_jax.inference.trained_run import TrainedRun, open_run
from brats_jax.runs.folder import RunFolder

MEAN = "mean of all"
_SLICES_AT_ONCE = 8


@dataclass(frozen=True)
class RunToScore:
    """A run, opened, with the data that it was trained on.

    Attributes:
      plane: of the slices that it predicts.
      name: of the run, with the plane where the run takes part once for each.
    """

    trained: TrainedRun
    store: Store
    splits: Splits
    plane: str
    name: str


def open_runs(paths: Sequence[RunFolder], mesh: Mesh, planes: str = "") -> list[RunToScore]:
    """Opens the second stage of runs that were trained on the same splits.

    Args:
      paths: the runs.
      mesh: the devices.
      planes: in which each run predicts, as in `open_models`; '' for the first of its training.

    Raises:
      BratsError: only one run with one plane, another store than that of a training, other splits,
        a split by slice or none, or networks that cannot be averaged.
    """
    opened, runs = [], []
    for folder in paths:
        trained = with_planes(open_run(folder.path, "segment", mesh), planes)
        runs.append(trained)
        store, splits = opened_data(trained, None)
        for plane in trained.planes:
            name = str(folder.path) + f" ({plane})" * (len(trained.planes) > 1)
            opened.append(RunToScore(trained, store, splits, plane, name))
    if len(opened) < 2:
        raise BratsError("give two runs or more to average, or several planes of one")
    first = opened[0]
    for one in opened:
        if one.splits.digest != first.splits.digest:
            raise BratsError(
                f"{one.trained.run} was trained on other splits than {first.trained.run}: a "
                "patient that one has not seen is in the other's training; train both with the "
                "same patients and settings of config.data"
            )
        if one.splits.split_by != "patient" or one.splits.all_train:
            raise BratsError(
                f"{one.trained.run} holds out no patients: it was trained on all, or by slice"
            )
    averaged_model(runs)  # refuses what cannot be averaged
    return opened


def common_folds(runs: Sequence[RunToScore]) -> list[int]:
    """The folds that all runs have trained to the end.

    Raises:
      BratsError: there is none.
    """
    folds = [{member.fold for member in one.trained.members} for one in runs]
    found = sorted(set.intersection(*folds))
    if not found:
        raise BratsError("the runs have no complete fold in common: train the same config.folds")
    return found


class FoldLabels(NamedTuple):
    """True and predicted labels uint8[S, H, W] of a fold's test patients, in axial slices.

    Attributes:
      patients: their names, in the order of everything else.
      spacing_mm: of their voxels: height, width, between slices.
      truths: a volume for each patient.
      predicted: by run, and of the mean of all runs, a volume for each patient.
      air: bool[S, H, W] for each patient.
    """

    patients: tuple[str, ...]
    spacing_mm: tuple[tuple[float, float, float], ...]
    truths: tuple[np.ndarray, ...]
    predicted: Mapping[str, tuple[np.ndarray, ...]]
    air: tuple[np.ndarray, ...]


def predict(runs: Sequence[RunToScore], fold: int, *, tta: bool) -> FoldLabels:
    """Predicts a fold's test patients with each run's network of this fold, and with their mean.

    Args:
      runs: of `open_runs`.
      fold: number of the fold.
      tta: average over flips as well.

    Raises:
      BratsError: the stores differ in a patient's labels or size; no whole test volume of a patient
        with the modalities that all runs need.
    """
    each = [
        Ensemble([m for m in one.trained.members if m.fold == fold], flips=tta, plane=one.plane)
        for one in runs
    ]
    first = runs[0]
    test = fold_split(first.splits, first.store, fold).test
    testable = set.intersection(*(_testable(one) for one in runs))
    numbers = np.unique(first.store.patient_of[test]).tolist()
    patients = [name for p in numbers if (name := first.store.patients[p]) in testable]
    if not patients:
        raise BratsError(
            f"fold {fold}: no whole volume with labels, and with the modalities that all runs "
            "need, in the test set"
        )
    channels = each[0].members[0].network.channels
    truths: list[np.ndarray] = []
    airs: list[np.ndarray] = []
    labels: dict[str, list[np.ndarray]] = {name: [] for name in (*(r.name for r in runs), MEAN)}
    for patient in patients:
        total, truth = None, None
        for one, ensemble in zip(runs, each, strict=True):
            images, own, air = _volume(one.store, patient)
            if truth is not None and not np.array_equal(own, truth):
                raise BratsError(
                    f"{one.store.path} has other labels of {patient} than {first.store.path}: "
                    "prepare both from the same files"
                )
            truth = own
            mean, _ = ensemble.mean_outputs(images, modalities_of(one.store, patient))
            labels[one.name].append(decided(channels, mean))
            total = mean if total is None else total + mean
        assert total is not None and truth is not None
        total /= len(each)
        labels[MEAN].append(decided(channels, total))
        truths.append(truth)
        airs.append(air)  # that of any run: they are of the same files
    return FoldLabels(
        patients=tuple(patients),
        spacing_mm=tuple(_spacing_mm(first.store, name) for name in patients),
        truths=tuple(truths),
        predicted={name: tuple(volumes) for name, volumes in labels.items()},
        air=tuple(airs),
    )


def tally(found: FoldLabels, *, tolerance_mm: float) -> dict[str, SegmentationTally]:
    """The tallies of the predictions, by run and of the mean of all.

    Args:
      found: of `predict`.
      tolerance_mm: boundary pixels nearer than this count as found (NSD).
    """
    of_all = _slices(found.patients, found.truths)
    return {
        name: tally_segmentation(
            _batches(predicted, found.truths),
            of_all,
            found.truths[0].shape[1:],
            np.array(found.spacing_mm, np.float32),
            tolerance_mm,
        )
        for name, predicted in found.predicted.items()
    }


def _testable(one: RunToScore) -> set[str]:
    """The patients that a run can be tested on, by labels, slices and modalities."""
    store, task = one.store, one.trained.task
    usable = store.whole & store.labelled & task.testable(store.present)
    return {name for name, counts in zip(store.patients, usable, strict=True) if counts}


def _spacing_mm(store: Store, patient: str) -> tuple[float, float, float]:
    """Voxel size along height, width and slices of axial slices; 1 mm where the source has none."""
    height, width, between = store.case(patient).spacing_mm or (1.0, 1.0, 1.0)
    return height, width, between


def _volume(store: Store, patient: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A patient in axial slices.

    Returns:
      (float16[S, H, W, 4], uint8[S, H, W], bool[S, H, W]): images, labels and air.
    """
    slices = np.array(store.slices_of(patient))
    images, labels = store.read(slices)
    air = air_in(store, slices, images)
    return to_axial(images, store.plane), to_axial(labels, store.plane), to_axial(air, store.plane)


def _slices(patients: Sequence[str], truths: Sequence[np.ndarray]) -> Slices:
    """All axial slices of whole volumes."""
    depths = [len(truth) for truth in truths]
    return Slices(
        index=np.arange(sum(depths), dtype=np.int64),
        patient=np.repeat(np.arange(len(depths), dtype=np.int32), depths),
        number=np.concatenate([np.arange(depth, dtype=np.int32) for depth in depths]),
        patients=np.array(patients),
        whole=np.ones(len(depths), bool),
        tumour=np.concatenate([truth.any(axis=(1, 2)) for truth in truths]),
        holes=np.zeros(len(depths), bool),
    )


def _batches(
    found: Sequence[np.ndarray], truths: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(prediction, truth, valid) of a few slices at a time; the last batch of each is filled up."""
    for prediction, truth in zip(found, truths, strict=True):
        for start in range(0, len(truth), _SLICES_AT_ONCE):
            at = np.arange(start, min(start + _SLICES_AT_ONCE, len(truth)))
            filled = np.resize(at, _SLICES_AT_ONCE)
            yield prediction[filled], truth[filled], np.arange(_SLICES_AT_ONCE) < len(at)
