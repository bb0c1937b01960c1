"""Who is trained and validated on: by labels, modalities and sets."""

import dataclasses
import shutil

import numpy as np
import pytest
import unlabelled_examples as examples
from experiment_examples import config_of

from brats_jax.data.splits import fold_split, make_splits
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, pretraining, segmentation, split_options
from brats_jax.experiments.stage_slices import StageSlices

pytestmark = pytest.mark.usefixtures("shallow")


def slices_of(store, cache, **changes):
    changes = {"data__num_folds": 2, "data__test_fraction": 0.2, **changes}
    settings = parse(config_of(store, cache, **changes))
    splits = make_splits(store, **split_options(settings))
    return StageSlices(settings, store, splits, fold_split(splits, store, 0), 0)


def names_of(store, indices):
    return {store.patients[p] for p in np.unique(store.patient_of[indices])}


def test_pretraining_uses_everyone_outside_validation_and_test_who_has_its_modalities(
    mixed_store, tmp_path
):
    data = slices_of(mixed_store, tmp_path)
    held_out = {*data.splits.test, *data.splits.folds[0]}
    pretext, segment = pretraining(data.settings), segmentation(data.settings)
    persons = dict(zip(mixed_store.patients, mixed_store.subjects, strict=True))
    allowed = {name for name, person in persons.items() if person not in held_out}
    assert names_of(mixed_store, data.training(pretext)) == allowed - {"U2"}
    labelled = {name for name in allowed if name.startswith("L") and "again" not in name}
    assert names_of(mixed_store, data.training(segment)) == labelled
    assert names_of(mixed_store, data.validation(segment)) == {*data.splits.folds[0]} - {"No T2"}
    assert any(
        "unlabelled patients left out, without FLAIR: U2" in n for n in data.left_out_notes(pretext)
    )
    assert not any("unlabelled" in line for line in data.left_out_notes(segment))
    part = slices_of(mixed_store, tmp_path, pretrain__unlabelled_fraction=0.0)
    assert names_of(mixed_store, part.training(pretext)) == allowed - {
        *("U0", "U1", "U2", "Mask", "L0 again")
    }
    # An epoch is as long as with all, so that shares are compared at equal cost.
    np.testing.assert_array_equal(part.all_training(pretext), data.training(pretext))


def test_slices_without_tumour_are_trained_and_validated_on_if_asked(mixed_store, tmp_path):
    every = slices_of(mixed_store, tmp_path, segment__slices="all")
    tumour = slices_of(mixed_store, tmp_path, segment__slices="tumour")
    task = segmentation(every.settings)
    for of in ("training", "validation"):
        indices, with_tumour = getattr(every, of)(task), getattr(tumour, of)(task)
        assert not mixed_store.has_tumour[indices].all()
        np.testing.assert_array_equal(indices[mixed_store.has_tumour[indices]], with_tumour)
        assert names_of(mixed_store, indices) == names_of(mixed_store, with_tumour)


@pytest.mark.parametrize("changes", [{}, {"data__label_patients": 2}, {"segment__slices": "all"}])
def test_a_validation_by_volume_has_all_slices_of_its_patients(mixed_store, tmp_path, changes):
    by_slice = slices_of(mixed_store, tmp_path, **changes)
    by_volume = slices_of(mixed_store, tmp_path, segment__selection_metric="volume_dice", **changes)
    task = segmentation(by_volume.settings)
    indices = by_volume.validation(task)
    assert names_of(mixed_store, indices) == names_of(
        mixed_store, by_slice.validation(segmentation(by_slice.settings))
    )
    whole = np.isin(mixed_store.patient_of, np.unique(mixed_store.patient_of[indices]))
    np.testing.assert_array_equal(indices, np.flatnonzero(whole))
    np.testing.assert_array_equal(by_volume.training(task), by_slice.training(task))
    pretext = pretraining(by_volume.settings)
    np.testing.assert_array_equal(by_volume.validation(pretext), by_slice.validation(pretext))


def test_in_a_cross_validation_no_checkpoint_is_chosen(mixed_store, tmp_path):
    """Validation is on training slices of some patients, never on those that are tested."""
    data = slices_of(mixed_store, tmp_path, data__test_fraction=0.0)
    tested = {*data.splits.folds[0]}
    for task in (pretraining(data.settings), segmentation(data.settings)):
        assert data.selection(task) == "last"
        assert "the last checkpoint is taken" in data.selection_note(task)
        shown = names_of(mixed_store, data.validation(task))
        assert shown and shown <= names_of(mixed_store, data.training(task))
        assert not {mixed_store.subjects[mixed_store.patients.index(n)] for n in shown} & tested


def test_a_stage_that_nobody_can_train_is_refused(mixed_store, tmp_path):
    data = slices_of(mixed_store, tmp_path)
    task = pretraining(data.settings)
    lame = dataclasses.replace(
        data, split=dataclasses.replace(data.split, validation=np.zeros(0, np.int64))
    )
    data.check_not_empty(task)
    with pytest.raises(BratsError, match="no slice for the validation set, which needs patients"):
        lame.check_not_empty(task)


def test_a_stage_that_nobody_can_be_tested_with_is_refused_before_it_is_trained(
    mixed_store, tmp_path
):
    def tested_on(name, **changes):
        data = slices_of(mixed_store, tmp_path, **changes)
        test = np.array(mixed_store.slices_of(name))
        split = dataclasses.replace(data.split, test=test)
        return dataclasses.replace(data, split=split)

    dropout = {"segment__modality_dropout": 0.5}  # it trains on partial patients, too
    tested_on("L1", **dropout).check_start("train")
    lame = tested_on("No T2", **dropout)
    lame.check_start("pretrain")  # which needs no T2
    with pytest.raises(BratsError, match=r"segment: no test slice of a patient with t1, t1gd"):
        lame.check_start("train")
    with pytest.raises(BratsError, match=r"fold 0 pretrain: no test slice of a patient with t1"):
        tested_on("U2").check_start("pretrain")


def test_segmentation_without_any_labels_is_refused_before_anything_is_written(tmp_path):
    cases = [
        examples.changed(case, case.patient, kind="whole_tumour")
        for case in examples.made_cases(4, seed=30)
    ]
    prepare(examples.source_of(*cases), tmp_path / "store", workers=1)
    store = Store.open(tmp_path / "store")
    config = config_of(store, tmp_path, data__num_folds=2, data__test_fraction=0.2)
    with pytest.raises(BratsError, match="has labels of the classes: give --mode=pretrain"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_its_patients_when_sources_were_added_to_its_store(
    finished, small_store, tmp_path, capsys
):
    workdir, config, summary = finished
    store = tmp_path / "store"
    shutil.copytree(small_store.path, store)
    more = examples.source_of(examples.changed(examples.made_cases(1)[0], "new", kind="none"))
    more.description["folder"] = "more"
    phantoms = {"patients": 8, "seed": 0, "shape": (16, 48, 48)}
    prepare(["phantom", more], store, workers=1, **phantoms)
    assert Store.open(store).patients[-1] == "new"
    config = config.copy_and_resolve_references()
    config.data.store = str(store)
    splits = (workdir / "splits.json").read_bytes()
    assert experiment.run(config, workdir) == summary
    out = capsys.readouterr().out
    assert "keeps to the 8 patients that the store had before others were added (9 now)" in out
    assert "segment: complete, skipped" in out and "evaluation: complete, skipped" in out
    assert (workdir / "splits.json").read_bytes() == splits


def of_small(store, cache, **changes):
    settings = parse(config_of(store, cache, segment__slices="all", **changes))
    return StageSlices.of(settings, store, make_splits(store, **split_options(settings)), 0)


def test_with_few_labels_no_label_of_the_validation_set_is_used(small_store, tmp_path):
    """Eight patients: one for the test, one or two for validation, five or six to train."""
    small = {"data__num_folds": 6, "data__test_fraction": 0.1}
    every = of_small(small_store, tmp_path, **small)
    task, pretext = segmentation(every.settings), pretraining(every.settings)
    trained = names_of(small_store, every.training(task))
    held = names_of(small_store, every.split.validation)
    assert len(trained) == 7 - len(held) >= 5
    assert every.selection(task) == "validation" and every.selection_note(task) == ""
    assert names_of(small_store, every.validation(task)) == held

    for changes, rule, count in (
        ({"data__label_patients": 2}, "last", 2),
        ({"data__label_fraction": 0.3}, "last", 2),
        ({"data__label_patients": 2, "data__selection": "validation"}, "validation", 2),
        ({"data__label_patients": len(trained)}, "validation", len(trained)),
        ({"data__label_fraction": 0.9, "data__num_folds": 7}, "validation", 6),
        ({"data__label_fraction": 0.8, "data__num_folds": 7}, "held_out", 4),
    ):
        few = of_small(small_store, tmp_path, **{**small, **changes})
        held = names_of(small_store, few.split.validation)
        assert few.selection(task) == rule
        people, scored = (
            names_of(small_store, found) for found in (few.training(task), few.validation(task))
        )
        assert len(people) == count and not people & held
        if rule == "validation":
            assert scored == held
            continue
        assert not scored & held
        assert (scored == people) == (rule == "last")
        assert bool(scored & people) == (rule == "last")
        assert (
            "one in 5 patients" if rule == "held_out" else "fewer than 5"
        ) in few.selection_note(task)
        # The first stage needs no labels.
        assert few.selection(pretext) == "validation"
        assert names_of(small_store, few.validation(pretext)) == held


def test_more_labelled_patients_than_there_are_is_refused_before_anything_is_written(
    small_store, compiled_programs, tmp_path
):
    config = config_of(small_store, compiled_programs, data__label_patients=9)
    with pytest.raises(BratsError, match=r"label_patients=9: the training set .* give at most \d"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
