"""The slices of a set that a stage uses: by labels, modalities and tumour."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brats_jax.data.folds import fold_entropy
from brats_jax.data.modalities import DISPLAY_NAMES, MODALITIES, NO_LABELS
from brats_jax.data.splits import Split, Splits
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.runtime.text import abridged, plural

# A slice without labels may hold tumour if its box around the head is at least this share of the
# patient's largest one: 89 % of the tumour slices of 20 cases of BraTS, 59 % of all.
LARGE_BOX = 0.5

# Of this many patients with labels one is held out to choose the checkpoint. With fewer, a patient
# less to train on would cost more than the choice is worth.
HELD_OUT = 5


def labelled_slices(
    store: Store, indices: np.ndarray, count: int, splits: Splits, fold: int
) -> np.ndarray:
    """Keeps the slices of some patients.

    Takes the first patients in a random order that is a pure function of the split's seed and the
    fold, so that a smaller number is a subset of every larger one. Patients are persons; in a split
    by slice the units are slices.

    Args:
      store: the data.
      indices: int64[n] ascending, the training slices with all labels.
      count: number of patients.
      splits: the splits.
      fold: number of the fold.

    Returns:
      int64[m] ascending.
    """
    return _first_units(
        indices, _units(store, indices, splits), count, [splits.seed, fold_entropy(fold), 0x1ABE1]
    )


@dataclass(frozen=True)
class LabelBudget:
    """The division of the patients whose labels a training may use.

    Attributes:
      train: int64[n] ascending, the slices to train on.
      held_out: the slices that choose the checkpoint; empty: the last checkpoint is taken.
    """

    train: np.ndarray
    held_out: np.ndarray


def label_budget(
    store: Store, indices: np.ndarray, patients: int, splits: Splits, fold: int
) -> LabelBudget:
    """Divides the first patients in the order of `labelled_slices` into training and selection.

        patients  1 to 4   all train, and none is held out
                  n        n - n // 5 train, the last n // 5 are held out

    The training patients of a smaller budget are a subset of those of every larger one.

    Args:
      store, indices, splits, fold: as in `labelled_slices`.
      patients: the budget.
    """
    every = labelled_slices(store, indices, patients, splits, fold)
    train = labelled_slices(store, indices, patients - patients // HELD_OUT, splits, fold)
    return LabelBudget(train, np.setdiff1d(every, train))


def count_labelled(
    store: Store, indices: np.ndarray, fraction: float, splits: Splits
) -> tuple[int, int]:
    """(ceil(fraction * n), at least one; n), with n patients or, in a split by slice, slices."""
    every = len(np.unique(_units(store, indices, splits)))
    return max(1, _share(fraction, every)), every


def _units(store: Store, indices: np.ndarray, splits: Splits) -> np.ndarray:
    """int[n]: the person of each slice; in a split by slice the slice itself."""
    return _persons_of(store, indices) if splits.split_by == "patient" else np.arange(len(indices))


def unlabelled_slices(
    store: Store, indices: np.ndarray, fraction: float, splits: Splits, fold: int
) -> np.ndarray:
    """Keeps the slices of a share of the persons: ceil(fraction * n) of n.

    As in `labelled_slices` a smaller share is a subset of every larger one.

    Args:
      store: the data.
      indices: int64[n] ascending, the slices without labels that a pretraining can use.
      fraction: from 0, none, to 1, all.
      splits: the splits.
      fold: number of the fold.

    Returns:
      int64[m] ascending.
    """
    units = _persons_of(store, indices)
    count = _share(fraction, len(np.unique(units)))
    return _first_units(indices, units, count, [splits.seed, fold_entropy(fold), 0x04ABE1])


def _persons_of(store: Store, indices: np.ndarray) -> np.ndarray:
    """int[n]: the person of each slice, numbered."""
    subjects = np.array(store.subjects)[store.patient_of[indices]]
    return np.unique(subjects, return_inverse=True)[1]


def _share(fraction: float, count: int) -> int:
    # Minus a tolerance: 0.07 * 100 is 7.000000000000001, but seven patients.
    return math.ceil(fraction * count - 1e-9)


def _first_units(
    indices: np.ndarray, units: np.ndarray, count: int, entropy: list[int]
) -> np.ndarray:
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    taken = rng.permutation(len(np.unique(units)))[:count]
    return indices[np.isin(units, taken)]


def pretraining_slices(
    store: Store, split: Split, fraction: float, splits: Splits, fold: int
) -> np.ndarray:
    """The training slices of a fold with those without labels; of these a share of the persons.

    Args:
      store, split, splits, fold: the data and the fold.
      fraction: see `unlabelled_slices`.

    Returns:
      int64[n] ascending.
    """
    unlabelled = split.unlabelled
    if fraction < 1:
        unlabelled = unlabelled_slices(store, unlabelled, fraction, splits, fold)
    return np.sort(np.concatenate([split.train, unlabelled]))


def count_patients(store: Store, indices: np.ndarray) -> int:
    """Number of persons of the slices."""
    return len({store.subjects[p] for p in np.unique(store.patient_of[indices])})


def every_kth_patient(store: Store, indices: np.ndarray, k: int) -> np.ndarray:
    """Keeps the slices of each k-th patient of these slices, the first one included."""
    kept = np.unique(store.patient_of[indices])[::k]
    return indices[np.isin(store.patient_of[indices], kept)]


def usable_slices(store: Store, indices: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Keeps the slices of the patients that a task can use: bool[P], see `Task.usable`."""
    return indices if usable.all() else indices[usable[store.patient_of[indices]]]


def note_on_left_out(
    store: Store, indices: np.ndarray, usable: np.ndarray, needs: Sequence[str], where: str
) -> str:
    """A line on patients of a set that a task cannot use; '' if there are none.

    Args:
      store, indices: the slices of the set.
      usable: bool[P].
      needs: the modalities that the task needs.
      where: the set in words, e.g. 'test'.
    """
    patients = np.unique(store.patient_of[indices])
    left = [p for p in patients if not usable[p]]
    if not left:
        return ""
    there = [name for k, name in enumerate(MODALITIES) if store.present[left, k].all()]
    lacking = [DISPLAY_NAMES[name] for name in needs if name not in there]
    return (
        f"{len(left)} of {plural(len(patients), f'{where} patient')} left out, without "
        f"{' or '.join(lacking) or 'enough modalities'}: "
        f"{abridged([store.patients[p] for p in left])}"
    )


def select_slices(store: Store, indices: np.ndarray, slices: str) -> np.ndarray:
    """Keeps the slices with tumour ('tumour') or all slices ('all').

    Of patients without any labels, 'tumour' keeps the slices that may hold tumour: those whose
    box around the head is at least half as large as the largest one of the patient.
    """
    if slices == "all":
        return indices
    if slices == "tumour":
        return indices[_may_hold_tumour(store, indices)]
    raise BratsError(f"unknown choice of slices '{slices}'; valid: tumour, all")


def _may_hold_tumour(store: Store, indices: np.ndarray) -> np.ndarray:
    found = store.has_tumour[indices].copy()
    bare = np.array([kind == NO_LABELS for kind in store.label_kinds])
    if bare.any():
        area = store.box[:, 2].astype(np.int64) * store.box[:, 3]
        largest = np.zeros(len(store.patients), np.int64)
        np.maximum.at(largest, store.patient_of, area)
        patients = store.patient_of[indices]
        large = area[indices] >= np.maximum(1, LARGE_BOX * largest[patients])
        found |= bare[patients] & large
    return found
