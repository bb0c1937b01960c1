"""Dice under every convention side by side, and every boundary and voxel metric."""

import dataclasses
from collections.abc import Iterator, Sequence

from brats_jax.data.modalities import CLASSES, LABEL_SETS, REGIONS
from brats_jax.evaluation.rows import MEAN_FOREGROUND
from brats_jax.reporting import captions
from brats_jax.reporting.arms import LOSS_NAMES, Arm, Key, Results
from brats_jax.reporting.averages import mean_over_folds
from brats_jax.reporting.tables.average_cells import (
    ABSENCE_NOTE,
    COUNT_NOTE,
    absence_cells,
    average_cell,
)
from brats_jax.reporting.tables.table import Column, Table, TableCell, make_table, number, text
from brats_jax.runtime.text import joined

TUMOUR_REGIONS = tuple(dict.fromkeys((*REGIONS, *CLASSES[1:])))
ALL, TUMOUR = "all slices", "tumour slices"

# (shared head, head, unit, over, metric, convention, digits), from left to right.
_Variant = tuple[str, str, str, str, str, str, int]
DICE: tuple[_Variant, ...] = (
    ("by slice, all slices", "paper", "slice", ALL, "dice", "paper", 3),
    ("by slice, all slices", "present only", "slice", ALL, "dice", "present_only", 3),
    ("by slice, all slices", "both empty 1", "slice", ALL, "dice", "both_empty_1", 3),
    ("by slice, tumour slices", "paper", "slice", TUMOUR, "dice", "paper", 3),
    ("by slice, tumour slices", "present only", "slice", TUMOUR, "dice", "present_only", 3),
    ("by slice, tumour slices", "both empty 1", "slice", TUMOUR, "dice", "both_empty_1", 3),
    ("by patient, 3D", "present only", "patient", "volumes", "dice", "present_only", 3),
    ("by patient, 3D", "BraTS 2020, 2023", "patient", "volumes", "dice", "brats2020", 3),
    ("by patient, 3D", "2023 lesion-wise", "patient", "volumes", "lesion_dice", "brats2023", 3),
)
VOLUMES: tuple[_Variant, ...] = (
    ("HD95 (mm)", "present only", "patient", "volumes", "hd95_mm", "present_only", 2),
    ("HD95 (mm)", "BraTS 2020", "patient", "volumes", "hd95_mm", "brats2020", 2),
    ("HD95 (mm)", "BraTS 2023", "patient", "volumes", "hd95_mm", "brats2023", 2),
    ("HD95 (mm)", "2023 lesion-wise", "patient", "volumes", "lesion_hd95_mm", "brats2023", 2),
    ("ASD (mm)", "pooled", "patient", "volumes", "asd_mm", "both_present", 2),
    ("ASD (mm)", "pooled, with penalty", "patient", "volumes", "asd_mm", "penalised", 2),
    ("ASD (mm)", "averaged", "patient", "volumes", "asd_averaged_mm", "both_present", 2),
    ("ASD (mm)", "to truth", "patient", "volumes", "asd_pred_to_gt_mm", "both_present", 2),
    ("ASD (mm)", "to prediction", "patient", "volumes", "asd_gt_to_pred_mm", "both_present", 2),
    ("NSD", "voxels", "patient", "volumes", "nsd", "present_only", 3),
    ("NSD", "area", "patient", "volumes", "nsd_area", "present_only", 3),
    ("Sensitivity", "present only", "patient", "volumes", "sensitivity", "present_only", 3),
    ("Sensitivity", "BraTS 2023", "patient", "volumes", "sensitivity", "brats2023", 3),
    ("", "Specificity", "patient", "volumes", "specificity", "", 4),
)
SLICES: tuple[_Variant, ...] = (
    ("", "HD95 (mm)", "slice", ALL, "hd95_mm", "both_present", 2),
    ("", "HD95 with penalty (mm)", "slice", ALL, "hd95_mm", "penalised", 2),
    ("ASD (mm)", "pooled (paper)", "slice", ALL, "asd_mm", "both_present", 2),
    ("ASD (mm)", "pooled, with penalty", "slice", ALL, "asd_mm", "penalised", 2),
    ("ASD (mm)", "averaged", "slice", ALL, "asd_averaged_mm", "both_present", 2),
    ("ASD (mm)", "to truth", "slice", ALL, "asd_pred_to_gt_mm", "both_present", 2),
    ("ASD (mm)", "to prediction", "slice", ALL, "asd_gt_to_pred_mm", "both_present", 2),
    ("", "NSD", "slice", ALL, "nsd", "present_only", 3),
    ("", "Sensitivity", "slice", ALL, "sensitivity", "present_only", 3),
    ("", "Specificity", "slice", ALL, "specificity", "", 4),
)
# Conventions that give every slice, or every patient, a number.
EVERY_UNIT = ("paper", "both_empty_1", "brats2020", "brats2023", "")
DICE_NOTE = (
    "Dice of a region that is in neither mask: 0 (paper), left out (present only), 1 (both empty "
    "1). {volumes}In brackets: number of slices or patients averaged in a training, where some are "
    "left out. A footnote names the trainings without a value"
)
VOLUME_DICE_NOTE = (
    "BraTS 2020 and 2023: 1 for a region in neither mask, 0 for a region in one mask only. "
    "Lesion-wise (BraTS 2023): mean over the lesions, 0 for a missed or false-positive lesion; "
    "WT, TC and ET only. A false-positive lesion of few voxels counts as much as the tumour, so "
    "that the mean can be far below the Dice of the volume. "
)
HD95_NOTE = (
    "HD95: 95th percentile of the distances between boundary {unit}s, both directions pooled"
)
VOLUME_HD95_NOTE = (
    f"{HD95_NOTE.format(unit='voxel')}. Present only: where both masks hold the region. BraTS "
    "2020: 0 mm for a region in neither mask, 373.13 mm for a region in one mask only. BraTS 2023: "
    "0 mm and 374 mm; otherwise as in that challenge's script (DeepMind's surface-distance): the "
    "boundary runs between voxels, its parts are weighted by area, and the larger of the two "
    "directed percentiles counts. Lesion-wise: mean over the lesions, 374 mm for a missed or "
    "false-positive lesion"
)
SLICE_HD95_NOTE = f"{HD95_NOTE.format(unit='pixel')}, where both masks hold the region"
VOLUME_NSD_NOTE = (
    "NSD: share of both boundaries within {tolerance} mm of the other, by boundary voxels (MONAI) "
    "and by area (DeepMind). Sensitivity to a region that the truth does not hold: left out "
    "(present only); 1 if nothing was predicted, otherwise 0 (BraTS 2023)"
)
SLICE_NSD_NOTE = (
    "NSD: share of both boundaries within {tolerance} mm of the other, by boundary pixels"
)
DISTANCE_NOTE = (
    "{hd95}. ASD, where both masks hold the region: pooled over both boundaries as in the paper; "
    "averaged: mean of the two directed means (medpy up to 0.4); to truth: from the predicted "
    "boundary only; to prediction: from the true boundary only. {nsd}. {absences}. {counts}"
)


def ceiling_table(results: Results) -> Table | None:
    """The largest possible Dice under the paper's convention, and the best Dice of the arms."""
    groups = results.evaluated()
    if not captions.all_slices(groups):
        return None
    in_space = any(key[1] == "volumes" for one in groups for key in one.rows)
    rows = []
    for of in tuple(LABEL_SETS)[1:]:  # all but the background
        cells = [text(of), average_cell(groups, ("slice", ALL, of, "in_truth", ""), 3)]
        for rule in ("paper", "present_only", "both_empty_1"):
            cells.append(number(best(results, ("slice", ALL, of, "dice", rule)), 3))
        if in_space:
            volume = best(results, ("patient", "volumes", of, "dice", "brats2020"))
            cells.append(number(volume, 3))
        rows.append(cells)
    return make_table(
        "ceiling",
        "",
        "Largest possible Dice under the paper's convention, and Dice under the others",
        "Largest possible: share of the slices (their number in brackets) whose truth holds the "
        "region. Under the paper's convention every other slice counts 0, so this share is the "
        "Dice of a perfect segmentation. Beside it: the largest mean Dice of any arm under each "
        "convention. " + captions.over(groups),
        [
            Column("Region", words=True),
            Column("Largest possible by the paper's convention"),
            Column("paper", "Best mean Dice, by slice"),
            Column("present only", "Best mean Dice, by slice"),
            Column("both empty 1", "Best mean Dice, by slice"),
            *([Column("by patient, 3D (BraTS 2020)")] if in_space else []),
        ],
        rows,
    )


def best(results: Results, key: Key) -> float:
    """The largest mean of any arm; NaN if no arm has the number."""
    means = [mean_over_folds(group, key)[0] for group in results.arms.values()]
    return max((m for m in means if m == m), default=float("nan"))


def convention_tables(results: Results, loss: str) -> Iterator[Table]:
    """The tables of one loss: Dice, then the other metrics by patient and by slice."""
    arms = [arm for arm in results.arms if arm.loss == loss]
    # Smaller shares of the labels are in the table of label fractions.
    arms = [arm for arm in arms if arm.fraction == max(a.fraction for a in arms)]
    name = LOSS_NAMES.get(loss, loss)
    group = [one for arm in arms for one in results.arms[arm]]
    tolerance = joined(sorted({f"{one.evaluation.tolerance_mm:g}" for one in group}), "or")
    in_space = any(key[1] == "volumes" for one in group for key in one.rows)
    dice_note = DICE_NOTE.format(volumes=VOLUME_DICE_NOTE if in_space else "")
    plans = (
        ("dice", f"Dice under every convention, {name}", DICE, dice_note, False),
        (
            "volumes",
            f"Boundaries and voxels by patient in 3D, {name}",
            VOLUMES,
            DISTANCE_NOTE.format(
                hd95=VOLUME_HD95_NOTE,
                nsd=VOLUME_NSD_NOTE.format(tolerance=tolerance),
                absences=ABSENCE_NOTE.format(unit="patient"),
                counts=COUNT_NOTE.format(unit="patient"),
            ),
            False,
        ),
        (
            "slices",
            f"Boundaries and pixels by slice, {name}",
            SLICES,
            DISTANCE_NOTE.format(
                hd95=SLICE_HD95_NOTE,
                nsd=SLICE_NSD_NOTE.format(tolerance=tolerance),
                absences=ABSENCE_NOTE.format(unit="slice"),
                counts=COUNT_NOTE.format(unit="slice"),
            ),
            True,
        ),
    )
    for kind, title, variants, note, detail in plans:
        regions = (*TUMOUR_REGIONS, MEAN_FOREGROUND) if kind == "dice" else TUMOUR_REGIONS
        present = [v for v in variants if _there(results, arms, regions, v)]
        if kind == "dice" and not captions.all_slices(group):
            # Only tumour slices were evaluated: "all slices" would be the same columns again.
            present = [v for v in present if v[3] != ALL]
        if not present:
            continue
        unit, over = present[0][2:4]
        absent = kind != "dice"
        rows = []
        for of in regions:
            for arm in arms:
                trainings = captions.trainings(results.arms[arm])
                row = [text(of), text(arm.start), text(trainings)]
                if absent:
                    row += absence_cells(results.arms[arm], (unit, over, of, "", ""))
                rows.append([*row, *_cells(results, arm, of, present)])
        columns = [Column(head, words=True) for head in ("Region", "Start", "Trainings")]
        if absent:
            columns += [Column("Missed"), Column("Invented")]
        columns += [Column(head, shared) for shared, head, *_ in present]
        table = make_table(
            f"{kind}_{loss}",
            "",
            title,
            f"{note}. {captions.over(group)}",
            columns,
            rows,
            detail,
        )
        if table is not None:
            yield table


def _key(variant: _Variant, of: str) -> Key:
    _, _, unit, over, metric, convention, _ = variant
    return (unit, over, of, metric, convention)


def _there(results: Results, arms: Sequence[Arm], regions: Sequence[str], v: _Variant) -> bool:
    return any(_key(v, of) in one.rows for a in arms for one in results.arms[a] for of in regions)


def _cells(results: Results, arm: Arm, of: str, variants: Sequence[_Variant]) -> list[TableCell]:
    cells = []
    for variant in variants:
        key, group = _key(variant, of), results.arms[arm]
        if not any(key in one.rows for one in group):
            cells.append(TableCell(""))
            continue
        cell = average_cell(group, key, variant[-1], counted=variant[5] not in EVERY_UNIT)
        if of == MEAN_FOREGROUND:  # over three means, which have no common count
            cell = dataclasses.replace(cell, count=None, least=None, of=None)
        cells.append(cell)
    return cells
