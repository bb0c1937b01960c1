"""Stores of the same patients in several planes, to be read as one by a training.

The slices of the first store come first and keep their numbers, then those of the others follow,
store by store. Slices of another plane have another size. All are read with the largest height and
width; pixels beyond a slice have the values of its background, and label 0.

    slice i of store k  ->  slice N_0 + ... + N_(k-1) + i
"""

import itertools
import os
from collections.abc import Sequence

import numpy as np

from brats_jax.data.neighbours import Neighbours
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.runtime.text import abridged


class SeveralPlanes(Store):
    """The slices of several stores under one numbering, for a training.

    Every store's patients are entries of `patients` of their own, of the same `subjects`.
    Provenance (`path`, `manifest`, `case`) is that of the first store.

    Args:
      stores: the first store and those of other planes, as `open_planes` returns them.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        # Not that of Store, which reads an index: here are indices of stores that are open.
        self.stores = tuple(stores)
        first = self.stores[0]
        self.path, self.manifest = first.path, first.manifest
        self._fingerprint = first.fingerprint
        self.patients = list(first.patients)
        for one in self.stores[1:]:
            self.patients += [f"{name} ({one.plane})" for name in one.patients]
        self.subjects = [name for one in self.stores for name in one.subjects]
        self.label_kinds = [kind for one in self.stores for kind in one.label_kinds]
        self.slice_shape = (
            max(one.slice_shape[0] for one in self.stores),
            max(one.slice_shape[1] for one in self.stores),
        )
        for name in ("labelled", "present", "slice_number", "pixels", "has_tumour", "whole", "box"):
            setattr(self, name, np.concatenate([getattr(one, name) for one in self.stores]))
        self.background = np.concatenate([one.background for one in self.stores])
        self._whole_background = np.ascontiguousarray(self.background).view(np.uint64)[:, 0]
        self.num_slices = len(self.slice_number)
        self._begin = _starts([one.num_slices for one in self.stores])
        patients = _starts([len(one.patients) for one in self.stores])
        self.patient_of = np.concatenate(
            [one.patient_of + start for one, start in zip(self.stores, patients, strict=False)],
            dtype=np.int32,
        )
        self._tumour_begin = _starts([int(one.tumour_offsets[-1]) for one in self.stores])
        self.tumour_offsets = np.concatenate(
            [
                *(
                    one.tumour_offsets[:-1] + start
                    for one, start in zip(self.stores, self._tumour_begin, strict=False)
                ),
                self._tumour_begin[-1:],
            ]
        )
        self._first = np.searchsorted(self.patient_of, np.arange(len(self.patients) + 1))
        self._neighbours = Neighbours(self.patient_of, self.slice_number)

    @property
    def tumour_pixels(self) -> np.ndarray:
        """As in `Store`, with W of this store; made anew each time."""
        return self.tumour_positions(np.arange(self.tumour_offsets[-1]))

    def tumour_positions(self, numbers: np.ndarray) -> np.ndarray:
        """Flat positions row * W + column of tumour pixels, W of this store: int64[n]."""
        found = np.empty(len(numbers), np.int64)
        of = np.searchsorted(self._tumour_begin, numbers, side="right") - 1
        for k, one in enumerate(self.stores):
            here = of == k
            own = one.tumour_positions(numbers[here] - self._tumour_begin[k])
            found[here] = self._widened(own, one)
        return found

    def pixels_of_class(self, index: int, number: int) -> np.ndarray:
        """Flat positions of a slice's pixels of a class, W of this store: int64[n]."""
        one, own = self._place(index)
        return self._widened(one.pixels_of_class(own, number), one)

    def shapes(self, indices: np.ndarray) -> np.ndarray:
        """As in `Store.shapes`: of each slice in its own store."""
        of = np.searchsorted(self._begin, indices, side="right") - 1
        return np.array([one.slice_shape for one in self.stores], np.int64)[of]

    def check(self, indices: np.ndarray) -> None:
        """As in `Store.check`."""
        for k, one in enumerate(self.stores):
            begin, end = self._begin[k : k + 2]
            one.check(indices[(indices >= begin) & (indices < end)] - begin)

    def in_all_planes(self, indices: np.ndarray) -> np.ndarray:
        """int64[n] ascending: slices of the first store, and all others of their patients.

        Args:
          indices: int[m], slices of the first store.
        """
        count = len(self.stores[0].patients)
        patients = np.unique(self.patient_of[indices])
        beyond = np.arange(self.stores[0].num_slices, self.num_slices)
        found = beyond[np.isin(self.patient_of[beyond] % count, patients)]
        return np.concatenate([np.sort(np.asarray(indices, np.int64)), found])

    def _place(self, index: int) -> tuple[Store, int]:
        """The store of a slice, and its number there."""
        if not 0 <= index < self.num_slices:
            raise IndexError(f"slice {index} of a store of {self.num_slices}")
        k = int(np.searchsorted(self._begin, index, side="right")) - 1
        return self.stores[k], index - int(self._begin[k])

    def _pixels(self, index: int) -> tuple[list[int], np.ndarray, np.ndarray]:
        one, own = self._place(index)
        return one._pixels(own)

    def _widened(self, positions: np.ndarray, of: Store) -> np.ndarray:
        """Flat positions in slices of a store as positions in the slices of this one."""
        row, column = np.divmod(positions.astype(np.int64), of.slice_shape[1])
        return row * self.slice_shape[1] + column


def open_planes(store: Store, others: Sequence[str | os.PathLike[str]]) -> SeveralPlanes | None:
    """Opens the stores of other planes beside a store; None without any.

    Args:
      store: the first store, or what it was before sources were added to it.
      others: folders of stores of the same patients, each in another plane.

    Raises:
      BratsError: a store of a plane that is there already, of another normalisation, or of other
        patients or labels; or as in `Store.open`.
    """
    found = [store]
    for path in others:
        one = Store.open(path)
        if one.plane in {other.plane for other in found}:
            raise BratsError(
                f"config.data.other_planes: {one.path} has {one.plane} slices, as another of the "
                "stores: give one store for each plane (prepare --plane=coronal or sagittal)"
            )
        if one.manifest.normalisation != store.manifest.normalisation:
            raise BratsError(
                f"{one.path} is normalised by {one.manifest.normalisation}, {store.path} by "
                f"{store.manifest.normalisation}: prepare both with the same --normalisation"
            )
        found.append(_of_the_same_patients(one, store))
    return SeveralPlanes(found) if others else None


def _of_the_same_patients(other: Store, store: Store) -> Store:
    """A store as of the time when it held the patients of `store` (BratsError: it never did)."""
    earlier = (other.as_of(one.fingerprint) for one in other.manifest.earlier)
    for one in itertools.chain([other], earlier):
        if one.patients == store.patients:
            break
    else:
        differing = sorted({*other.patients} ^ {*store.patients})
        raise BratsError(
            f"{other.path} has other patients than {store.path}"
            + (f" ({abridged(differing)})" if differing else ", or another order of them")
            + ": prepare both from the same sources, in the same order"
        )
    for name, their, our in zip(
        one.patients, _contents_by_patient(one), _contents_by_patient(store), strict=True
    ):
        if their != our:
            raise BratsError(
                f"{other.path} has other labels or modalities of {name} than {store.path}: "
                "prepare both from the same files"
            )
    return one


def _contents_by_patient(store: Store) -> list[tuple[object, ...]]:
    """Of each patient what no plane changes: person, labels, modalities, pixels by class."""
    count = len(store.patients)
    pixels = np.zeros((count, store.pixels.shape[1]), np.int64)
    np.add.at(pixels, store.patient_of, store.pixels)
    tumour = np.bincount(store.patient_of, np.diff(store.tumour_offsets), count).astype(np.int64)
    facts = zip(
        store.subjects, store.label_kinds, store.present.tolist(), pixels[:, 1:].tolist(),
        tumour.tolist(), strict=True,
    )  # fmt: skip
    return [tuple(one) for one in facts]


def _starts(counts: Sequence[int]) -> np.ndarray:
    """int64[n + 1]: the sum of the counts before each, and of all."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
