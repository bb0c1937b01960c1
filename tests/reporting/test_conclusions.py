"""The opening sentences of a report."""

import dataclasses

import pytest
from report_examples import write_run

from brats_jax.reporting import comparisons, conclusions
from brats_jax.reporting.arms import Results, collect
from brats_jax.reporting.read_runs import Study, discover


def scope_of(folder):
    study = discover(folder)
    return " ".join(conclusions.scope(study, collect(study)))


def test_the_scope_names_losses_starts_and_test_set(study, results):
    assert list(conclusions.scope(study, results)) == [
        "Segmentation under Dice + CE, Dice + Focal and Focal only, with and without "
        "self-supervised pretraining (SSL): 12 evaluated trainings. Test set: 4 patients, 24 "
        "slices, split by patient; mean over folds 0 and 1."
    ]


def test_the_scope_names_shares_of_labels(tmp_path):
    for fraction in (0.05, 1.0):
        write_run(tmp_path / f"{fraction}", ssl=False, fraction=fraction)
    assert "without pretraining only (the baseline), with 5 % of the labels and all labels" in (
        scope_of(tmp_path)
    )


def test_a_pretraining_alone_says_nothing_about_segmentation(tmp_path):
    write_run(tmp_path / "run", stages=("pretrain",))
    assert "its effect on segmentation is not" in scope_of(tmp_path)


@pytest.mark.parametrize(
    ("problems", "words"),
    [([], "Nothing has been evaluated yet."), (["x"], "No evaluation of this version")],
)
def test_a_study_without_evaluations_says_so(tmp_path, problems, words):
    study = Study(tmp_path, "run", problems=problems)
    assert next(conclusions.scope(study, Results())).startswith(words)


@pytest.mark.parametrize(("ssl", "lacking"), [(True, "without"), (False, "with")])
def test_one_start_alone_leaves_the_effect_unknown(tmp_path, ssl, lacking):
    write_run(tmp_path / "run", ssl=ssl)
    assert list(conclusions.findings([], collect(discover(tmp_path)))) == [
        f"The effect of pretraining is unknown: no run {lacking} it has been evaluated."
    ]


def test_findings_are_counted(results):
    primary = comparisons.primary(results)
    (sentence,) = conclusions.findings(primary, results)
    # Four patients cannot show a difference.
    assert sentence == (
        "SSL against the baseline, 3D Dice by patient over 4 patients: too few patients to find a "
        "difference of any size in any of the 9 comparisons."
    )
    # The heading promises no more than the lines hold.
    assert conclusions.heading_of_findings(primary) == "SSL minus baseline: mean over patients"
    for line in conclusions.findings_by_loss(primary):
        # No interval: one that excludes zero would read as a difference.
        assert " to " not in line and line.endswith("(too few patients for a test).")


def test_one_verdict_for_all_comparisons_is_stated_once(tmp_path):
    for ssl in (True, False):
        run = tmp_path / ("ssl" if ssl else "base")
        write_run(run, ssl=ssl, patients=12, error=0.1 if ssl else 0.5, stages=("segment",))
    results = collect(discover(tmp_path))
    primary = comparisons.primary(results)
    assert [c.outcome for c in primary] == ["SSL better"] * 3
    (sentence,) = conclusions.findings(primary, results)
    assert sentence.endswith(
        "SSL is better in all 3 comparisons. This holds for this training only."
    )
    (line,) = conclusions.findings_by_loss(primary)
    assert line.startswith("Dice + CE: WT +0.") and line.count("SSL better") == 3
    assert conclusions.heading_of_findings(primary) == (
        "SSL minus baseline: mean over patients (95 % interval), verdict after Holm’s correction"
    )


def test_too_few_patients_in_one_region_alone_are_said_of_it(tmp_path):
    for ssl in (True, False):
        run = tmp_path / ("ssl" if ssl else "base")
        write_run(run, ssl=ssl, patients=12, error=0.1 if ssl else 0.5, stages=("segment",))
    results = collect(discover(tmp_path))
    *most, last = comparisons.primary(results)
    few = dataclasses.replace(last, adjusted=0.2, result=last.result._replace(smallest_p=0.2))
    assert few.outcome == comparisons.TOO_FEW
    (sentence,) = conclusions.findings([*most, few], results)
    assert (
        "of 3 comparisons SSL is better in 2 and the patients are too few to find a difference of "
        "any size in 1."
    ) in sentence
    (line,) = conclusions.findings_by_loss([*most, few])
    assert line.count(" to ") == 2 and line.endswith(", too few patients.")  # without an interval


def test_the_effect_of_the_convention_has_its_ceiling_and_the_papers_numbers(results):
    (sentence,) = conclusions.effect_of_convention(results)
    assert "ED is in 67 % of these test slices, so no model can exceed 0.67 under it" in sentence
    assert "(the paper prints 0.310 to 0.329)" in sentence


def test_the_effect_of_the_convention_needs_every_slice(tmp_path):
    write_run(tmp_path / "run", ssl=False, slices="tumour")
    (sentence,) = conclusions.effect_of_convention(collect(discover(tmp_path)))
    assert "--config.evaluation.slices=all" in sentence
    assert list(conclusions.effect_of_convention(Results())) == []
