"""Slices of a store in device memory, and the crops that a compiled step gathers from them.

Images stay float16 and labels uint8, so that a patch has the bits that `patches.cut` gives it
on the host. All 24,422 tumour slices of BraTS 2020 are 12.7 GB, all 57,195 slices 29.6 GB.
"""

import functools
import os
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from brats_jax import devices
from brats_jax.data.patches import Patches
from brats_jax.data.store import Store
from brats_jax.errors import BratsError

PLACEMENTS = ("auto", "host", "device")

# Shares of a device's memory that the slices may take. What else lies there does not shrink with
# them: state, activations and, of a full-width network in bfloat16, about 40 MB a patch.
AUTO_SHARE = 0.5
LARGEST_SHARE = 0.9

BLOCK = 64  # slices that are copied at once: 33 MB


class DeviceSlices(NamedTuple):
    """A pytree: float16[N, H, W, 4] and uint8[N, H, W], a copy on every device."""

    images: jax.Array
    labels: jax.Array


class DeviceStore:
    """Some slices of a store, copied to every device of a mesh.

    Args:
      store: where they come from.
      slices: int[n] global indices; each is kept once.
      mesh: the devices.

    Attributes:
      arrays: what a compiled step takes as an argument.
    """

    def __init__(self, store: Store, slices: np.ndarray, mesh: Mesh) -> None:
        kept = np.unique(slices)
        self._position = np.full(store.num_slices, -1, np.int32)
        self._position[kept] = np.arange(len(kept), dtype=np.int32)
        everywhere = NamedSharding(mesh, PartitionSpec())
        shapes = (
            jax.ShapeDtypeStruct((len(kept), *store.slice_shape, 4), jnp.float16),
            jax.ShapeDtypeStruct((len(kept), *store.slice_shape), jnp.uint8),
        )
        empty = jax.jit(
            lambda: DeviceSlices(*(jnp.zeros(s.shape, s.dtype) for s in shapes)),
            out_shardings=everywhere,
        )
        write = jax.jit(_write, donate_argnums=0, out_shardings=everywhere)
        arrays = empty()
        block = min(BLOCK, len(kept))
        for start in range(0, len(kept), block):
            # The last block begins earlier, so that all have one size.
            start = min(start, len(kept) - block)
            part = DeviceSlices(*store.read(kept[start : start + block]))  # type: ignore[arg-type]
            arrays = write(arrays, devices.put_replicated(part, mesh), start)
        self.arrays = arrays

    def numbers(self, patches: Patches) -> dict[str, np.ndarray]:
        """What `gather` needs to cut the patches: position in the arrays, row, column, seed."""
        return {
            "slice": self._position[patches.slices],
            "row": patches.rows,
            "column": patches.columns,
            "seed": patches.seeds,
        }


def _write(arrays: DeviceSlices, part: DeviceSlices, start: jax.Array) -> DeviceSlices:
    pairs = zip(arrays, part, strict=True)
    return DeviceSlices(*(lax.dynamic_update_slice_in_dim(a, p, start, 0) for a, p in pairs))


def gather(
    arrays: DeviceSlices, numbers: Mapping[str, jax.Array], size: int, mesh: Mesh
) -> dict[str, jax.Array]:
    """The batch that `patches.cut` makes, cut on the devices; for use inside a compiled step.

    Args:
      arrays: a copy on every device.
      numbers: `DeviceStore.numbers` of a batch, divided among the devices.
      size: side of the patches.
      mesh: the devices; each cuts its own share and none of the slices move.
    """

    def one(arrays: DeviceSlices, at: jax.Array, row: jax.Array, column: jax.Array) -> tuple:
        image = lax.dynamic_slice(arrays.images, (at, row, column, 0), (1, size, size, 4))[0]
        return image, lax.dynamic_slice(arrays.labels, (at, row, column), (1, size, size))[0]

    share = PartitionSpec("data")
    cut = jax.shard_map(
        jax.vmap(one, in_axes=(None, 0, 0, 0)),
        mesh=mesh,
        in_specs=(PartitionSpec(), share, share, share),
        out_specs=(share, share),
    )
    image, label = cut(arrays, numbers["slice"], numbers["row"], numbers["column"])
    # Without the barrier what follows is compiled together with the cutting, and its rounding
    # may differ from that of a step that is given the patches.
    image, label = lax.optimization_barrier((image, label))
    return {"image": image, "label": label, "seed": numbers["seed"]}


def bytes_needed(store: Store, slices: np.ndarray) -> int:
    """Device memory that the slices take, on each device."""
    height, width = store.slice_shape
    return len(np.unique(slices)) * height * width * (4 * 2 + 1)


def choose_placement(setting: str, store: Store, slices: np.ndarray, mesh: Mesh) -> str:
    """'host' or 'device': where the patches are cut.

    'auto' is the device where it is an accelerator and the slices take at most half of its
    memory. On CPU it is the host: both are far faster than a step there (benchmarks/loader.py),
    and device memory would be a second copy in the same RAM.

    Raises:
      BratsError: the device was asked for by name, and the slices do not fit.
    """
    if setting == "host":
        return setting
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    if setting == "auto" and on_cpu:
        return "host"
    needed, there = bytes_needed(store, slices), _memory(mesh)
    # The devices of a CPU are one memory.
    copies = mesh.size if on_cpu else 1
    share = AUTO_SHARE if setting == "auto" else LARGEST_SHARE
    if needed * copies <= share * there:
        return "device"
    if setting == "auto":
        return "host"
    raise BratsError(
        f"config.data.placement=device: the training slices take {needed * copies / 1e9:.1f} GB, "
        f"{LARGEST_SHARE:.0%} of the device's memory are {share * there / 1e9:.1f} GB; "
        "use --config.data.placement=host"
    )


@functools.cache
def _memory(mesh: Mesh) -> float:
    """Bytes of the smallest device of this process; 0 where it does not say."""
    if mesh.devices.flat[0].platform == "cpu":
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    stats = [d.memory_stats() or {} for d in mesh.local_devices]
    return float(min(s.get("bytes_limit", 0) for s in stats))
