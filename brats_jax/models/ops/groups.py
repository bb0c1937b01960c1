"""The samples over which BatchNorm takes its statistics in training: groups of a batch.

A batch of B samples has B / N groups of N: samples 0 to N - 1, N to 2 N - 1, and so on.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import jax
from jax import lax


class Groups(NamedTuple):
    """Groups of the samples that a program sees.

    Attributes:
      size: samples of a group in this program; 0: all that it sees.
      axis: name of the mesh axis of a `shard_map` over which groups extend; '': none do.
      devices: neighbours on that axis that share a group.
    """

    size: int = 0
    axis: str = ""
    devices: int = 1

    @property
    def shared(self) -> bool:
        """Whether a group extends over devices."""
        return self.devices > 1

    def of_each(self, count: int) -> "Groups":
        """The groups of the same samples where each is `count` images, one after the other."""
        return self._replace(size=self.size * count)

    def add_up(self, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        """Adds up sums over this device's samples to sums over its group."""
        if not self.shared:
            return sums
        first = lax.axis_index(self.axis) // self.devices * self.devices

        def added(part: jax.Array) -> jax.Array:
            everyone = lax.all_gather(part, self.axis)
            return lax.dynamic_slice_in_dim(everyone, first, self.devices).sum(0)

        return tuple(map(added, sums))


WHOLE_BATCH = Groups()
_current: contextvars.ContextVar[Groups] = contextvars.ContextVar("groups", default=WHOLE_BATCH)


@contextlib.contextmanager
def normalised_over(groups: Groups) -> Iterator[None]:
    """Traces training forms of BatchNorm over these groups within the context."""
    token = _current.set(groups)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Groups:
    """The groups of the surrounding `normalised_over`; without one, the whole batch."""
    return _current.get()
