"""Fits the sizes of the cleaning of labels on held-out patients, and scores them.

    sizes = argmax over (c, e) of  mean over patients of (Dice_WT + Dice_TC + Dice_ET) / 3

with c in `COMPONENTS_MM3` and e in `ET_MM3` (see `inference.postprocess.Cleaning`). Tumour in air
is removed first, which needs no fit: no image shows anything there. The Dice is that of whole
volumes, empty regions as in BraTS 2020. Each patient is predicted by the networks, one at a time,
that were not trained on it.

A run with a test set fits on the validation patients of all folds and scores the test set. A
cross-validation fits on all patients; its scores are nested: the patients of a fold are cleaned
with the sizes that fit those of the other folds.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from brats_jax.data.modalities import CLASSES, REGIONS
from brats_jax.errors import BratsError
from brats_jax.evaluation.calibration import opened_data
from brats_jax.evaluation.held_out_patients import (
    HeldOutPatients,
    PackedVolume,
    Volume,
    average_of,
)
from brats_jax.inference.postprocess import Cleaning, remove_in_air, tumour_components
from brats_jax.inference.trained_run import EnsembleMember, TrainedRun
from brats_jax.metrics import overlap, surface
from brats_jax.runs.averaged_label import average_flags, averaged_label
from brats_jax.runs.documents import CROSS_VALIDATION, TEST_SET
from brats_jax.runs.documents.cleaning import (
    INVENTED_ET_ML,
    CleanedFold,
    CleanedScores,
    FittedCleaning,
    FittedSizes,
)
from brats_jax.runtime.own_files import check_own_document
from brats_jax.runtime.text import plural

# The sizes that are tried. The largest component, 5 ml, is below most tumours.
COMPONENTS_MM3 = (0.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
ET_MM3 = (0.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
# Larger sizes must raise the mean Dice by more than this.
LEAST_GAIN = 0.001

_NCR, _ET = CLASSES.index("NCR/NET"), CLASSES.index("ET")
_RULE = "brats2020"


class VolumeScores(NamedTuple):
    """Dice and HD95 in mm of a volume, in the order of `REGIONS`, and its predicted ET in ml."""

    dice: np.ndarray
    hd95_mm: np.ndarray
    et_ml: float


class ScoresBeforeAndAfter(NamedTuple):
    """Scores of a volume without and with cleaning, and whether its truth has ET."""

    before: VolumeScores
    after: VolumeScores
    has_et: bool


def fit_cleaning(
    trained: TrainedRun,
    store: str | None,
    batch_size: int,
    *,
    planes: str | Sequence[str] | None = None,
    tta: bool | None = None,
) -> Iterator[str]:
    """Fits the sizes of a run, scores them and writes them; yields lines for the user.

    Args:
      trained: all folds of a segmentation.
      store: path of the store; None for the path in the run's settings.
      batch_size: slices at a time; rounded up to a multiple of the number of devices.
      planes, tta: average over slices of these planes, and over flips, as `predict` does; None:
        as in config.evaluation of the run.

    Raises:
      BratsError: as `opened_data`; planes that the run was not trained on; no patient is held out,
        or none with a whole volume; or a file of sizes that this program did not write, or that
        was edited since.
    """
    data, splits = opened_data(trained, store)
    if splits.all_train:
        raise BratsError(
            f"{trained.run} was trained on all patients (config.folds=all): none is held out to "
            "fit sizes to; cross-validate the same settings (config.data.test_fraction=0) in "
            "another --workdir, calibrate that run with --cleaning, and export this one with "
            "--scores=THAT_RUN"
        )
    if splits.split_by != "patient":
        raise BratsError(
            f"{trained.run} was split by slice: no whole volume is held out to fit sizes to; "
            "calibrate a run with config.data.split_by=patient"
        )
    if splits.cross_validates and len(trained.members) < 2:
        raise BratsError(
            f"{trained.run} has one trained fold of a cross-validation: sizes are scored on the "
            "patients of other folds than they are fitted to; train two folds at least"
        )
    average = average_of(trained, planes, tta)
    check_own_document(average.path, FittedCleaning, "move it away, and calibrate again")
    held_out = HeldOutPatients(trained, data, splits, batch_size, average)
    made = _cross_validated(held_out) if splits.cross_validates else _on_test_set(held_out)
    made.write(average.path)
    yield from _lines(made)
    flags = average_flags(average.tta, average.planes, trained.record.planes)
    predict = f"predict {flags}".rstrip()
    yield (
        f"written to {average.path}; {predict} uses it (--min_component_mm3=0 --min_et_mm3=0 "
        "switches it off)"
    )


def dice_table(volume: Volume) -> np.ndarray:
    """Dice of a volume after every cleaning: float64[components, ET, regions].

    All of them remove tumour in air. The components are found once. The counts after a cleaning
    are the sum of the joint histograms of the components that stay.
    """
    classes = len(CLASSES)
    in_truth = np.bincount(volume.truth.ravel(), minlength=classes)
    prediction = remove_in_air(volume.prediction, volume.air)
    # [component, predicted, true] in voxels
    joint, voxels = np.zeros((0, classes, classes), np.int64), np.zeros(0, np.int64)
    if found := tumour_components(prediction):
        here = found.numbers > 0
        pairs = prediction[found.box][here].astype(np.int64) * classes
        pairs += volume.truth[found.box][here]
        component = found.numbers[here].astype(np.int64) - 1
        voxels = found.voxels[1:]
        joint = np.bincount(
            component * classes**2 + pairs, minlength=len(voxels) * classes**2
        ).reshape(-1, classes, classes)
    counts = np.zeros((len(COMPONENTS_MM3), len(ET_MM3), len(REGIONS), 3), np.int64)
    for c, min_component_mm3 in enumerate(COMPONENTS_MM3):
        kept = joint[voxels >= min_component_mm3 / volume.voxel_mm3].sum(axis=0)
        for e, min_et_mm3 in enumerate(ET_MM3):
            cleaned = kept.copy()
            if kept[_ET].sum() < min_et_mm3 / volume.voxel_mm3:
                cleaned[_NCR] += cleaned[_ET]
                cleaned[_ET] = 0
            for r, labels in enumerate(map(list, REGIONS.values())):
                both = cleaned[np.ix_(labels, labels)].sum()
                predicted, true = cleaned[labels].sum(), in_truth[labels].sum()
                counts[c, e, r] = both, predicted - both, true - both
    return overlap.dice_under(counts, _RULE)


def choose(tables: Sequence[np.ndarray]) -> Cleaning:
    """The cleaning with the highest mean Dice over patients and regions.

    All cleanings whose mean is at most `LEAST_GAIN` below the highest count as equally good. Of
    these, the one with the smallest sum of its two sizes is chosen, then the smallest component.

    Args:
      tables: the `dice_table` of each patient.
    """
    mean = np.mean(tables, axis=(0, -1))
    good = mean >= mean.max() - LEAST_GAIN
    sizes = [
        (component + et, component, et)
        for c, component in enumerate(COMPONENTS_MM3)
        for e, et in enumerate(ET_MM3)
        if good[c, e]
    ]
    _, component, et = min(sizes)
    return Cleaning(component, et, clear_air=True)


def choose_nested(tables: Mapping[int, Sequence[np.ndarray]]) -> dict[int, Cleaning]:
    """For each fold the cleaning that `choose` finds on the patients of all other folds.

    Args:
      tables: by fold, the `dice_table` of each patient; at least two folds.
    """
    return {
        fold: choose([table for other in tables if other != fold for table in tables[other]])
        for fold in tables
    }


def measure(volume: Volume, cleaning: Cleaning) -> ScoresBeforeAndAfter:
    """Scores a volume without and with cleaning."""
    cleaned = cleaning.apply(volume.prediction, volume.voxel_mm3, volume.air)
    before = _scores_of(volume)
    after = before
    if not np.array_equal(cleaned, volume.prediction):
        after = _scores_of(volume._replace(prediction=cleaned))
    return ScoresBeforeAndAfter(before, after, bool((volume.truth == _ET).any()))


def _scores_of(volume: Volume) -> VolumeScores:
    labels = (volume.prediction[None], volume.truth[None])
    regions = tuple(REGIONS.values())
    counts = np.asarray(overlap.region_counts(*labels, regions))[0]
    edges = surface.region_surface_statistics(*labels, regions, volume.spacing_mm)
    hd95 = surface.fill_empty(surface.hd95(edges), edges, _RULE)
    et_ml = int((volume.prediction == _ET).sum()) * volume.voxel_mm3 / 1000
    return VolumeScores(overlap.dice_under(counts, _RULE), np.asarray(hd95, np.float64)[0], et_ml)


def _on_test_set(held_out: HeldOutPatients) -> FittedCleaning:
    trained = held_out.trained
    tables = []
    for member in trained.members:
        held_out.patients(member, "test")  # refused before the long part
        tables += [dice_table(volume) for volume in held_out.volumes(member, "validation")]
    cleaning = choose(tables)
    groups = [
        [measure(volume, cleaning) for volume in held_out.volumes(member, "test")]
        for member in trained.members
    ]
    sizes = _fitted_sizes(held_out, cleaning, len(tables), TEST_SET, groups, len(groups[0]))
    return FittedCleaning(folds=tuple(map(_fold_of, trained.members)), fitted=sizes)


def _cross_validated(held_out: HeldOutPatients) -> FittedCleaning:
    trained = held_out.trained
    tables: dict[int, list[np.ndarray]] = {}
    # The labels of a fold are kept, because its sizes are fitted to all other folds.
    packed: dict[int, list[PackedVolume]] = {}
    for member in trained.members:
        tables[member.fold], packed[member.fold] = [], []
        for volume in held_out.volumes(member, "test"):
            tables[member.fold].append(dice_table(volume))
            packed[member.fold].append(PackedVolume(volume))
    nested = choose_nested(tables)
    pairs = [
        measure(one.unpacked(), nested[fold]) for fold, volumes in packed.items() for one in volumes
    ]
    cleaning = choose([table for own in tables.values() for table in own])
    sizes = _fitted_sizes(held_out, cleaning, len(pairs), CROSS_VALIDATION, [pairs], len(pairs))
    folds = tuple(_fold_of(member, nested[member.fold]) for member in trained.members)
    return FittedCleaning(folds=folds, fitted=sizes)


def _fold_of(member: EnsembleMember, nested: Cleaning | None = None) -> CleanedFold:
    own = (nested.min_component_mm3, nested.min_et_mm3) if nested else (None, None)
    return CleanedFold(member.fold, member.hash, member.network.meta.step, *own)


def _fitted_sizes(
    held_out: HeldOutPatients,
    cleaning: Cleaning,
    patients: int,
    measured_on: str,
    groups: Sequence[Sequence[ScoresBeforeAndAfter]],
    measured_patients: int,
) -> FittedSizes:
    """The sizes and their scores, as cleaning.json has them.

    Args:
      held_out: the patients of the fit.
      cleaning: the chosen sizes.
      patients: the number of patients that they were fitted on.
      measured_on: `TEST_SET` or `CROSS_VALIDATION`.
      groups: the scored volumes; those of each training, or all of a cross-validation.
      measured_patients: the number of scored patients.
    """
    return FittedSizes(
        min_component_mm3=cleaning.min_component_mm3,
        min_et_mm3=cleaning.min_et_mm3,
        patients=patients,
        measured_on=measured_on,
        measured_patients=measured_patients,
        trainings=len(held_out.trained.members),
        without_et=sum(not pair.has_et for group in groups for pair in group),
        before=scores_of_groups([[(p.before, p.has_et) for p in group] for group in groups]),
        after=scores_of_groups([[(p.after, p.has_et) for p in group] for group in groups]),
        tta=held_out.average.tta,
        planes=held_out.average.planes,
        clear_air=cleaning.clear_air,
    )


def scores_of_groups(groups: Sequence[Sequence[tuple[VolumeScores, bool]]]) -> CleanedScores:
    """Mean Dice and median HD95 of each group of volumes; of several groups the means of these.

    Args:
      groups: of each volume its scores, and whether its truth has ET.
    """

    def by_region(values: np.ndarray) -> Mapping[str, float]:
        return dict(zip(REGIONS, values.tolist(), strict=True))

    dice = [np.mean([one.dice for one, _ in group], axis=0) for group in groups]
    hd95 = [np.median([one.hd95_mm for one, _ in group], axis=0) for group in groups]
    return CleanedScores(
        dice=dict(by_region(np.mean(dice, axis=0))),
        hd95_mm=dict(by_region(np.mean(hd95, axis=0))),
        invented_et=sum(
            one.et_ml > INVENTED_ET_ML and not has_et for group in groups for one, has_et in group
        ),
    )


def _lines(made: FittedCleaning) -> Iterator[str]:
    fitted = made.fitted
    sizes = Cleaning(fitted.min_component_mm3, fitted.min_et_mm3)
    averaged = averaged_label(fitted.tta, fitted.planes, ", ")
    yield (
        f"tumour in air is removed; {sizes.describe() or 'no size gains'}; sizes fitted on "
        f"{plural(fitted.patients, 'patient')}, each predicted by a fold that has not trained on "
        f"it{averaged}"
    )
    before, after = fitted.before, fitted.after
    dice = ", ".join(f"{r} {before.dice[r]:.3f} -> {after.dice[r]:.3f}" for r in before.dice)
    hd95 = ", ".join(f"{r} {before.hd95_mm[r]:.1f} -> {after.hd95_mm[r]:.1f}" for r in before.dice)
    patients = plural(fitted.measured_patients, "patient")
    where = f"on {patients} of the test set, mean over {plural(fitted.trainings, 'training')}"
    if fitted.measured_on == CROSS_VALIDATION:
        nested = {(f.min_component_mm3, f.min_et_mm3) for f in made.folds}
        where = f"on {patients}, those of each fold with the sizes that fit the others"
        if nested != {(fitted.min_component_mm3, fitted.min_et_mm3)}:
            each = (f"fold {f.fold} {f.min_component_mm3:g}/{f.min_et_mm3:g}" for f in made.folds)
            yield f"sizes that fit the others (component/ET in mm3): {', '.join(each)}"
    yield f"{where}: mean 3D Dice {dice}; median HD95 in mm {hd95}"
    if fitted.lowers_dice:
        yield (
            "the mean of these Dice is lower with the cleaning: its sizes fit the patients of the "
            "fit alone, perhaps because they are few"
        )
    yield (
        f"more than {INVENTED_ET_ML:g} ml of ET predicted for {before.invented_et} -> "
        f"{after.invented_et} of {fitted.without_et} cases without ET"
    )
