"""Slices of a store in device memory, and patches that a compiled step gathers from them.

Images are float16 and labels uint8, so that a patch has the bits of `patches.cut`. As in the store,
only the box around the head is kept: about a third of a slice with tumour.
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

from brats_jax.data.patches import Patches
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.runtime import devices

PLACEMENTS = ("auto", "host", "device")

# Shares of a device's memory for the slices. The rest is for state and activations, about 40 MB a
# patch for a full-width network in bfloat16.
AUTO_SHARE = 0.5
LARGEST_SHARE = 0.9

# Entries of a batch of positions that `gather` uses up.
_PLACES = ("slice", "row", "column")

# Pixels are kept in rows of this length, and every slice starts a row: the index of a row fits
# into 32 bits, the index of a pixel might not.
ROW = 256
BLOCK = 16_384  # rows copied at once: 38 MB


class DeviceSlices(NamedTuple):
    """The pixels of n slices in R rows, replicated on every device.

    Attributes:
      images: float16[R, 256, 4].
      labels: uint8[R, 256].
      first: int32[n], the first row of each slice.
      box: int32[n, 4], (row, column, height, width) of the pixels in the slice.
      background: float16[n, 4], the images outside the box, where labels are 0.
    """

    images: jax.Array
    labels: jax.Array
    first: jax.Array
    box: jax.Array
    background: jax.Array


class DeviceStore:
    """Some slices of a store, copied to every device of a mesh.

    Args:
      store: the prepared data.
      slices: int[n] global indices; repeated ones are kept once.
      mesh: the devices.

    Attributes:
      arrays: an argument of the compiled step.
    """

    def __init__(self, store: Store, slices: np.ndarray, mesh: Mesh) -> None:
        kept = np.unique(slices)
        store.check(kept)
        self._position = np.full(store.num_slices, -1, np.int32)
        self._position[kept] = np.arange(len(kept), dtype=np.int32)
        first = _first_rows(store, kept)
        rows = max(1, int(first[-1]))
        block = min(BLOCK, rows)
        everywhere = NamedSharding(mesh, PartitionSpec())
        empty = jax.jit(
            lambda: (jnp.zeros((rows, ROW, 4), jnp.float16), jnp.zeros((rows, ROW), jnp.uint8)),
            out_shardings=(everywhere, everywhere),
        )
        write = jax.jit(_write, donate_argnums=0, out_shardings=(everywhere, everywhere))
        arrays = empty()
        for start in range(0, rows, block):
            # The last block overlaps the one before, so that all have one size.
            start = min(start, rows - block)
            part = _read_rows(store, kept, first, start, start + block)
            arrays = write(arrays, devices.put_replicated(part, mesh), start)
        tables = (
            # The first row of an empty last slice would be out of range.
            np.minimum(first[:-1], rows - 1).astype(np.int32),
            store.box[kept].astype(np.int32),
            np.ascontiguousarray(store.background[kept]),
        )
        self.arrays = DeviceSlices(*arrays, *devices.put_replicated(tables, mesh))

    def positions(self, patches: Patches) -> dict[str, np.ndarray]:
        """The input of `gather`: place in the arrays, row, column and seed of each patch.

        With the plan's `SliceFacts`, and the positions of donors and neighbours if it has them.
        """
        positions = {
            "slice": self._position[patches.slices],
            "row": patches.rows,
            "column": patches.columns,
            "seed": patches.seeds,
            **patches.facts,
        }
        if patches.donors is not None:
            positions["donor"] = self._position[patches.donors]
        if patches.neighbours is not None:
            positions["neighbours"] = self._position[patches.neighbours]
        return positions


def _first_rows(store: Store, kept: np.ndarray) -> np.ndarray:
    """int64[n + 1]: the first row of each slice, and the number of rows."""
    areas = store.box[kept, 2].astype(np.int64) * store.box[kept, 3]
    return np.concatenate([[0], np.cumsum(-(-areas // ROW))])


def _read_rows(
    store: Store, kept: np.ndarray, first: np.ndarray, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows start to stop, as on the devices."""
    images = np.zeros(((stop - start) * ROW, 4), np.float16)
    labels = np.zeros((stop - start) * ROW, np.uint8)
    begin, end = np.searchsorted(first, [start, stop], side="right")
    for k in range(max(0, int(begin) - 1), min(int(end), len(kept))):
        image, label = store.flat(int(kept[k]))
        at = (int(first[k]) - start) * ROW
        # A slice may start before these rows or end after them.
        low, high = max(0, -at), min(len(label), len(labels) - at)
        if low < high:
            images[at + low : at + high] = image[low:high]
            labels[at + low : at + high] = label[low:high]
    return images.reshape(-1, ROW, 4), labels.reshape(-1, ROW)


def _write(arrays: tuple, part: tuple, start: jax.Array) -> tuple:
    pairs = zip(arrays, part, strict=True)
    return tuple(lax.dynamic_update_slice_in_dim(a, p, start, 0) for a, p in pairs)


def gather(
    arrays: DeviceSlices, positions: Mapping[str, jax.Array], size: int, mesh: Mesh
) -> dict[str, jax.Array]:
    """Cuts the batch of `patches.cut` on the devices, for use inside a compiled step.

    Args:
      arrays: `DeviceStore.arrays`, replicated.
      positions: `DeviceStore.positions` of a batch, sharded.
      size: side of the patches.
      mesh: the devices; each cuts its own share without communication.
    """

    def one(arrays: DeviceSlices, at: jax.Array, row: jax.Array, column: jax.Array) -> tuple:
        top, left, height, width = arrays.box[at]
        rows = (row + jnp.arange(size) - top)[:, None]
        columns = column + jnp.arange(size) - left
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        pixel = jnp.where(inside, rows * width + columns, 0)
        where = arrays.first[at] + pixel // ROW, pixel % ROW
        image, label = (
            pixels.at[where].get(mode="promise_in_bounds")
            for pixels in (arrays.images, arrays.labels)
        )
        image = jnp.where(inside[..., None], image, arrays.background[at])
        return image, jnp.where(inside, label, 0)

    share = PartitionSpec(devices.AXIS)
    cut = jax.shard_map(
        jax.vmap(one, in_axes=(None, 0, 0, 0)),
        mesh=mesh,
        in_specs=(PartitionSpec(), share, share, share),
        out_specs=(share, share),
    )
    place = positions["row"], positions["column"]
    patches = dict(zip(("image", "label"), cut(arrays, positions["slice"], *place), strict=True))
    if "donor" in positions:
        patches["donor"] = cut(arrays, positions["donor"], *place)[0]
    if "neighbours" in positions:
        beside = jnp.moveaxis(positions["neighbours"], 1, 0)
        images = [cut(arrays, slices, *place)[0] for slices in beside]
        patches["neighbours"] = jnp.concatenate(images, axis=-1)
    # Without the barrier XLA fuses the gather into the step, whose rounding may then differ from
    # that of a step with patches from the host.
    patches = lax.optimization_barrier(patches)
    facts = {n: array for n, array in positions.items() if n not in _PLACES and n not in patches}
    return {**patches, **facts}


def bytes_needed(store: Store, slices: np.ndarray) -> int:
    """Memory of the slices on each device, in bytes."""
    kept = np.unique(slices)
    pixels = max(1, int(_first_rows(store, kept)[-1])) * ROW
    tables = 4 + 4 * 4 + 4 * 2  # first, box and background of a slice
    return pixels * (4 * 2 + 1) + len(kept) * tables


def choose_placement(setting: str, store: Store, slices: np.ndarray, mesh: Mesh) -> str:
    """Chooses where patches are cut: 'host' or 'device'.

    'auto' is the device for an accelerator with at least twice the memory of the slices. On CPU
    it is the host: both are much faster than a step (benchmarks/loader.py), and device memory
    would be a second copy in the same RAM.

    Raises:
      BratsError: `setting` is 'device', and the slices do not fit.
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
    """Memory of the smallest device of this process in bytes; 0 if unknown."""
    if mesh.devices.flat[0].platform == "cpu":
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    stats = [d.memory_stats() or {} for d in mesh.local_devices]
    return float(min(s.get("bytes_limit", 0) for s in stats))
