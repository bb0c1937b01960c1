"""Words of captions."""

from types import SimpleNamespace

import pytest
from report_examples import write_run

from brats_jax.reporting import captions
from brats_jax.reporting.arms import collect
from brats_jax.reporting.read_runs import discover


def test_the_pretraining_shown_is_told_from_the_one_that_ssl_started_from(tmp_path):
    stages = {"transposed": ("pretrain",), "unet": ("pretrain", "segment")}
    for decoder, own in stages.items():
        settings = {"pretrain.decoder": decoder}
        write_run(tmp_path / decoder, stages=own, settings=settings)
    results = collect(discover(tmp_path))
    assert captions.start_of_ssl(results, "decoder transposed") == (
        " The SSL runs started from another pretraining: decoder unet."
    )
    assert captions.start_of_ssl(results, "decoder unet") == (
        " The SSL runs started from this pretraining."
    )
    alone = collect(discover(tmp_path / "unet"))
    assert captions.start_of_ssl(alone, "") == ""


class Evaluated:
    """An evaluation of a number of slices."""

    cross_validates = False

    def __init__(
        self,
        fold=0,
        seed=0,
        patients=4,
        slices="all",
        split_by="patient",
        count=24,
        tta=False,
        planes="",
    ):
        self.fold, self.seed, self.stage = fold, seed, "segment"
        self.evaluation = SimpleNamespace(
            patients=patients, slices=slices, split_by=split_by, tta=tta, planes=planes
        )
        self.rows = {captions.SLICES_KEY: (0.5, count)}


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ([], ""),
        ([Evaluated(patients=55, count=8525)], "55 patients, 8,525 slices, split by patient"),
        ([Evaluated(patients=1)], "1 patient, 24 slices, split by patient"),
        (
            [Evaluated(slices="tumour")],
            "4 patients, 24 slices with tumour, split by patient",
        ),
        (
            [Evaluated(patients=4), Evaluated(patients=6, count=36)],
            "4 to 6 patients, 24 to 36 slices, split by patient",
        ),
        (
            [Evaluated(split_by="slice")],
            "4 patients, 24 slices, split by slice, the same patients in training and test",
        ),
        (
            [Evaluated(tta=True)],
            "4 patients, 24 slices, split by patient, predictions averaged over flips",
        ),
        (
            [Evaluated(tta=True, planes="axial,coronal")],
            "4 patients, 24 slices, split by patient, predictions averaged over flips and planes",
        ),
        (
            [Evaluated(tta=True), Evaluated()],
            "4 patients, 24 slices, split by patient, predictions averaged over flips in some runs",
        ),
    ],
)
def test_the_test_set_in_words(group, words):
    assert captions.test_set(group) == words


def test_the_folds_of_a_cross_validation_are_counted_together(monkeypatch):
    monkeypatch.setattr(Evaluated, "cross_validates", True)
    group = [Evaluated(fold, patients=4 + fold) for fold in range(3)]
    for one in group:
        one.run, one.stage = SimpleNamespace(name="base"), "segment"
    words = "15 patients (cross-validation: each tested once), 72 slices, split by patient"
    assert captions.test_set(group) == words
    assert captions.least_patients(group) == 15


def test_slices_that_differ_between_runs_are_mentioned():
    words = captions.test_set([Evaluated(), Evaluated(slices="tumour")])
    assert "24 slices (with tumour in some runs, all in others)" in words
    assert not captions.all_slices([Evaluated(), Evaluated(slices="tumour")])
    assert captions.all_slices([Evaluated()]) and not captions.all_slices([])


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([(0, 0)], "fold 0 alone"),
        ([(0, 0), (0, 1)], "fold 0 and 2 seeds"),
        ([(0, 0), (2, 0)], "mean over folds 0 and 2"),
        ([(f, s) for f in range(5) for s in range(2)], "mean over folds 0 to 4 and 2 seeds"),
    ],
)
def test_folds_and_seeds_in_words(runs, words):
    assert captions.repeats([Evaluated(fold, seed) for fold, seed in runs]) == words


def test_a_caption_joins_test_set_and_repeats():
    assert captions.over([Evaluated()], "Our baseline") == (
        "Our baseline: test set of 4 patients, 24 slices, split by patient; fold 0 alone."
    )
