"""The scores in a model's card: those of its own trainings, or of others that are named so."""

import dataclasses

import pytest
from document_examples import STORE
from tally_examples import tally_of, two_patients

from brats_jax.evaluation.conventions import scores_of
from brats_jax.evaluation.rows import rows_of
from brats_jax.evaluation.stated_scores import stated_scores
from brats_jax.runs.documents import EvaluatedCheckpoint, Evaluation, RunConfig
from brats_jax.runs.folder import RunFolder

CONFIG = {"folds": [0, 2], "loss": "dice_ce", "data": {"num_folds": 3}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two of three folds evaluated at steps 5 and 7; the second finds everything."""
    run = RunFolder(tmp_path_factory.mktemp("run"))
    RunConfig(CONFIG, STORE).write(run.config_json)
    prediction, truth, sizes = two_patients()
    evaluation = Evaluation(
        *(0, "test", "all", "patient", 2, ("t1",), "flair", "dice_ce", False, 1.0),
        checkpoints={"segment": EvaluatedCheckpoint(5, 1, 0.5)},
        rows=rows_of("segment", scores_of(tally_of(prediction, truth, sizes))),
    )
    evaluation.write(run.fold(0).evaluation_json)
    dataclasses.replace(
        evaluation,
        fold=2,
        checkpoints={"segment": EvaluatedCheckpoint(7, 1, 0.5)},
        rows=rows_of("segment", scores_of(tally_of(truth, truth, sizes))),
    ).write(run.fold(2).evaluation_json)
    return run


def test_the_scores_are_of_the_checkpoints_of_the_model(run):
    found = stated_scores(run, "segment", steps={0: 5, 2: 7})
    assert (found.folds, found.of_folds, found.patients) == ((0, 2), 3, 2)
    assert found.same_weights and not found.other_settings
    assert {(row.metric, row.of) for row in found.rows} >= {
        (metric, of) for metric in ("dice", "hd95_mm") for of in ("WT", "TC", "ET")
    }
    assert [row.metric for row in found.rows if row.of == "WT"][:2] == ["dice", "hd95_mm"]
    dice = next(row for row in found.rows if (row.metric, row.of) == ("dice", "WT"))
    assert 0 < dice.mean < 1 and dice.folds == 2 and dice.over == "volumes"
    # A fold whose checkpoint is another one by now is not counted.
    assert stated_scores(run, "segment", steps={0: 6, 2: 7}).folds == (2,)
    assert stated_scores(run, "segment", steps={1: 5}) is None
    assert stated_scores(run, "reconstruct", steps={0: 5}) is None


def test_other_trainings_are_named_with_the_settings_that_differ(run):
    same = {**CONFIG, "folds": "all", "seed": 4}
    found = stated_scores(run, "segment", settings=same)
    assert found.folds == (0, 2) and not found.same_weights and found.other_settings == ()
    other = stated_scores(run, "segment", settings={**same, "loss": "focal"}, only=2)
    assert other.folds == (2,) and other.other_settings == ("loss",)
