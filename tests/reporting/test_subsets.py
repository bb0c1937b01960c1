"""Missing modalities in a report: means, drops and gains that follow from made numbers."""

import dataclasses

import pytest
from subset_examples import write_study

from brats_jax.data.subsets import SUBSETS
from brats_jax.reporting import subsets
from brats_jax.reporting.arms import collect
from brats_jax.reporting.read_runs import discover
from brats_jax.reporting.sections import build
from brats_jax.runs.documents.subsets import SubsetEvaluation, SubsetFiles
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document

# Of the 15 subsets 4, 6, 4 and 1 lack 3, 2, 1 and 0 modalities: 28 in all.
LACKING = 28 / 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("subsets"))


@pytest.fixture(scope="module")
def arms(folder):
    return subsets.arms_of(collect(discover(folder)))


def test_an_arm_has_its_means_from_each_subset_and_over_all(arms):
    by = {one.trained: one for one in arms}
    assert len(arms) == 2 and by[True].subsets == SUBSETS and by[True].patients == 4
    for trained, step in ((True, 0.1), (False, 0.2)):
        one = by[trained]
        assert one.mean(SUBSETS[-1], "WT") == pytest.approx(0.885)
        assert one.mean(("flair",), "ET") == pytest.approx(0.885 - 3 * step)
        assert one.mean((), "TC") == pytest.approx(0.885 - step * LACKING)
        drop = one.drop(("t1", "t2"), "WT")
        assert drop.mean_difference == pytest.approx(2 * step) and drop.n == 4
        assert (drop.low, drop.high) == pytest.approx((2 * step, 2 * step))  # equal in all
        assert one.drop((), "ET").mean_difference == pytest.approx(step * LACKING)


def test_training_for_missing_modalities_is_compared_with_zeros(arms):
    gains = {(gain.subset, gain.of): gain for gain in subsets.gains(arms)}
    assert len(gains) == 8
    assert gains[(), "WT"].result.mean_difference == pytest.approx(0.1 * LACKING)
    assert gains[(), subsets.MEAN].result.mean_difference == pytest.approx(0.1 * LACKING)
    full = gains[SUBSETS[-1], "WT"]
    assert full.result.mean_difference == pytest.approx(0) and full.verdict == "too few patients"
    assert subsets.gains(arms[:1]) == []


def test_sentences_name_the_arm_and_what_stands_for_a_missing_modality(arms):
    first, second = subsets.sentences(arms)
    assert {"segment.modality_dropout" in line for line in (first, second)} == {True}
    assert "(zeros in their place): from all modalities WT 0.885" in first + second
    assert "mean of the 15 subsets" in first
    assert "RFNet 86.98/78.23/61.47" in subsets.published()


def test_subsets_of_another_checkpoint_and_unfinished_ones_are_named_and_left_out(tmp_path, folder):
    study = write_study(tmp_path)
    paths = {
        dropout: SubsetFiles(RunFolder(study / f"dropout_{dropout}").fold(0).path).json
        for dropout in (0.0, 0.5)
    }
    document = read_document(paths[0.0], SubsetEvaluation)
    dataclasses.replace(document, subsets=document.subsets[:3]).write(paths[0.0])
    document = read_document(paths[0.5], SubsetEvaluation)
    other = dataclasses.replace(document.checkpoint, step=9)
    dataclasses.replace(document, checkpoint=other).write(paths[0.5])
    found = discover(study)
    assert "3 of 15 subsets are evaluated" in " ".join(found.problems)
    results = collect(found)
    assert subsets.arms_of(results) == []
    assert "of another checkpoint than its evaluation" in " ".join(results.problems)


def test_a_report_has_the_section_only_where_subsets_were_evaluated(folder, study):
    titles = [section.title for section in build(discover(folder))]
    assert titles.index("Missing modalities") == titles.index("Few labels") + 1
    assert "Missing modalities" not in [section.title for section in build(study)]
