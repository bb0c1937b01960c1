"""The patch plan: slice, position and augmentation seed of every training example.

An example has the number n = step * batch_size + row. Its slice, position and seed are a pure
function of (seed, n), so that any process can draw any step again. Host and device cut the same
patches from the plan.
"""

import functools
from dataclasses import dataclass, field

import numpy as np

from brats_jax.data.slice_facts import SliceFacts
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError

SAMPLINGS = ("tumour", "classes")  # what a tumour-aware patch is drawn around; the paper's first
_OF_CLASS = 0xC1A55


@dataclass(frozen=True)
class Patches:
    """Patches to cut, one entry per example.

    Attributes:
      slices: int64[n] global slice indices of the store.
      rows, columns: int32[n] of the patch's first row and column in the slice.
      seeds: uint32[n], one augmentation seed per example.
      donors: int64[n], slices of other persons to cut at the same position, or None.
      facts: further arrays of n entries for the batch, by name.
      neighbours: int64[n, m], slices beside each to cut at the same position, or None.
    """

    slices: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    seeds: np.ndarray
    donors: np.ndarray | None = None
    facts: dict[str, np.ndarray] = field(default_factory=dict)
    neighbours: np.ndarray | None = None


class PatchPlan:
    """Random patches of the given slices, tumour-aware.

    The slices are visited in passes, each in a new random order of all slices. With probability
    `tumour_probability`, a slice with tumour yields a patch that contains a tumour pixel: the
    pixel is drawn uniformly from the slice's tumour pixels, then the patch uniformly from the
    positions that cover it. Other patches are uniform over all positions in the slice, and may
    contain tumour by chance.

    With `sampling='classes'` an example is, with probability `tumour_probability`, around a class
    instead, whatever slice the pass has for it:

        class ~ uniform over those of 1, 2, 3 with a pixel in any of the slices
        slice ~ uniform over the slices with a pixel of the class
        pixel ~ uniform over the slice's pixels of the class
        patch ~ uniform over the positions that cover the pixel

    so that each class is in at least p / 3 of the patches, and not in proportion to its pixels.
    nnU-Net draws its foreground patches around a random class, too, of a random case
    (https://arxiv.org/abs/1904.08128).

    Args:
      store: the prepared data; the plan reads its index only.
      slices: int[N] global slice indices to train on.
      patch_size: side of the square patch, in pixels.
      tumour_probability: p in [0, 1].
      seed: of all random numbers.
      purpose: distinguishes plans that share a seed.
      sampling: 'tumour' or 'classes'.
      facts: data of a slice besides image, label and seed; None: no such data.

    Raises:
      BratsError: no slices, a patch larger than the slices, p outside [0, 1].
    """

    def __init__(
        self,
        store: Store,
        slices: np.ndarray,
        *,
        patch_size: int,
        tumour_probability: float,
        seed: int,
        purpose: int = 0,
        sampling: str = SAMPLINGS[0],
        facts: SliceFacts | None = None,
    ) -> None:
        height, width = store.slice_shape
        if len(slices) == 0:
            raise BratsError(
                f"{store.path}: no slice to train on; let the stage use all slices "
                "(slices=all), or prepare more patients"
            )
        if not 1 <= patch_size <= min(height, width):
            raise BratsError(
                f"data.patch_size={patch_size} does not fit slices of {height} x {width} "
                f"({store.path}); set it to at most {min(height, width)}"
            )
        if not 0.0 <= tumour_probability <= 1.0:
            raise BratsError(
                f"tumour_probability must lie between 0 and 1, not {tumour_probability}"
            )
        self._store = store
        self._slices = np.asarray(slices, np.int64)
        self._patch_size = patch_size
        self._probability = tumour_probability
        self._entropy = (seed, purpose)
        if sampling not in SAMPLINGS:
            raise BratsError(f"unknown sampling '{sampling}'; valid: {', '.join(SAMPLINGS)}")
        # Of each class that occurs, the slices that hold it.
        self._with_class: dict[int, np.ndarray] = {}
        if sampling == "classes":
            there = store.pixels[self._slices] > 0
            self._with_class = {
                c: self._slices[there[:, c]] for c in range(1, there.shape[1]) if there[:, c].any()
            }
        self._facts = facts or SliceFacts(store)
        self._pass = functools.lru_cache(maxsize=2)(self._draw_pass)

    def __getstate__(self) -> dict:
        # The cache does not pickle, and its contents can be drawn again.
        state = self.__dict__.copy()
        del state["_pass"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._pass = functools.lru_cache(maxsize=2)(self._draw_pass)

    def __len__(self) -> int:
        """Examples in one pass: the number of slices."""
        return len(self._slices)

    def _draw_pass(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(order int64[N], uniforms float64[N, 4], seeds uint32[N]) of pass `number`."""
        rng = np.random.default_rng(np.random.SeedSequence([*self._entropy, number]))
        count = len(self._slices)
        order = rng.permutation(count)
        uniforms = rng.random((count, 4))
        seeds = rng.integers(0, 2**32, count, dtype=np.uint32)
        return order, uniforms, seeds

    def examples(self, first: int, count: int) -> Patches:
        """The examples `first` to `first + count - 1` of the run."""
        numbers = np.arange(first, first + count)
        slices = np.empty(count, np.int64)
        uniforms = np.empty((count, 4))
        seeds = np.empty(count, np.uint32)
        # A batch may extend into the next pass.
        for pass_number in np.unique(numbers // len(self)):
            here = numbers // len(self) == pass_number
            position = numbers[here] % len(self)
            order, pass_uniforms, pass_seeds = self._pass(int(pass_number))
            slices[here] = self._slices[order[position]]
            uniforms[here] = pass_uniforms[position]
            seeds[here] = pass_seeds[position]
        if self._with_class:
            must_cover, pixel = self._around_class(numbers, slices, uniforms)
        else:
            must_cover, pixel = self._around_tumour(slices, uniforms)
        width, size = self._store.slice_shape[1], self._patch_size
        # A slice smaller than the patch is filled up on one side.
        heights, widths = np.maximum(self._store.shapes(slices), size).T
        rows = _cover(pixel // width, heights, size, must_cover, uniforms[:, 2])
        columns = _cover(pixel % width, widths, size, must_cover, uniforms[:, 3])
        donors = self._facts.donors_of(slices, seeds)
        facts = self._facts.of(slices, donors)
        beside = self._facts.neighbours_of(slices)
        return Patches(slices, rows, columns, seeds, donors, facts, beside)

    def _around_tumour(
        self, slices: np.ndarray, uniforms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(bool[n], int64[n]): which patches cover a tumour pixel, and which pixel."""
        begin = self._store.tumour_offsets[slices]
        tumour_count = self._store.tumour_offsets[slices + 1] - begin
        aware = (tumour_count > 0) & (uniforms[:, 0] < self._probability)
        chosen = begin + (uniforms[:, 1] * tumour_count).astype(np.int64)
        pixel = np.zeros(len(slices), np.int64)
        pixel[aware] = self._store.tumour_positions(chosen[aware])
        return aware, pixel

    def _around_class(
        self, numbers: np.ndarray, slices: np.ndarray, uniforms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same around a pixel of a class; replaces the slices of these patches in place."""
        aware = uniforms[:, 0] < self._probability
        pixel = np.zeros(len(slices), np.int64)
        classes = sorted(self._with_class)
        for k in np.flatnonzero(aware):
            # Numbers of its own: those of the pass are as without classes.
            entropy = [*self._entropy, int(numbers[k]), _OF_CLASS]
            one, other = np.random.default_rng(np.random.SeedSequence(entropy)).random(2)
            number = classes[int(one * len(classes))]
            holders = self._with_class[number]
            slices[k] = holders[int(other * len(holders))]
            there = self._store.pixels_of_class(int(slices[k]), number)
            pixel[k] = there[int(uniforms[k, 1] * len(there))]
        return aware, pixel


def _cover(
    pixel: np.ndarray, extent: np.ndarray, size: int, must_cover: np.ndarray, uniform: np.ndarray
) -> np.ndarray:
    """First index of a window of `size` in [0, extent), uniform; covers `pixel` where it must."""
    low = np.where(must_cover, np.maximum(pixel - size + 1, 0), 0)
    high = np.where(must_cover, np.minimum(pixel, extent - size), extent - size)
    return (low + np.floor(uniform * (high - low + 1))).astype(np.int32)


def cut(store: Store, patches: Patches, size: int) -> dict[str, np.ndarray]:
    """Cuts the patches on the host.

    Returns:
      image float16[n, size, size, 4] (canonical modality order),
      label uint8[n, size, size], seed uint32[n]; the plan's `SliceFacts`; donor
      float16[n, size, size, 4] if it has donors, and neighbours float16[n, size, size, 4 m] if it
      has m neighbours, slice by slice.
    """
    place = patches.rows, patches.columns, (size, size)
    image, label = store.windows(patches.slices, *place)
    batch = {"image": image, "label": label, "seed": patches.seeds, **patches.facts}
    if patches.donors is not None:
        batch["donor"] = store.windows(patches.donors, *place)[0]
    if patches.neighbours is not None:
        batch["neighbours"] = store.stacked(patches.neighbours, *place)
    return batch
