"""Which arms are controls of which, and the gains over them."""

import math

import pytest
from report_examples import write_run

from brats_jax.reporting import attribution
from brats_jax.reporting.arms import collect
from brats_jax.reporting.read_runs import discover


def study_of(folder):
    """One loss, two folds: nothing, ImageNet, the paper's pretext, masked, and the controls."""
    few = {"data.label_patients": 3}
    for name, ssl, error, settings in (
        ("base", False, 0.4, {}),
        ("imagenet", False, 0.35, {"encoder_init": "w.safetensors"}),
        ("paper", True, 0.2, {}),
        ("few_base", False, 0.4, few),
        ("few_stem", True, 0.2, {**few, "transfer.parts": "stem"}),
    ):
        write_run(folder / name, ssl=ssl, error=error, folds=(0, 1), settings=settings, patients=6)
    return collect(discover(folder))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return study_of(tmp_path_factory.mktemp("study"))


def test_a_pretext_is_compared_with_controls_of_its_label_budget(results):
    gains = attribution.gains(results)
    assert [(g.arm.labels, g.pretext, g.over) for g in gains] == [
        ("100 %", "SSL cross_modality", "nothing"),
        ("100 %", "SSL cross_modality", "ImageNet"),
        ("3 patients", "SSL cross_modality, stem transferred", "nothing"),
    ]
    for gain in gains:
        assert gain.result.mean_difference > 0.02 and gain.result.only_these_trainings
        assert gain.result.n == 6 and gain.family == 3 and not math.isnan(gain.adjusted)
        assert (gain.spread.of_patients, gain.spread.of_trainings) == (6, 2)
    # The mean over regions of each arm, by hand.
    first = gains[0]
    means = [
        attribution.mean_dice(results.arms[arm], attribution.mean_keys(results))
        for arm in (first.arm, first.control)
    ]
    by_patient = [sum(map(sum, map(dict.values, m.values()))) / 12 for m in means]
    assert first.result.mean_difference == pytest.approx(by_patient[0] - by_patient[1])


def test_a_budget_in_patients_is_an_arm_of_its_own_below_all_labels(results):
    labels = {arm.labels: arm for arm in results.arms}
    assert {*labels} == {"100 %", "3 patients"}
    assert labels["3 patients"].fraction < 1
    assert labels["3 patients"].label.endswith(", labels of 3 patients")
    assert results.main_arm("dice_ce", True).labels == "100 %"
