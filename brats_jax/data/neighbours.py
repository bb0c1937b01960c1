"""Neighbouring slices as further channels (2.5D): which they are, and the names of the channels.

With a context of k slices on each side the channels of a network's input are ordered slice by
slice, the slice itself first and then the nearest ones,

    0, -1, +1, -2, +2      in numbers of slices; -1 is the slice below

and within each slice as its modalities: t1, t1gd, t1@-1, t1gd@-1, t1@+1, t1gd@+1. In place of a
slice that the patient does not have stands the nearest one that exists: at an end of the volume
the last slice there, for the end itself the slice itself. No slice of another patient is read.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from brats_jax.data.modalities import canonical_name

if TYPE_CHECKING:
    import jax  # a store is read without it

AnyArray = TypeVar("AnyArray", np.ndarray, "jax.Array")

AT = "@"  # between modality and offset, in the name of a channel
_HAS = "has:"  # before the modality, in the name of a channel that says whether it is there


def offsets(context: int) -> tuple[int, ...]:
    """The neighbours in the order of the channels, without the slice itself: (-1, 1, -2, 2)."""
    return tuple(sign * distance for distance in range(1, context + 1) for sign in (-1, 1))


def channel_names(modalities: Sequence[str], context: int) -> tuple[str, ...]:
    """The names of all channels: ('t1', 't1@-1', 't1@+1')."""
    return tuple(
        f"{name}{AT}{offset:+d}" if offset else name
        for offset in (0, *offsets(context))
        for name in modalities
    )


def presence_names(modalities: Sequence[str]) -> tuple[str, ...]:
    """The names of the channels of presence (see `models.presence`): ('has:t1', 'has:flair')."""
    return tuple(_HAS + name for name in modalities)


def is_presence(channel: str) -> bool:
    """Whether a channel says that a modality is there, and is none of its images."""
    return channel.startswith(_HAS)


def canonical_channel(name: str) -> str:
    """A channel's name with the canonical spelling of its modality: 'T1ce@-1' -> 't1gd@-1'.

    Raises:
      BratsError: an unknown modality.
    """
    has = _HAS if name.startswith(_HAS) else ""
    modality, at, offset = name.removeprefix(has).partition(AT)
    return has + canonical_name(modality) + at + offset


def in_scan(slices: np.ndarray, count: int, context: int) -> np.ndarray:
    """The neighbours of slices of one scan that has all its slices.

    Args:
      slices: int[n], positions in the scan.
      count: number of its slices.
      context: slices on each side.

    Returns:
      int64[n, 2 context], in the order of `offsets`.
    """
    wanted = np.asarray(slices, np.int64)[:, None] + np.array(offsets(context), np.int64)
    return np.clip(wanted, 0, count - 1)


def stacked(images: AnyArray, beside: AnyArray) -> AnyArray:
    """The slices beside each slice as channels, of NumPy or JAX arrays.

    Args:
      images: [S, H, W, 4], the slices of a scan.
      beside: int[n, m], their neighbours.

    Returns:
      [n, H, W, 4 m], slice by slice.
    """
    near = images[beside].transpose(0, 2, 3, 1, 4)
    return near.reshape(*near.shape[:3], near.shape[3] * near.shape[4])


def blank_slices(images: np.ndarray, context: int) -> np.ndarray:
    """int64[m]: the slices of a scan [S, H, W, 4] that are 0 with all their neighbours."""
    empty = np.asarray(~images.any(axis=(1, 2, 3)))
    beside = in_scan(np.arange(len(images)), len(images), context)
    return np.flatnonzero(empty & empty[beside].all(axis=1))


class Neighbours:
    """Finds the neighbours of the slices of a store by their numbers in the volume.

    Args:
      patient_of: int[N], the patient of each slice.
      slice_number: int[N], its position in the volume, which may lack slices.
    """

    def __init__(self, patient_of: np.ndarray, slice_number: np.ndarray) -> None:
        self._patient, self._number = patient_of.astype(np.int64), slice_number.astype(np.int64)
        self._order = np.lexsort((self._number, self._patient))
        # Numbers of one patient are far from those of the next one, further than any offset.
        self._stride = 4 * (int(self._number.max(initial=0)) + 1)
        self._keys = self._key(self._patient, self._number)[self._order]

    def _key(self, patient: np.ndarray, number: np.ndarray) -> np.ndarray:
        return patient * self._stride + number

    def of(self, slices: np.ndarray, context: int) -> np.ndarray:
        """int64[n, 2 context]: the neighbours of slices int[n], in the order of `offsets`.

        Where the patient lacks one, it is the slice nearest to its place; of two the one nearer
        to the slice itself.
        """
        slices = np.asarray(slices, np.int64)
        patient, number = self._patient[slices], self._number[slices]
        found = np.empty((len(slices), 2 * context), np.int64)
        for column, offset in enumerate(offsets(context)):
            wanted = number + offset
            above = np.searchsorted(self._keys, self._key(patient, wanted))
            below = self._order[np.maximum(above - 1, 0)]
            above = self._order[np.minimum(above, len(self._order) - 1)]
            far = np.iinfo(np.int64).max
            to_above, to_below = (
                np.where(self._patient[near] == patient, np.abs(self._number[near] - wanted), far)
                for near in (above, below)
            )
            takes_above = to_above < to_below if offset > 0 else to_above <= to_below
            found[:, column] = np.where(takes_above, above, below)
        return found
