"""Data of a slice besides its image and label, and the donors of its target.


present               bool[n, 4]      in a store where modalities are missing, always
background            float16[n, 4]   values outside the head
neighbours            float16[n, ...] the images of the slices beside it (`data.neighbours`)
neighbours_background float16[n, ...] of these slices
seed                  uint32[n]       of a whole slice: the same in every run and store
donor                 float16[n, ...] the images of a slice of another person
donor_background, donor_present       of that slice
"""

import zlib
from collections.abc import Collection

import numpy as np

from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError

NAMES = ("background", "seed", "donor")
# The golden ratio in 64 bits: multiples of it spread evenly (Fibonacci hashing).
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class Donors:
    """Draws for a slice a slice of another person, uniformly among those of a pool.

    Args:
      store: the data.
      pool: int[N] global indices of the slices to draw from.

    Raises:
      BratsError: all slices of the pool are of one person.
    """

    def __init__(self, store: Store, pool: np.ndarray) -> None:
        names = {name: number for number, name in enumerate(sorted(set(store.subjects)))}
        self._person = np.array([names[name] for name in store.subjects])
        self._patient_of = store.patient_of
        of_pool = self._person[store.patient_of[pool]]
        order = np.argsort(of_pool, kind="stable")
        self._pool = np.asarray(pool, np.int64)[order]
        self._first = np.searchsorted(of_pool[order], np.arange(len(names) + 1))
        if np.diff(self._first).max(initial=0) == len(self._pool):
            raise BratsError(
                f"{store.path}: config.pretrain.task=shuffled takes the target from another "
                "person, but all training slices are of one; prepare more patients"
            )

    def of(self, slices: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """int64[n]: a donor for each slice, a function of slice and seed."""
        person = self._person[self._patient_of[slices]]
        begin, end = self._first[person], self._first[person + 1]
        mixed = (seeds.astype(np.uint64) + np.uint64(1)) * _SPREAD  # modulo 2^64
        uniform = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
        others = len(self._pool) - (end - begin)
        chosen = np.floor(uniform * others).astype(np.int64)
        return self._pool[np.where(chosen < begin, chosen, chosen + (end - begin))]


class SliceFacts:
    """The facts that a task needs of its slices.

    Args:
      store: the data.
      names: of `NAMES`, the facts to give.
      pool: int[N] global indices to draw donors from; only with the name "donor".
      context: number of neighbours on each side.
    """

    def __init__(
        self,
        store: Store,
        names: Collection[str] = (),
        pool: np.ndarray | None = None,
        context: int = 0,
    ) -> None:
        self._store, self._names, self._context = store, frozenset(names), context
        self._donors = None
        if "donor" in self._names:
            assert pool is not None
            self._donors = Donors(store, pool)

    def donors_of(self, slices: np.ndarray, seeds: np.ndarray) -> np.ndarray | None:
        """int64[n]: the donors of slices, or None without donors."""
        return None if self._donors is None else self._donors.of(slices, seeds)

    def neighbours_of(self, slices: np.ndarray) -> np.ndarray | None:
        """int64[n, 2 context]: the neighbours of slices, or None without a context."""
        return self._store.neighbours(slices, self._context) if self._context else None

    def with_neighbours(self, slices: np.ndarray) -> np.ndarray:
        """int64[m]: all slices whose images are read for `slices`, without donors."""
        beside = self.neighbours_of(slices)
        return slices if beside is None else np.union1d(slices, beside)

    def of(self, slices: np.ndarray, donors: np.ndarray | None) -> dict[str, np.ndarray]:
        """The facts of slices and of their donors that are arrays of a few numbers."""
        found = self._of(slices)
        if donors is not None:
            found |= {f"donor_{name}": values for name, values in self._of(donors).items()}
        beside = self.neighbours_of(slices) if "background" in self._names else None
        if beside is not None:
            of_each = self._store.background[beside].reshape(len(slices), -1)
            found["neighbours_background"] = np.ascontiguousarray(of_each)
        return found

    def of_whole(self, slices: np.ndarray) -> dict[str, np.ndarray]:
        """All facts of whole slices, with the images of donors and neighbours."""
        found: dict[str, np.ndarray] = {}
        seeds = self.seeds(slices) if self._names & {"seed", "donor"} else np.zeros(0, np.uint32)
        donors = self.donors_of(slices, seeds)
        if "seed" in self._names:
            found["seed"] = seeds
        if donors is not None:
            found["donor"] = self._store.read(donors)[0]
        if (beside := self.neighbours_of(slices)) is not None:
            nowhere = np.zeros(len(slices), np.int64)
            shape = self._store.slice_shape
            found["neighbours"] = self._store.stacked(beside, nowhere, nowhere, shape)
        return found | self.of(slices, donors)

    def seeds(self, slices: np.ndarray) -> np.ndarray:
        """uint32[n]: of the names of patient and slice, so that they never change."""
        store = self._store
        names = (f"{store.patients[store.patient_of[i]]}/{store.slice_number[i]}" for i in slices)
        return np.array(
            [zlib.crc32(name.encode("utf-8", "surrogateescape")) for name in names], np.uint32
        )

    def _of(self, slices: np.ndarray) -> dict[str, np.ndarray]:
        found = dict(self._store.presence(slices))
        if "background" in self._names:
            found["background"] = np.ascontiguousarray(self._store.background[slices])
        return found
