import dataclasses
import json
import runpy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import unlabelled_examples as examples

from brats_jax.data.audit import audit_leakage, describe_burden
from brats_jax.data.selection import (
    count_labelled,
    count_patients,
    label_budget,
    labelled_slices,
    select_slices,
)
from brats_jax.data.splits import (
    Split,
    Splits,
    check_splits,
    fold_split,
    load_or_make_splits,
    make_splits,
)
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.experiments.config import parse, split_options


@dataclass
class Index:
    """The index of a store without the arrays: patient p has `burden[p]` pixels of ED a slice."""

    burden: list[int]
    slices: int = 4
    path: Path = Path("STORE")
    scans_of_last: int = 1
    patients: list[str] = field(init=False)

    def __post_init__(self):
        count = len(self.burden)
        self.patients = [f"P{i:03}" for i in range(count)]
        self.subjects = list(self.patients)
        for i in range(1, self.scans_of_last):
            self.subjects[-1 - i] = self.subjects[-1]
        self.num_slices = count * self.slices
        self.patient_of = np.repeat(np.arange(count, dtype=np.int32), self.slices)
        self.slice_number = np.tile(np.arange(10, 10 + self.slices, dtype=np.int16), count)
        self.pixels = np.zeros((self.num_slices, 4), np.int32)
        self.pixels[:, 2] = np.array(self.burden)[self.patient_of]
        # The first slice of every patient has no tumour.
        self.pixels[self.slice_number == 10, 2] = 0
        self.has_tumour = self.pixels[:, 1:].sum(axis=1) > 0
        self.labelled = np.ones(count, bool)
        self.label_kinds = ["classes"] * count


@pytest.fixture
def index():
    rng = np.random.default_rng(0)
    return Index(rng.permutation(np.arange(1, 41) * 100).tolist())


def test_patients_are_divided_exactly_once(index):
    splits = make_splits(index, seed=3)
    everyone = [*splits.test] + [name for fold in splits.folds for name in fold]
    assert sorted(everyone) == index.patients
    assert len(splits.test) == 6  # 15 % of 40
    assert sorted(map(len, splits.folds)) == [6, 7, 7, 7, 7]


def test_the_demos_split_works_with_six_patients():
    """As many real cases as a first try has at hand."""
    demo = Path(__file__).parents[2] / "configs" / "demo.py"
    config = runpy.run_path(str(demo))["get_config"]()
    index = Index([100, 200, 300, 400, 500, 600])
    splits = make_splits(index, **split_options(parse(config)))
    for fold in config.folds:
        split = fold_split(splits, index, fold)
        assert [count_patients(index, part) for part in dataclasses.astuple(split)[:3]] == [4, 1, 1]
        assert not audit_leakage(index, split).leaks


def test_draw_is_a_function_of_the_seed(index):
    assert make_splits(index, seed=3) == make_splits(index, seed=3)
    assert make_splits(index, seed=3) != make_splits(index, seed=4)


def test_folds_resemble_each_other_in_burden(index):
    """A random division of burdens 100..4000 has fold means that differ by hundreds more."""

    def spread(splits):
        burden = dict(zip(index.patients, index.burden, strict=True))
        groups = [splits.test, *splits.folds]
        return np.std([np.mean([burden[name] for name in group]) for group in groups])

    stratified = np.mean([spread(make_splits(index, seed=s)) for s in range(20)])
    rng = np.random.default_rng(1)
    sizes = np.cumsum([6, 7, 7, 7, 7])
    random = np.mean(
        [
            np.std([np.mean(part) for part in np.split(rng.permutation(index.burden), sizes)])
            for _ in range(20)
        ]
    )
    assert stratified < 0.5 * random


def test_by_patient_nothing_leaks(index):
    splits = make_splits(index)
    for fold in range(5):
        split = fold_split(splits, index, fold)
        audit = audit_leakage(index, split)
        assert not audit.leaks
        assert audit.test_slices_beside_a_training_slice == 0
        assert audit.patients["train"] + audit.patients["validation"] == 34
        total = np.concatenate([split.train, split.validation, split.test])
        assert sorted(total) == list(range(index.num_slices))
    assert "no patient in two sets" in audit.check("patient")


def test_persons_for_training_only_train_in_every_fold_and_are_tested_in_none(index):
    kept = ("P00*", "P031")
    names = sorted(name for name in index.patients if name < "P010" or name == "P031")
    assert len(names) == 11
    splits = make_splits(index, seed=3, training_only=kept)
    assert splits.training_only == tuple(names)
    assert len(splits.test) == round(0.15 * (40 - len(names)))
    for fold in range(5):
        split = fold_split(splits, index, fold)
        train = {index.subjects[index.patient_of[i]] for i in split.train}
        held = {index.subjects[index.patient_of[i]] for i in (*split.validation, *split.test)}
        assert train >= {*names} and not held & {*names}
        assert len(train | held) == 40 and not audit_leakage(index, split).leaks
    assert splits.digest != make_splits(index, seed=3).digest


def test_a_pattern_of_nobody_for_training_only_is_refused(index):
    with pytest.raises(BratsError, match=r"data.training_only=TCIA\*: no person with labels"):
        make_splits(index, training_only=("TCIA*",))
    with pytest.raises(BratsError, match=r"data\.training_only names persons"):
        make_splits(index, training_only=("P00*",), split_by="slice")


def test_all_scans_of_a_person_stay_on_one_side():
    index = Index([100] * 20, scans_of_last=4)
    splits = make_splits(index)
    everyone = [*splits.test] + [name for fold in splits.folds for name in fold]
    assert sorted(everyone) == sorted(set(index.subjects)) and len(everyone) == 17
    scans = set(range(16 * 4, 80))
    for fold in range(5):
        split = fold_split(splits, index, fold)
        sides = [scans & set(part) for part in (split.train, split.validation, split.test)]
        assert sorted(map(len, sides)) == [0, 0, 16]
        assert not audit_leakage(index, split).leaks


def test_scans_of_a_person_on_two_sides_are_found():
    index = Index([100] * 20, scans_of_last=2)
    split = fold_split(make_splits(index), index, 0)
    moved = Split(split.train[split.train < 76], np.arange(72, 76), np.arange(76, 80))
    audit = audit_leakage(index, moved)
    assert audit.patients_in_validation_and_test == 1


def test_by_slice_the_leak_is_measured_and_printed(index):
    splits = make_splits(index, split_by="slice")
    assert len(splits.test) == 24  # 15 % of 160 files
    audit = audit_leakage(index, fold_split(splits, index, 0))
    assert audit.leaks
    assert audit.slices_in_train_and_test == 0
    assert audit.patients_in_train_and_test > 10
    assert audit.test_slices_beside_a_training_slice > 0.5
    assert "SPLIT BY SLICE" in audit.check("slice")


def test_a_leak_nobody_asked_for_is_refused(index):
    splits = make_splits(index)
    folds = list(splits.folds)
    folds[1] += (splits.test[0],)
    splits = dataclasses.replace(splits, folds=tuple(folds))
    audit = audit_leakage(index, fold_split(splits, index, 0))
    assert audit.patients_in_train_and_test == 1
    assert audit.slices_in_train_and_test == 4
    with pytest.raises(BratsError, match="leaks: 4 slices and 1 patients"):
        audit.check("patient")


def test_frozen_splits_are_reused_and_guarded(index, tmp_path):
    path = tmp_path / "splits.json"
    options = {"split_by": "patient", "test_fraction": 0.15, "num_folds": 5, "seed": 0}
    first = load_or_make_splits(path, index, **options)
    assert load_or_make_splits(path, index, **options) == first
    assert json.loads(path.read_text()) == first.sealed().to_json()
    with pytest.raises(BratsError, match="num_folds=5, now num_folds=4"):
        load_or_make_splits(path, index, **{**options, "num_folds": 4})
    with pytest.raises(BratsError, match="drawn for 40 patients"):
        load_or_make_splits(path, Index([1] * 12), **options)
    path.write_text("{")
    with pytest.raises(BratsError, match=r"splits\.json is not valid JSON"):
        load_or_make_splits(path, index, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_by": "file"}, "valid: patient, slice"),
        ({"test_fraction": 1.5}, "at least 0 and below 1"),
        ({"num_folds": 1}, "at least 2"),
        ({"num_folds": 40}, "40 patients are too few for 6 in the test set and 40 folds"),
    ],
)
def test_impossible_splits_are_refused(index, options, message):
    with pytest.raises(BratsError, match=message):
        make_splits(index, **options)


def test_small_numbers_still_give_every_fold_a_patient():
    splits = make_splits(Index([5, 4, 3, 2, 1, 9]))
    assert len(splits.test) == 1
    assert [len(fold) for fold in splits.folds] == [1, 1, 1, 1, 1]


def test_unknown_fold_and_slices_are_refused(index):
    with pytest.raises(BratsError, match="may name 0 to 4"):
        fold_split(make_splits(index), index, 5)
    assert len(select_slices(index, np.arange(8), "tumour")) == 6
    assert len(select_slices(index, np.arange(8), "all")) == 8
    with pytest.raises(BratsError, match="valid: tumour, all"):
        select_slices(index, np.arange(8), "some")


def splits_of(split_by):
    """Splits of seed 0 without names."""
    return Splits(split_by, 0, 0.15, 0, patients=(), test=(), folds=())


def names_of(index, slices):
    return {index.subjects[p] for p in index.patient_of[slices]}


def share_of(index, train, fraction, splits, fold):
    """The slices of a share of the labels."""
    count, _ = count_labelled(index, train, fraction, splits)
    return labelled_slices(index, train, count, splits, fold)


def test_a_fifth_of_the_labelled_patients_chooses_the_checkpoint_unless_they_are_few(index):
    """Held out of the budget, never of the validation set; and larger budgets train on more."""
    splits = make_splits(index, seed=3)
    split = fold_split(splits, index, 0)
    before: set[str] = set()
    for patients, held_out in ((1, 0), (4, 0), (5, 1), (9, 1), (10, 2), (11, 2)):
        budget = label_budget(index, split.train, patients, splits, 0)
        train, chosen = names_of(index, budget.train), names_of(index, budget.held_out)
        assert (len(train), len(chosen)) == (patients - held_out, held_out)
        assert not train & chosen and before <= train
        both = np.sort([*budget.train, *budget.held_out])
        every = labelled_slices(index, split.train, patients, splits, 0)
        np.testing.assert_array_equal(both, every)
        assert not np.isin(budget.held_out, split.validation).any()
        before = train


def test_smaller_shares_of_labels_are_part_of_larger_ones(index):
    splits = make_splits(index, seed=3)
    for fold in range(5):
        train = select_slices(index, fold_split(splits, index, fold).train, "tumour")
        people = len(names_of(index, train))
        before: set[str] = set()
        for fraction in (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.99, 1.0):
            chosen = share_of(index, train, fraction, splits, fold)
            names = names_of(index, chosen)
            assert len(names) == max(1, int(np.ceil(fraction * people)))
            assert count_patients(index, chosen) == len(names)
            assert before <= names <= names_of(index, train)
            # All slices of a chosen patient, and no other.
            assert len(chosen) == 3 * len(names) and set(chosen) <= set(train)
            before = names
        np.testing.assert_array_equal(chosen, train)


def test_shares_of_labels_are_rounded_up_but_not_by_a_rounding_error(index):
    splits = make_splits(Index([100] * 119), seed=0, test_fraction=0.01, num_folds=2)
    index = Index([100] * 119)
    train = np.arange(100 * 4)  # 100 patients; 0.07 * 100 is 7.000000000000001
    assert count_patients(index, share_of(index, train, 0.07, splits, 0)) == 7
    assert count_patients(index, share_of(index, train, 0.071, splits, 0)) == 8


def test_who_has_labels_depends_on_split_seed_and_fold_alone(index):
    train = np.arange(80)
    splits = splits_of("patient")
    first = share_of(index, train, 0.3, splits, 0)
    np.testing.assert_array_equal(first, share_of(index, train, 0.3, splits, 0))
    assert names_of(index, first) != names_of(index, share_of(index, train, 0.3, splits, 1))
    other = dataclasses.replace(splits, seed=1)
    assert names_of(index, first) != names_of(index, share_of(index, train, 0.3, other, 0))


def test_scans_of_one_person_have_labels_together():
    index = Index([100] * 10, scans_of_last=3)  # eight people, the last with three scans
    splits = splits_of("patient")
    for fold in range(8):
        chosen = share_of(index, np.arange(40), 0.5, splits, fold)
        assert len(names_of(index, chosen)) == 4
        assert sum(index.subjects[p] == "P009" for p in index.patient_of[chosen]) in (0, 12)


def test_a_split_by_slice_takes_a_share_of_slices(index):
    splits = splits_of("slice")
    train = np.arange(0, 160, 2)
    chosen = share_of(index, train, 0.05, splits, 0)
    assert len(chosen) == 4 and set(chosen) <= set(train)
    assert (np.diff(chosen) > 0).all()
    assert len(share_of(index, train, 1e-6, splits, 0)) == 1


@pytest.mark.parametrize("split_by", ["patient", "slice"])
def test_persons_without_labels_are_in_no_set(mixed_store, tmp_path, split_by):
    options = {"split_by": split_by, "num_folds": 2, "test_fraction": 0.2}
    splits = load_or_make_splits(tmp_path / "splits.json", mixed_store, **options)
    assert splits.unlabelled == ("Mask", "U0", "U1", "U2")
    named = [name for _, names in splits.sets() for name in names]
    persons = {name.split("/")[0] for name in named}
    assert persons == {"L0", "L1", "L2", "L3", "L4", "L5", "No T2"}
    assert len(named) == (7 if split_by == "patient" else 7 * 16)
    assert load_or_make_splits(tmp_path / "splits.json", mixed_store, **options) == splits
    for changed, line in (
        (("Mask", "U0", "U1"), "it does not list 'U2' of .* among the unlabelled persons"),
        (("Mask", "U0", "U1", "U2", "X"), "it lists 'X' of .* among the unlabelled persons"),
    ):
        other = dataclasses.replace(splits, unlabelled=changed)
        with pytest.raises(BratsError, match=line):
            check_splits(other, mixed_store, tmp_path / "splits.json")
    (name, *_) = splits.test
    with pytest.raises(ValueError, match="in the test set and again in the unlabelled persons"):
        Splits.from_json({**splits.to_json(), "unlabelled": [name]})


def test_the_scans_of_a_person_stay_on_one_side(mixed_store):
    """L0 has a scan with labels and one without."""
    again = np.array(mixed_store.slices_of("L0 again"))
    sides = set()
    for seed in range(6):
        splits = make_splits(mixed_store, num_folds=2, test_fraction=0.2, seed=seed)
        for fold in range(2):
            split = fold_split(splits, mixed_store, fold)
            audit = audit_leakage(mixed_store, split)
            assert not audit.leaks and "unlabelled" in audit.check("patient")
            (side,) = (
                name
                for name in ("train", "validation", "test")
                if np.isin(mixed_store.slices_of("L0"), getattr(split, name)).all()
            )
            sides.add(side)
            labelled = np.concatenate([split.train, split.validation, split.test])
            assert not np.isin(again, labelled).any()
            assert np.isin(again, split.unlabelled).all() == (side == "train")
            assert audit.patients["unlabelled"] == 4 + (side == "train")
    assert sides == {"train", "validation", "test"}


def test_an_unlabelled_scan_of_a_test_person_is_found_by_the_audit(mixed_store):
    splits = make_splits(mixed_store, num_folds=2, test_fraction=0.2)
    split = fold_split(splits, mixed_store, 0)
    for name in ("test", "validation"):
        moved = dataclasses.replace(
            split,
            unlabelled=np.array(mixed_store.slices_of("L0 again")),
            **{name: np.array(mixed_store.slices_of("L0"))},
        )
        audit = audit_leakage(mixed_store, moved)
        assert getattr(audit, f"patients_in_unlabelled_and_{name}") == 1 and audit.leaks
        with pytest.raises(BratsError, match="the split leaks"):
            audit.check("patient")


def test_in_a_store_without_labels_all_are_drawn(tmp_path):
    cases = [
        examples.changed(case, case.patient, kind="none")
        for case in examples.made_cases(5, seed=20)
    ]
    prepare(examples.source_of(*cases), tmp_path / "store", workers=1)
    store = Store.open(tmp_path / "store")
    splits = make_splits(store, num_folds=2, test_fraction=0.2)
    assert splits.unlabelled == () and len(splits.test) == 1
    split = fold_split(splits, store, 0)
    assert len(split.train) + len(split.validation) + len(split.test) == store.num_slices
    assert not len(split.unlabelled) and not audit_leakage(store, split).leaks
    assert all(
        "without class labels" in line for line in describe_burden(store, [("a", split.test)])
    )


def test_unlabelled_patients_do_not_change_the_draw_of_the_others(mixed_store, tmp_path):
    labelled = [case for case in examples.mixed_cases() if case.label_kind == "classes"]
    prepare(examples.source_of(*labelled), tmp_path / "store", workers=1)
    options = {"num_folds": 2, "test_fraction": 0.2, "seed": 4}
    alone = make_splits(Store.open(tmp_path / "store"), **options)
    beside = make_splits(mixed_store, **options)
    assert (alone.test, alone.folds) == (beside.test, beside.folds)
    assert alone.digest == beside.digest and "unlabelled" not in alone.to_json()


@pytest.mark.parametrize("split_by", ["patient", "slice"])
def test_a_cross_validation_tests_every_unit_once(index, split_by, tmp_path):
    options = {"split_by": split_by, "test_fraction": 0.0, "num_folds": 4, "seed": 1}
    splits = load_or_make_splits(tmp_path / "splits.json", index, **options)
    assert splits == load_or_make_splits(tmp_path / "splits.json", index, **options)
    assert splits.cross_validates and splits.test == ()
    every = np.arange(index.num_slices)
    found = [fold_split(splits, index, fold) for fold in range(4)]
    tested = np.concatenate([split.test for split in found])
    np.testing.assert_array_equal(np.sort(tested), every)
    for split in found:
        assert not len(split.validation)
        np.testing.assert_array_equal(np.sort([*split.train, *split.test]), every)
        if split_by == "patient":
            assert not {*index.patient_of[split.train]} & {*index.patient_of[split.test]}


def test_too_few_patients_for_a_cross_validation_are_refused():
    with pytest.raises(BratsError, match="3 patients are too few for 4 folds; prepare at least 4"):
        make_splits(Index([1] * 3), test_fraction=0.0, num_folds=4)
