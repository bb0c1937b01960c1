"""The table of pretrainings beside what needs no network."""

import math

from report_examples import write_run

from brats_jax.reporting.arms import collect
from brats_jax.reporting.read_runs import discover
from brats_jax.reporting.tables import paper_tables
from brats_jax.reporting.tables.yardstick_tables import comparison_table, yardstick_table
from brats_jax.reporting.yardsticks import compare_with_yardsticks


def test_every_region_has_network_regression_and_mean(results):
    table = yardstick_table(results)
    places = list(dict.fromkeys((row[0].text, row[1].text) for row in table.rows))
    assert places == [
        *(("brain", "all slices"), ("brain", "tumour slices")),
        *(("slice", "all slices"), ("slice", "tumour slices"), ("tumour", "tumour slices")),
    ]
    rows = {(row[0].text, row[2].text): row for row in table.rows}
    assert list(rows) == [
        (region, name)
        for region in ("brain", "slice", "tumour")
        for name in ("pretraining", "regression", "mean")
    ]
    assert rows["brain", "regression"][3].text == "0.0600"
    assert rows["brain", "regression"][4].text == "1.00"
    assert rows["brain", "pretraining"][4].text == "0.67"
    assert "FLAIR = a linear combination of 1, T1, T1Gd, " in table.caption


def test_pretrainings_with_other_settings_share_the_yardsticks(tmp_path):
    write_run(tmp_path / "a", stages=("pretrain",))
    write_run(tmp_path / "b", stages=("pretrain",), settings={"pretrain.epochs": 7}, seed=1)
    table = yardstick_table(collect(discover(tmp_path)))
    brain = [
        row[2].text for row in table.rows if (row[0].text, row[1].text) == ("brain", "all slices")
    ]
    assert brain == ["pretrain.epochs = 30", "pretrain.epochs = 7", "regression", "mean"]


def test_the_comparison_has_a_row_for_each_yardstick_and_region(results):
    table = comparison_table(compare_with_yardsticks(results))
    assert [row[0].text + " " + row[2].text for row in table.rows] == [
        f"{region} {name}"
        for name in ("regression", "mean")
        for region in ("brain", "slice", "tumour")
    ]
    brain = table.rows[0]
    regression, pretraining, difference, low, high = (cell.value for cell in brain[5:10])
    assert abs(pretraining - 0.04) < 1e-3 and abs(regression - 0.06) < 1e-3
    assert abs(difference - (pretraining - regression)) < 1e-9
    assert math.isnan(low) and math.isnan(high)  # of four patients


def test_enough_patients_have_an_interval(tmp_path):
    results = collect(discover(write_run(tmp_path / "run", stages=("pretrain",), patients=8)))
    table = comparison_table(compare_with_yardsticks(results))
    difference, low, high = (cell.value for cell in table.rows[0][7:10])
    assert low <= difference <= high and "Intervals of 95 %" in table.caption


def test_table_1_has_rows_that_need_no_network(results, tmp_path):
    table, _ = paper_tables.pretraining_tables(results.evaluated("pretrain"), "")
    rows = {row[0].text: row for row in table.rows}
    assert rows["MSE, regression"][1].text == "0.0600"
    assert rows["SSIM, regression"][1].text == "0.857"
    assert not rows["MSE, regression"][-1].text  # the paper has no such number
    assert "9 numbers" in table.caption and "this data set" in table.caption
    earlier = collect(discover(write_run(tmp_path / "run", regression=None)))
    (plain, _) = paper_tables.pretraining_tables(earlier.evaluated("pretrain"), "")
    assert [row[0].text for row in plain.rows] == ["MSE", "PSNR (dB)", "SSIM"]
