"""Loss curves."""

import pytest
from report_examples import write_history, write_run

from brats_jax.reporting.figures.loss_curves import (
    pretraining_curves,
    segmentation_curves,
    trainings,
)
from brats_jax.reporting.read_runs import Study, discover
from brats_jax.runs.folder import RunFolder


def test_runs_that_share_a_pretraining_have_one_curve(study):
    assert len(trainings(study, "pretrain")) == 2  # a curve for each fold
    assert len(trainings(study, "segment")) == 3 * 2 * 2


def test_the_caption_counts_trainings_and_folds(study):
    assert "each of 2 trainings (folds 0 and 1)" in pretraining_curves(study).caption
    assert "each of 12 trainings (folds 0 and 1)" in segmentation_curves(study).caption


def test_trainings_that_have_not_ended_are_counted(tmp_path):
    run = write_run(tmp_path / "run", ssl=False)
    stage = RunFolder(run).fold(0).stage("segment")
    stage.complete_json.unlink()
    write_history(stage, epochs=2, complete=False)
    assert segmentation_curves(discover(run)).caption.endswith("Not trained to the end: 1.")


def test_each_pretext_has_a_panel_of_its_own(tmp_path):
    one = pretraining_curves(discover(write_run(tmp_path / "a")))
    write_run(tmp_path / "b", settings={"pretrain.task": "masked"}, seed=1)
    two = pretraining_curves(discover(tmp_path))
    assert "Losses of different pretexts do not compare." in two.caption
    assert "do not compare" not in one.caption and two.data.count(b'id="axes_') == 2
    assert one.data.count(b'id="axes_') == 1


@pytest.mark.parametrize("draw", [pretraining_curves, segmentation_curves])
def test_without_an_epoch_there_is_no_figure(draw, tmp_path):
    assert draw(Study(tmp_path, "run")) is None
