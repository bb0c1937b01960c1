"""Rows and tables of an evaluation: every number follows from the slices."""

import csv

import numpy as np
import pytest
from tally_examples import tally_of, two_patients

from brats_jax.data.modalities import CLASSES
from brats_jax.evaluation import rows
from brats_jax.evaluation.conventions import scores_of
from brats_jax.evaluation.rows import find_row
from brats_jax.runs.folder import FoldFolder

pytestmark = pytest.mark.usefixtures("shallow")


def test_printed_means_are_those_of_the_table_of_slices(finished):
    workdir, _, summary = finished
    with (workdir / "fold_0" / "evaluation_segment.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows_over_all = [r for r in summary.rows if r.over == "all slices"]
    printed = {
        (r.of, r.metric, r.convention): r
        for r in rows_over_all
        if r.stage in ("pretrain", "segment")
    }
    for name in CLASSES:
        tp, fp, fn = (np.array([int(r[f"{name} {x}"]) for r in rows]) for x in ("tp", "fp", "fn"))
        present = tp + fp + fn > 0
        dice = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
        assert printed[name, "dice", "paper"].mean == pytest.approx(dice.mean())
        row = printed[name, "dice", "present_only"]
        assert row.count == present.sum()
        if present.any():
            assert row.mean == pytest.approx(dice[present].mean())
        both = np.where(present, dice, 1).mean()
        assert printed[name, "dice", "both_empty_1"].mean == pytest.approx(both)
        distances = [float(r[f"{name} asd_mm"]) for r in rows if r[f"{name} asd_mm"]]
        assert printed[name, "asd_mm", "both_present"].count == len(distances)
    with (workdir / "fold_0" / "evaluation_pretrain.csv").open() as file:
        ssim = [float(r["slice ssim"]) for r in csv.DictReader(file) if r["slice ssim"]]
    assert printed["slice", "ssim", "target range"].mean == pytest.approx(np.mean(ssim), abs=1e-5)


def test_the_dice_of_a_volume_is_that_of_its_slices_counts(finished):
    workdir, _, summary = finished
    with (workdir / "fold_0" / "evaluation_segment.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (workdir / "fold_0" / "evaluation_segment_patients.csv").open() as file:
        (patient,) = csv.DictReader(file)
    tp, fp, fn = (sum(int(r[f"WT {x}"]) for r in rows) for x in ("tp", "fp", "fn"))
    expected = 2 * tp / (2 * tp + fp + fn)
    assert float(patient["WT dice (brats2020)"]) == pytest.approx(expected, rel=1e-5)
    found = find_row(summary.rows, over="volumes", of="WT", metric="dice", convention="brats2020")
    assert found.mean == pytest.approx(expected) and found.count == 1


def test_an_old_table_of_volumes_is_removed(tmp_path):
    """As when all slices were evaluated before, and now tumour slices only."""
    prediction, truth, sizes = two_patients()
    for whole in (True, False):
        tally = tally_of(prediction, truth, sizes, whole=[whole, whole])
        rows.write_unit_tables(FoldFolder(tmp_path), "segment", tally, scores_of(tally))
        assert (tmp_path / "evaluation_segment_patients.csv").exists() == whole
    assert (tmp_path / "evaluation_segment.csv").exists()


def test_the_foreground_mean_is_over_the_classes_that_have_a_dice():
    """NCR/NET 0, ED (1 + 24/28) / 2, ET 0 (present only); without ET where it is undefined."""
    prediction, truth, sizes = two_patients()
    table = rows.rows_of("segment", scores_of(tally_of(prediction, truth, sizes)))
    ed = (1 + 24 / 28) / 2
    for over, expected in (("all slices", ed / 3), ("tumour slices", ed / 2)):
        found = find_row(
            table, over=over, of=rows.MEAN_FOREGROUND, metric="dice", convention="present_only"
        )
        assert found.mean == pytest.approx(expected)
    undefined = find_row(table, over="tumour slices", of="ET", convention="present_only")
    assert (undefined.mean, undefined.count) == (None, 0)


def test_undefined_numbers_are_empty_cells(tmp_path):
    prediction, truth, sizes = two_patients()
    tally = tally_of(prediction, truth, sizes)
    rows.write_unit_tables(FoldFolder(tmp_path), "segment", tally, scores_of(tally))
    with (tmp_path / "evaluation_segment.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(r["patient"], r["slice"]) for r in table] == [
        ("A", "0"),
        ("A", "1"),
        ("A", "2"),
        ("B", "0"),
        ("B", "1"),
    ]
    assert [r["ED dice"] for r in table] == ["", "1", "0.857143", "", ""]
    with (tmp_path / "evaluation_segment_patients.csv").open() as file:
        volumes = list(csv.DictReader(file))
    assert [r["ED dice (present_only)"] for r in volumes] == ["0.933333", ""]
    assert [r["ED dice (brats2020)"] for r in volumes] == ["0.933333", "1"]
