"""The overlap between the sets of a fold, and the tumour burden of each set."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brats_jax.data.splits import Split
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.runtime.document import SealedDocument
from brats_jax.runtime.text import plural


@dataclass(frozen=True)
class Audit(SealedDocument):
    """audit.json: the overlap between the three sets of a fold.

    Attributes:
      patients, slices: persons and slices of each set, by name; of 'unlabelled' if there are
        scans without labels to pretrain on.
      patients_in_A_and_B, slices_in_A_and_B: in two sets.
      A_slices_beside_a_training_slice: share of the slices of a set with a neighbour (slice number
        +-1 of the same patient) in the training set; 0 for a split by patient.
      leaks: whether anything is in two sets.
    """

    patients: dict[str, int]
    slices: dict[str, int]
    patients_in_train_and_validation: int
    slices_in_train_and_validation: int
    patients_in_train_and_test: int
    slices_in_train_and_test: int
    patients_in_validation_and_test: int
    slices_in_validation_and_test: int
    validation_slices_beside_a_training_slice: float
    test_slices_beside_a_training_slice: float
    leaks: bool
    patients_in_unlabelled_and_validation: int = 0
    slices_in_unlabelled_and_validation: int = 0
    patients_in_unlabelled_and_test: int = 0
    slices_in_unlabelled_and_test: int = 0

    def check(self, split_by: str) -> str:
        """One line on the leakage of a split.

        Raises:
          BratsError: a slice is in two sets, or a patient is in two sets of a split by patient.
        """
        slices = (
            self.slices_in_train_and_validation
            + self.slices_in_train_and_test
            + self.slices_in_validation_and_test
            + self.slices_in_unlabelled_and_validation
            + self.slices_in_unlabelled_and_test
        )
        patients = (
            self.patients_in_train_and_validation
            + self.patients_in_train_and_test
            + self.patients_in_validation_and_test
            + self.patients_in_unlabelled_and_validation
            + self.patients_in_unlabelled_and_test
        )
        if slices or (patients and split_by == "patient"):
            raise BratsError(
                f"the split leaks: {slices} slices and {patients} patients are in two of training, "
                "validation and test; give another --workdir"
            )
        if not self.patients["validation"] and not self.patients["test"]:
            return (
                f"ALL PATIENTS TRAIN ({self.patients['train']}): no validation set, no test set, "
                "nothing to evaluate; scores of these patients say nothing about new scans"
            )
        if not patients:
            names = [k for k in ("train", "validation", "test", "unlabelled") if k in self.patients]
            counts = ", ".join(f"{self.patients[k]} {k}" for k in names if self.patients[k])
            return f"split by patient ({counts}): no patient in two sets"
        return (
            f"SPLIT BY SLICE: {self.patients_in_train_and_test} patients are in both training and "
            f"test, {self.test_slices_beside_a_training_slice:.0%} of test slices lie beside a "
            "training slice; scores are too good"
        )


def audit_leakage(store: Store, split: Split) -> Audit:
    """Counts the overlap between the sets of a fold.

    A person with labelled and unlabelled scans may be in training with both.
    """
    sets = {"train": split.train, "validation": split.validation, "test": split.test}
    if len(split.unlabelled):
        sets["unlabelled"] = split.unlabelled
    patients = {
        name: {store.subjects[p] for p in np.unique(store.patient_of[idx])}
        for name, idx in sets.items()
    }
    key = store.patient_of.astype(np.int64) * (1 << 20) + store.slice_number
    shared: dict[str, Any] = {}
    pairs = [pair for pair in itertools.combinations(sets, 2) if "unlabelled" not in pair]
    if "unlabelled" in sets:
        pairs += [("unlabelled", "validation"), ("unlabelled", "test")]
    for a, b in pairs:
        shared[f"patients_in_{a}_and_{b}"] = len(patients[a] & patients[b])
        shared[f"slices_in_{a}_and_{b}"] = int(np.intersect1d(sets[a], sets[b]).size)

    def share_beside_training(indices: np.ndarray) -> float:
        near = np.isin(key[indices] - 1, key[split.train])
        near |= np.isin(key[indices] + 1, key[split.train])
        return float(near.mean()) if near.size else 0.0

    return Audit(
        patients={name: len(persons) for name, persons in patients.items()},
        slices={name: len(indices) for name, indices in sets.items()},
        **shared,
        validation_slices_beside_a_training_slice=share_beside_training(split.validation),
        test_slices_beside_a_training_slice=share_beside_training(split.test),
        leaks=any(shared.values()),
    )


def describe_burden(store: Store, groups: Sequence[tuple[str, np.ndarray]]) -> list[str]:
    """One line per set: slices, slices with tumour, mean tumour pixels of a tumour slice."""
    lines = []
    for name, indices in groups:
        if not store.labelled[store.patient_of[indices]].any():
            lines.append(f"{name}: {plural(len(indices), 'slice')} without class labels")
            continue
        with_tumour = indices[store.has_tumour[indices]]
        pixels = store.pixels[with_tumour, 1:].sum(axis=1, dtype=np.int64)
        mean = pixels.mean() if pixels.size else 0.0
        lines.append(
            f"{name}: {plural(len(indices), 'slice')}, {len(with_tumour):,} with tumour, "
            f"{mean:,.0f} tumour pixels in such a slice"
        )
    return lines
