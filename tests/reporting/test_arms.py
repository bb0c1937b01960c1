"""Evaluations grouped by arm."""

from types import SimpleNamespace

from report_examples import write_run

from brats_jax.reporting.arms import Arm, Results, collect
from brats_jax.reporting.averages import patient_values
from brats_jax.reporting.read_runs import discover

KEY = ("slice", "all slices", "ED", "dice", "paper")
SSL, BASELINE = Arm("focal", 1.0, "", "", True), Arm("focal", 1.0, "", "", False)


def test_the_main_arm_has_most_labels_and_then_most_runs():
    few, varied = Arm("focal", 0.1, "", "", True), Arm("focal", 1.0, "seed", "", True)
    one = SimpleNamespace(like_the_paper=(True, True))
    results = Results({few: [one] * 5, SSL: [one], varied: [one, one], BASELINE: [one]})
    assert results.main_arm("focal", True) == varied
    assert results.main_arm("dice_ce", True) is None
    assert results.fractions == [0.1, 1.0] and results.losses == ["focal"]


def test_the_papers_pretext_is_shown_beside_the_paper_and_not_a_control(tmp_path):
    for task, folds in (("autoencode", (0, 1)), ("cross_modality", (0,)), ("shuffled", (0, 1))):
        settings = {"pretrain.task": task, "pretrain.decoder": "unet"}
        write_run(tmp_path / task, folds=folds, settings=settings)
    results = collect(discover(tmp_path))
    assert "cross_modality" in results.main_arm("dice_ce", True).pretraining
    assert "cross_modality" in next(iter(results.pretrainings))


def test_a_pair_differs_in_the_pretraining_only():
    longer = Arm("focal", 1.0, "segment.epochs = 7", "", False)
    settings = Arm("focal", 1.0, "", "pretrain.epochs = 9", True)
    results = Results({SSL: [], settings: [], BASELINE: [], longer: []})
    assert results.pairs() == [(SSL, BASELINE), (settings, BASELINE)]


def test_labels_name_the_loss_the_start_and_the_share():
    arm = Arm("dice_ce", 0.05, "a = 1", "b = 2", True)
    assert arm.label == "Dice + CE, SSL (a = 1; b = 2), 5 % of the labels"
    assert BASELINE.label == "Focal only, baseline"


def test_folds_and_seeds_repeat_an_arm(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"seed{seed}", ssl=False, seed=seed, folds=(0, 1))
    (group,) = collect(discover(tmp_path)).arms.values()
    assert [(one.fold, one.seed) for one in group] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    values = patient_values(group, KEY)
    assert sorted(values) == ["A", "B", "C", "D"] and len(values["A"]) == 4


def test_a_setting_that_changes_no_result_does_not_separate_runs(tmp_path):
    write_run(tmp_path / "a", ssl=False, seed=0, settings={"data.threads": 1})
    write_run(tmp_path / "b", ssl=False, seed=1, settings={"data.threads": 9})
    assert [arm.variant for arm in collect(discover(tmp_path)).arms] == [""]


def test_a_setting_that_changes_results_separates_runs(tmp_path):
    write_run(tmp_path / "a", ssl=False, settings={"segment.epochs": 7})
    write_run(tmp_path / "b", ssl=False)
    found = [arm.variant for arm in collect(discover(tmp_path)).arms]
    assert found == ["segment.epochs = 30", "segment.epochs = 7"]


def test_settings_of_the_pretraining_do_not_separate_baselines(tmp_path):
    write_run(tmp_path / "a", ssl=False, seed=0, settings={"pretrain.epochs": 7})
    write_run(tmp_path / "b", ssl=False, seed=1)
    write_run(tmp_path / "c", ssl=True, settings={"pretrain.epochs": 7})
    write_run(tmp_path / "d", ssl=True)
    found = {(arm.ssl, arm.pretraining) for arm in collect(discover(tmp_path)).arms}
    assert found == {(False, ""), (True, "pretrain.epochs = 7"), (True, "pretrain.epochs = 30")}


def test_a_pretraining_that_several_runs_share_counts_once(results):
    (group,) = results.pretrainings.values()
    assert [one.fold for one in group] == [0, 1]


def test_voxels_are_counted_over_the_patients_slices(results):
    counts = results.evaluated()[0].voxel_counts
    # Patient B has ET in two slices of 2 x 2 pixels.
    tp, _, fn = counts["B", "ET"]
    assert tp + fn == 8 and counts["A", "ET"][0] == counts["A", "ET"][2] == 0


def test_an_unreadable_tally_is_named(tmp_path):
    run = write_run(tmp_path / "run", ssl=False)
    (run / "fold_0" / "tally_segment.npz").write_bytes(b"PK")
    results = collect(discover(run))
    assert results.evaluated()[0].patient_scores == {}
    assert len(results.problems) == 1 and "tally_segment.npz" in results.problems[0]
