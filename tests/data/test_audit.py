"""The audit of a training on all patients; that of folds is in test_splits.py."""

import numpy as np
import pytest

from brats_jax.data.audit import audit_leakage
from brats_jax.data.folds import ALL
from brats_jax.data.splits import Splits, check_splits, fold_split, load_or_make_splits, make_splits
from brats_jax.errors import BratsError

FOLDS = {"num_folds": 2, "test_fraction": 0.2}


def test_all_patients_train_and_nothing_is_left_for_validation_or_test(mixed_store, tmp_path):
    splits = make_splits(mixed_store, all_train=True)
    split = fold_split(splits, mixed_store, ALL)
    every = np.sort(np.concatenate([split.train, split.unlabelled]))
    np.testing.assert_array_equal(every, np.arange(mixed_store.num_slices))
    assert mixed_store.labelled[mixed_store.patient_of[split.train]].all()
    assert not len(split.validation) and not len(split.test)
    audit = audit_leakage(mixed_store, split)
    assert not audit.leaks
    assert "ALL PATIENTS TRAIN (7): no validation set, no test set" in audit.check("patient")
    path = tmp_path / "splits.json"
    assert load_or_make_splits(path, mixed_store, all_train=True, seed=0) == splits
    assert load_or_make_splits(path, mixed_store, all_train=True, seed=0) == splits
    with pytest.raises(BratsError, match=r"was started with config\.folds=all; give another"):
        load_or_make_splits(path, mixed_store, **FOLDS)
    assert splits.digest != make_splits(mixed_store, **FOLDS).digest


def test_a_run_with_folds_does_not_go_on_with_all_patients(mixed_store, tmp_path):
    load_or_make_splits(tmp_path / "splits.json", mixed_store, **FOLDS)
    with pytest.raises(BratsError, match=r"was started without config\.folds=all"):
        load_or_make_splits(tmp_path / "splits.json", mixed_store, all_train=True)


def test_a_fold_of_the_other_kind_is_refused(mixed_store):
    of_all, of_folds = make_splits(mixed_store, all_train=True), make_splits(mixed_store, **FOLDS)
    with pytest.raises(BratsError, match="no fold 0 in these splits"):
        fold_split(of_all, mixed_store, 0)
    with pytest.raises(BratsError, match="no all patients in these splits"):
        fold_split(of_folds, mixed_store, ALL)


def test_damaged_splits_of_all_patients_are_refused(mixed_store, tmp_path):
    splits = make_splits(mixed_store, all_train=True)
    (first, *rest) = splits.training_only
    fields = splits.to_json()
    with pytest.raises(ValueError, match="a test set, but no folds"):
        Splits.from_json({**fields, "test": [first], "training_only": rest})
    short = Splits.from_json({**fields, "training_only": rest})
    with pytest.raises(BratsError, match=f"the person '{first}' of .* is in none of its sets"):
        check_splits(short, mixed_store, tmp_path / "splits.json")
