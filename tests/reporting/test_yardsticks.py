"""A pretraining that does not beat the regression is said not to."""

import dataclasses

import pytest
from report_examples import write_run

from brats_jax.reporting import yardsticks
from brats_jax.reporting.arms import collect
from brats_jax.reporting.read_runs import discover
from brats_jax.reporting.sections import Words, build


def compared(folder, **options) -> dict[tuple[str, str], yardsticks.YardstickComparison]:
    found = yardsticks.compare_with_yardsticks(collect(discover(write_run(folder, **options))))
    return {(one.yardstick, one.region): one for one in found}


def test_the_mse_is_compared_by_patient(tmp_path):
    found = compared(tmp_path / "run", folds=(0, 1), patients=8)
    assert len(found) == 6  # two yardsticks, three regions
    brain = found["regression", "brain"]
    assert (brain.result.n, brain.result.smaller, brain.outcome) == (8, 8, "beats it")
    assert brain.result.mean_b == pytest.approx(0.06) and brain.family == 6
    assert brain.result.mean_a == pytest.approx(0.04, rel=0.05)
    assert found["mean", "brain"].result.mean_b == pytest.approx(1.0)
    assert brain.verdict.startswith("The pretraining beats the regression, which needs no network")
    assert "(ratio 0.67), smaller in 8 of 8 patients, all slices." in brain.verdict
    assert yardsticks.in_words(list(found.values())) == [
        "Pretraining against the regression: MSE 33 % smaller over the brain, 33 % smaller over "
        "the whole slice and 33 % smaller over the tumour; the pretraining beats the regression in "
        "every region.",
        "Pretraining against the mean: MSE 96 % smaller over the brain, 96 % smaller over the "
        "whole slice and 96 % smaller over the tumour; the pretraining beats the mean in every "
        "region.",
    ]


def test_a_pretraining_that_does_not_beat_the_regression_is_said_not_to(tmp_path):
    run = write_run(tmp_path / "run", folds=(0, 1), patients=8, regression=0.03)
    summary, pretraining = build(discover(run))[:2]
    words = [block.text for block in summary.blocks if isinstance(block, Words)]
    assert any(text.startswith("The pretraining does not beat the regression") for text in words)
    tables = {block.name: block for block in pretraining.blocks if block.kind == "table"}
    assert {row[2].text for row in tables["yardsticks"].rows} == {
        "pretraining", "regression", "mean",
    }  # fmt: skip


def test_few_patients_show_nothing(tmp_path):
    brain = compared(tmp_path / "run", patients=3)["regression", "brain"]
    assert brain.outcome == "is not shown to beat it" and "too few" in brain.verdict


def test_the_words_are_a_sentence_for_each_yardstick_not_for_each_test(tmp_path):
    found = list(compared(tmp_path / "run", patients=3, regression=0.04).values())
    regression, mean, few = yardsticks.in_words(found)
    assert regression.count("beat it)") == 3  # the regions differ
    assert mean.endswith("; the pretraining is not shown to beat the mean in any region.")
    assert few.endswith("p cannot be below 0.25.")


def test_a_region_without_values_is_not_compared(tmp_path):
    found = [
        dataclasses.replace(one, result=one.result._replace(n=0)) if one.region == "tumour" else one
        for one in compared(tmp_path / "run", folds=(0, 1), patients=8).values()
    ]
    assert {one.outcome for one in found} == {"beats it", "not compared"}
    regression, _ = yardsticks.in_words(found)
    assert regression.endswith(
        "the whole slice and without a value over the tumour; the pretraining beats the regression "
        "in every other region."
    )
    none = [dataclasses.replace(one, result=one.result._replace(n=0)) for one in found]
    assert yardsticks.in_words(none)[1] == (
        "Pretraining against the mean: not compared, as no patient has a value under both."
    )


def test_a_region_with_too_few_patients_is_named(tmp_path):
    few = {one.region: one for one in compared(tmp_path / "few", patients=3).values()}["tumour"]
    found = compared(tmp_path / "run", folds=(0, 1), patients=8)
    found["mean", "tumour"] = dataclasses.replace(few, yardstick="mean")
    found["regression", "tumour"] = dataclasses.replace(few, yardstick="regression")
    assert yardsticks.in_words(list(found.values()))[-1] == (
        "Over the tumour the patients are too few to find a difference of any size: p cannot be "
        "below 0.25."
    )


@pytest.mark.parametrize(
    ("ours", "change"),
    [
        (0.996, "0.4 % smaller over the brain"),
        (1.0, "equal over the brain"),
        (1.2, "20 % larger over the brain"),
    ],
)
def test_a_small_change_is_not_rounded_to_0(tmp_path, ours, change):
    brain = compared(tmp_path / "run", patients=3)["regression", "brain"]
    result = brain.result._replace(mean_a=ours, mean_b=1.0)
    assert dataclasses.replace(brain, result=result).change == change


def test_evaluations_of_earlier_versions_say_how_to_get_yardsticks(tmp_path):
    run = write_run(tmp_path / "run", regression=None)
    assert yardsticks.compare_with_yardsticks(collect(discover(run))) == []
    pretraining = build(discover(run))[1]
    notes = [b.text for b in pretraining.blocks if isinstance(b, Words) and b.missing]
    assert any("--mode=evaluate" in text for text in notes)
    assert all(block.name != "yardsticks" for block in pretraining.blocks if block.kind == "table")
