"""Charts of results."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_examples import write_run

from brats_jax.reporting import comparisons
from brats_jax.reporting.arms import Results, collect
from brats_jax.reporting.figures import loss_curves, result_charts
from brats_jax.reporting.figures.figure import BASELINE, SSL
from brats_jax.reporting.figures.result_charts import legend_columns, places_of_shares
from brats_jax.reporting.read_runs import discover
from brats_jax.viewer.slices import CLASS_COLOURS


def test_the_convention_chart_needs_every_slice(results, tmp_path):
    figure = result_charts.convention_figure(results)
    assert figure.name == "conventions" and "no model can exceed" in figure.caption
    write_run(tmp_path / "run", ssl=False, slices="tumour")
    assert result_charts.convention_figure(collect(discover(tmp_path))) is None


def test_the_difference_chart_shows_folds_only_if_there_are_several(results, tmp_path):
    primary = comparisons.primary(results)
    assert "each fold and seed" in result_charts.difference_figure(primary).caption
    for ssl in (True, False):
        write_run(tmp_path / str(ssl), ssl=ssl)
    alone = comparisons.primary(collect(discover(tmp_path)))
    assert "each fold and seed" not in result_charts.difference_figure(alone).caption
    assert result_charts.difference_figure([]) is None


def test_too_few_patients_are_drawn_as_points_without_an_interval(results, tmp_path):
    few = result_charts.difference_figure(comparisons.primary(results))
    assert "interval over" not in few.caption and "such a line has no interval" in few.caption
    for ssl in (True, False):
        write_run(tmp_path / str(ssl), ssl=ssl, patients=8)
    found = comparisons.primary(collect(discover(tmp_path)))
    enough = result_charts.difference_figure(found)
    assert "95 % bootstrap interval" in enough.caption and "Crosses" not in enough.caption
    for c in found:
        assert len(c.differences) == 8
        assert np.mean(c.differences) == pytest.approx(c.result.mean_difference)
    assert b"too few" not in enough.data


def test_the_distribution_chart_counts_patients(results):
    figure = result_charts.distribution_figure(results)
    assert figure.title == "3D Dice of every patient"
    assert "Each point is a patient (4), mean over folds and seeds. Line: median." in figure.caption


def test_many_patients_have_boxes_and_few_a_median(tmp_path):
    for patients in (9, 10):
        write_run(tmp_path / f"{patients}" / "run", ssl=False, patients=patients)
        figure = result_charts.distribution_figure(collect(discover(tmp_path / f"{patients}")))
        assert ("Box: quartiles" in figure.caption) == (patients == 10)


def test_whiskers_are_percentiles_of_few_values_too():
    axis = Figure().subplots()
    result_charts.draw_box(axis, np.array([0.0, 0.4, 0.6, 1.0]), 2.0, "black")
    heights = [tuple(map(float, line.get_ydata())) for line in axis.lines]
    assert heights[1:3] == [pytest.approx((0.3, 0.06)), pytest.approx((0.7, 0.94))]


def test_the_label_chart_needs_several_shares(results, tmp_path):
    assert result_charts.label_figure(results) is None
    for fraction in (0.1, 1.0):
        write_run(tmp_path / f"{fraction}", ssl=False, fraction=fraction)
    figure = result_charts.label_figure(collect(discover(tmp_path)))
    assert figure.name == "label_efficiency" and "bootstrap interval" in figure.caption


def test_no_chart_has_the_colour_of_a_class(results, study, tmp_path):
    for ssl in (True, False):
        for fraction in (0.1, 1.0):
            write_run(tmp_path / f"{ssl}-{fraction}", ssl=ssl, fraction=fraction)
    figures = [
        result_charts.convention_figure(results),
        result_charts.difference_figure(comparisons.primary(results)),
        result_charts.distribution_figure(results),
        result_charts.label_figure(collect(discover(tmp_path))),
        loss_curves.pretraining_curves(study),
        loss_curves.segmentation_curves(study),
    ]
    for figure in figures:
        drawing = figure.data.decode().lower()
        assert not [c for c in CLASS_COLOURS.values() if c.lower() in drawing], figure.name
    # Baseline and SSL have the same colours in every chart that has both.
    for figure in (figures[0], *figures[2:4], figures[5]):
        drawing = figure.data.decode().lower()
        assert BASELINE.lower() in drawing and SSL.lower() in drawing, figure.name


def test_without_any_evaluation_there_is_no_chart():
    for draw in (
        result_charts.convention_figure,
        result_charts.distribution_figure,
        result_charts.label_figure,
    ):
        assert draw(Results()) is None


def test_close_shares_of_labels_are_moved_apart_and_others_are_logarithmic():
    found = places_of_shares([1 / 12, 3 / 12, 10 / 12, 1.0])
    at = list(found.values())
    assert at[0] == 0 and at[1] == pytest.approx(math.log(3))
    assert at[2] - at[1] == pytest.approx(math.log(10 / 3))
    assert at[3] - at[2] == pytest.approx(math.log(12) / 4)


def test_a_legend_of_long_names_has_fewer_columns():
    assert [legend_columns(["x" * n] * 4, 8.5) for n in (10, 50, 200)] == [3, 2, 1]
