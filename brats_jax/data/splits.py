"""The patients (or slices) of training, validation and test: drawn and frozen."""

import dataclasses
import fnmatch
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from brats_jax.data.folds import ALL, fold_title
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.runtime.document import SealedDocument, read_document
from brats_jax.runtime.text import abridged

SPLIT_BY = ("patient", "slice")


@dataclass(frozen=True)
class Splits(SealedDocument):
    """splits.json: the test set and the folds of a run.

    Attributes:
      split_by: 'patient' or 'slice'; the units that `test` and `folds` name.
      seed: of the draw.
      test_fraction: share of the units in the test set; 0 for a cross-validation.
      num_folds: number of folds.
      patients: all patients of the store, in the order of the store.
      test: sorted names of the test units: subjects, or 'patient/slice_number'.
      folds: sorted names of the validation units of each fold; in a cross-validation, of its
        test units.
      unlabelled: sorted names of the persons without class labels, who are in no set: the
        pretraining of every fold may use them.
      training_only: sorted names of the persons with class labels who are in no test set and in
        no fold's validation set: they train in every fold. All, where there are no folds
        (config.folds=all).
    """

    SCHEMA: ClassVar[str] = "brats_jax.splits"
    REMEDY: ClassVar[str] = "copy it again if it was copied, or give another --workdir"
    split_by: str
    seed: int
    test_fraction: float
    num_folds: int
    patients: tuple[str, ...]
    test: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]
    unlabelled: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the document.

        Raises:
          ValueError: as in `Document`; a unit is in two sets, or twice in one; another number of
            folds than stated.
        """
        splits = super().from_json(document)
        if splits.split_by not in SPLIT_BY:
            raise ValueError(f"'split_by' is {splits.split_by!r}, not {' or '.join(SPLIT_BY)}")
        if len(splits.folds) != splits.num_folds:
            raise ValueError(f"it has {len(splits.folds)} folds, not {splits.num_folds}")
        if splits.all_train and splits.test:
            raise ValueError("it has a test set, but no folds")
        seen: dict[str, str] = {}
        others = (
            ("the unlabelled persons", splits.unlabelled),
            ("the persons for training only", splits.training_only),
        )
        for where, names in (*splits.sets(), *others):
            for name in names:
                if name in seen:
                    raise ValueError(f"'{name}' is in {seen[name]} and again in {where}")
                seen[name] = where
        return splits

    def sets(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(name, units) of the test set and of each fold."""
        yield "the test set", self.test
        for number, names in enumerate(self.folds):
            yield f"fold {number}", names

    @property
    def all_train(self) -> bool:
        """Whether there is neither a test set nor a fold: all patients train."""
        return not self.num_folds

    @property
    def cross_validates(self) -> bool:
        """Whether every unit is tested once, by the fold that it does not train."""
        return bool(self.num_folds) and not self.test_fraction

    @property
    def digest(self) -> str:
        """SHA-256 of the sets, in any order of their units."""
        sets = [self.split_by, *(sorted(names) for _, names in self.sets())]
        if self.training_only:
            sets.append(sorted(self.training_only))
        return hashlib.sha256(json.dumps(sets).encode()).hexdigest()


@dataclass(frozen=True)
class Split:
    """Global slice indices of one fold; every array is ascending int64[n].

    Attributes:
      train, validation, test: of patients with class labels; of all in a store without labels.
      unlabelled: of patients without, whose person is in neither validation nor test.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    unlabelled: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))


def make_splits(
    store: Store,
    *,
    split_by: str = "patient",
    test_fraction: float = 0.15,
    num_folds: int = 5,
    seed: int = 0,
    training_only: Sequence[str] = (),
    all_train: bool = False,
) -> Splits:
    """Draws the hold-out test set and the folds.

    Patients are sorted by tumour burden (tumour pixels over all slices) and distributed in that
    order, at random within each group of neighbours, so that the test set and every fold have
    similar burdens. All scans of one person go to the same set. With `split_by='slice'` the units
    are single slices, as in the paper's split of files: neighbouring slices of one patient are
    then in different sets.

    Only persons with class labels are drawn; those without are listed as unlabelled. In a store
    without any labels all are drawn, for pretraining alone.

    Args:
      store: the prepared data.
      split_by: 'patient' or 'slice'.
      test_fraction: share of the units held out, in [0, 1); rounded, at least one. 0: none, and
        each fold is tested on its own units, see `Splits.cross_validates`.
      num_folds: cross-validation folds over the rest.
      seed: the draw is a pure function of the units and this number.
      training_only: names or patterns (`*`, `?`) of persons who train in every fold and are in no
        validation or test set; the shares are of the others.
      all_train: no test set and no fold, as for a final model; of the others only `seed` counts.
        In a store without any labels all persons train.

    Raises:
      BratsError: for unknown values, fewer units than the folds need, or a pattern of nobody.
    """
    if all_train:
        return _split_of_all(store, seed)
    if split_by not in SPLIT_BY:
        raise BratsError(f"unknown data.split_by '{split_by}'; valid: {', '.join(SPLIT_BY)}")
    if not 0.0 <= test_fraction < 1.0:
        raise BratsError(f"data.test_fraction must be at least 0 and below 1, not {test_fraction}")
    if num_folds < 2:
        raise BratsError(f"data.num_folds must be at least 2, not {num_folds}")
    drawn = _drawn(store)
    kept = _training_only(store, training_only)
    if kept and split_by != "patient":
        raise BratsError("data.training_only names persons; it needs data.split_by=patient")
    slices = np.flatnonzero(drawn[store.patient_of])
    burden_of_slice = store.pixels[slices, 1:].sum(axis=1, dtype=np.int64)
    persons = _persons(store)
    if split_by == "patient":
        number = {name: k for k, name in enumerate(persons)}
        person = np.array([number.get(name, 0) for name in store.subjects])
        of_slice = person[store.patient_of[slices]]
        burden = np.bincount(of_slice, burden_of_slice, minlength=len(persons))
        names = [name for name in persons if name not in kept]
        burden = burden[[number[name] for name in names]]
    else:
        burden = burden_of_slice
        names = [slice_name(store, int(i)) for i in slices]
    num_test = max(1, round(test_fraction * len(names))) if test_fraction else 0
    labelled = "" if drawn.all() else "labelled "
    if len(names) - num_test < num_folds:
        raise BratsError(
            f"{store.path}: {len(names)} {labelled}{split_by}s are too few for "
            f"{f'{num_test} in the test set and ' if num_test else ''}{num_folds} folds; "
            f"prepare at least {num_folds + (num_test > 0)}, or set --config.data.num_folds lower "
            "(two at least)"
        )
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5B117]))
    order = np.lexsort((rng.permutation(len(names)), burden))
    test, rest = _take_evenly(order, num_test, rng)
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for start in range(0, len(rest), num_folds):
        group = rest[start : start + num_folds]
        # The folds of a short last group are drawn at random too.
        for fold, unit in zip(rng.permutation(num_folds), group, strict=False):
            folds[fold].append(int(unit))
    return Splits(
        split_by=split_by,
        seed=seed,
        test_fraction=test_fraction,
        num_folds=num_folds,
        patients=tuple(store.patients),
        test=tuple(sorted(names[i] for i in test)),
        folds=tuple(tuple(sorted(names[i] for i in fold)) for fold in folds),
        unlabelled=tuple(sorted({*store.subjects} - {*persons})),
        training_only=kept,
    )


def _split_of_all(store: Store, seed: int) -> Splits:
    persons = _persons(store)
    return Splits(
        split_by="patient",
        seed=seed,
        test_fraction=0.0,
        num_folds=0,
        patients=tuple(store.patients),
        test=(),
        folds=(),
        unlabelled=tuple(sorted({*store.subjects} - {*persons})),
        training_only=tuple(persons),
    )


def _drawn(store: Store) -> np.ndarray:
    """bool[P]: the patients that sets are drawn from."""
    return store.labelled if store.labelled.any() else np.ones(len(store.patients), bool)


def _persons(store: Store) -> list[str]:
    """The persons that sets are drawn from, sorted: those with a drawn scan."""
    pairs = zip(store.subjects, _drawn(store), strict=True)
    return sorted({name for name, is_drawn in pairs if is_drawn})


def _training_only(store: Store, patterns: Sequence[str]) -> tuple[str, ...]:
    """The sorted persons with drawn scans that match any of the patterns."""
    persons = _persons(store)
    kept: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(persons, pattern)
        if not found:
            raise BratsError(
                f"data.training_only={pattern}: no person with labels in {store.path} has such a "
                f"name; the first are {abridged(persons[:3])}"
            )
        kept.update(found)
    return tuple(sorted(kept))


def _take_evenly(
    order: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One unit at random out of each of `count` equal runs of `order`; returns (taken, rest)."""
    edges = np.linspace(0, len(order), count + 1).round().astype(int)
    picks = np.array([rng.integers(a, b) for a, b in itertools.pairwise(edges)], int)
    return order[picks], np.delete(order, picks)


def slice_name(store: Store, index: int) -> str:
    """'patient/slice_number' of a global slice index."""
    return f"{store.patients[store.patient_of[index]]}/{int(store.slice_number[index])}"


def load_or_make_splits(path: Path, store: Store, **options: object) -> Splits:
    """Returns the frozen splits at `path`; draws and freezes them if there are none.

    Raises:
      BratsError: the file is unreadable, was drawn with other options, or belongs to a store
        with other patients.
    """
    if not path.exists():
        splits = make_splits(store, **options)  # type: ignore[arg-type]
        splits.write(path)
        return splits
    splits = read_document(path, Splits)
    if splits.all_train != bool(options.get("all_train")):
        begun = "was started with config.folds=all"
        if not splits.all_train:
            begun = "was started without config.folds=all"
        raise BratsError(
            f"{path.parent} {begun}; give another --workdir, or the setting it was started with"
        )
    if not splits.all_train:
        patterns: Sequence[str] = options.get("training_only", ())  # type: ignore[assignment]
        options = {**options, "training_only": _training_only(store, patterns)}
    for name, wanted in options.items():
        if getattr(splits, name) != wanted:
            raise BratsError(
                f"{path}: drawn with {name}={getattr(splits, name)}, now {name}={wanted}; "
                "give another --workdir, or the setting it was drawn with"
            )
    if splits.patients != tuple(store.patients):
        raise BratsError(
            f"{path}: drawn for {len(splits.patients)} patients that are not the "
            f"{len(store.patients)} of {store.path}; give the store it was drawn for, "
            "or another --workdir"
        )
    check_splits(splits, store, path)
    return splits


def check_splits(splits: Splits, store: Store, path: Path) -> None:
    """Checks that every unit of the store is in exactly one set, and nothing else is.

    Persons for training only count as a set. The unlabelled persons must be those of the store.

    Args:
      splits: read from `path`, so that no unit is in two sets.
      store: the data.
      path: of the file, for the message.

    Raises:
      BratsError: names a unit that is missing or unknown, or an empty set.
    """
    unit = "person" if splits.split_by == "patient" else "slice"
    if splits.split_by == "patient":
        units = set(_persons(store))
    else:
        drawn = np.flatnonzero(_drawn(store)[store.patient_of])
        units = {slice_name(store, int(i)) for i in drawn}
    named: set[str] = {*splits.training_only}
    problem = ""
    if splits.patients != tuple(store.patients):
        problem = f"it lists other patients than {store.path}"
    for where, names in splits.sets():
        named.update(names)
        if not names and (where != "the test set" or splits.test_fraction):
            problem = f"{where} is empty"
    if unknown := sorted(named - units):
        problem = f"'{unknown[0]}' is no {unit} of {store.path}"
    elif missing := sorted(units - named):
        problem = f"the {unit} '{missing[0]}' of {store.path} is in none of its sets"
    elif other := sorted({*splits.unlabelled} ^ ({*store.subjects} - {*_persons(store)})):
        state = "lists" if other[0] in splits.unlabelled else "does not list"
        problem = f"it {state} '{other[0]}' of {store.path} among the unlabelled persons"
    if problem:
        raise BratsError(f"{path}: {problem}; {Splits.REMEDY}")


def fold_split(splits: Splits, store: Store, fold: int) -> Split:
    """The global slice indices of fold `fold`: all slices, with and without tumour.

    Fold `ALL`, of splits without folds, has no validation and no test set; a fold of a
    cross-validation has no validation set.

    Scans without labels follow their person: with one who is in validation or test they are in
    no set, in a split by patient.
    """
    if splits.all_train != (fold == ALL):
        raise BratsError(f"no {fold_title(fold)} in these splits; config.folds is of another run")
    if fold != ALL and not 0 <= fold < len(splits.folds):
        raise BratsError(f"no fold {fold}: config.folds may name 0 to {len(splits.folds) - 1}")
    held_out = () if fold == ALL else splits.folds[fold]
    groups = {
        "test": held_out if splits.cross_validates else splits.test,
        "validation": () if splits.cross_validates else held_out,
        "train": (
            *(name for k, names in enumerate(splits.folds) if k != fold for name in names),
            *splits.training_only,
        ),
    }
    drawn = _drawn(store)[store.patient_of]
    unlabelled = ~drawn
    if splits.split_by == "patient":
        subject_of = np.array(store.subjects)[store.patient_of]
        indices = {
            key: np.flatnonzero(np.isin(subject_of, names) & drawn) for key, names in groups.items()
        }
        unlabelled &= ~np.isin(subject_of, (*groups["validation"], *groups["test"]))
    else:
        position = {slice_name(store, i): i for i in range(store.num_slices)}
        indices = {
            key: np.sort(np.array([position[name] for name in names], np.int64))
            for key, names in groups.items()
        }
    return Split(**indices, unlabelled=np.flatnonzero(unlabelled))
