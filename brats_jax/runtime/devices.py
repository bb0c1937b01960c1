"""Devices: mesh, shardings, number format, and the compiled-program cache."""

import ctypes
import functools
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from brats_jax.errors import BratsError

DTYPES = ("auto", "bfloat16", "float32")


def data_mesh() -> Mesh:
    """A one-axis mesh, `data`, over every local device.

    State is replicated over it and the batch is sharded: one `jit`ted program then
    computes what `pmap` with a `pmean` would, and BatchNorm sees the global batch,
    so that one device and many give the same numbers.
    """
    if jax.process_count() > 1:
        raise BratsError(
            "only training is divided among processes: start this one once, it drives all "
            "devices of its machine"
        )
    return jax.make_mesh((jax.local_device_count(),), ("data",), axis_types=(AxisType.Auto,))


def training_mesh() -> Mesh:
    """The same over every device of all processes; those of one process lie side by side."""
    if jax.process_count() == 1:
        return data_mesh()
    ordered = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of state: a full copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def divided(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first axis divided among the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_replicated(tree: Any, mesh: Mesh) -> Any:
    """Copies host arrays to every device; each process gives the same."""
    return _put(tree, replicated(mesh))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Moves a host batch to the devices, its first axis divided among them.

    With several processes each gives its own rows of the batch (`own_rows`).
    """
    return _put(dict(batch), divided(mesh))


def put_batches(batches: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Moves several batches at once, [steps, B, ...]; each one's first axis is divided."""
    return _put(dict(batches), NamedSharding(mesh, PartitionSpec(None, "data")))


def _put(tree: Any, sharding: NamedSharding) -> Any:
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    # device_put would first compare what the processes hold, byte by byte.
    return jax.tree.map(
        lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), tree
    )


def own_rows(batch_size: int, mesh: Mesh) -> slice:
    """Which rows of a batch lie on the devices of this process."""
    each, here = batch_size // mesh.size, jax.process_index()
    own = [k for k, device in enumerate(mesh.devices.flat) if device.process_index == here]
    return slice(own[0] * each, (own[-1] + 1) * each)


def replicate_first(tree: Any, mesh: Mesh) -> Any:
    """Copies the arrays of the first process to every device, bit by bit.

    Args:
      tree: pytree of arrays on this process's devices or host; of the other processes only
        shapes and dtypes count.
      mesh: the devices.
    """
    if not mesh.is_multi_process:
        return jax.device_put(tree, replicated(mesh))
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    # As bytes, since a sum of numbers would turn -0.0 into 0.0.
    flat = np.concatenate([np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in leaves])
    rows = np.zeros((len(mesh.local_devices), flat.size), np.uint8)
    if jax.process_index() == 0:
        rows[0] = flat
    spread = _put(rows, divided(mesh))
    total = jax.jit(lambda a: a.sum(0, dtype=a.dtype), out_shardings=replicated(mesh))(spread)
    ends = np.cumsum([a.nbytes for a in leaves])[:-1]
    parts = np.split(np.asarray(total), ends)
    pairs = zip(parts, leaves, strict=True)
    whole = [part.view(a.dtype).reshape(a.shape) for part, a in pairs]
    return put_replicated(jax.tree.unflatten(structure, whole), mesh)


def largest(number: int, mesh: Mesh) -> jax.Array:
    """int32: the largest of the processes' numbers, once all of them have called this."""
    mine = np.full(len(mesh.local_devices), number, np.int32)
    return _largest(mesh)(_put(mine, NamedSharding(mesh, PartitionSpec("data"))))


@functools.cache
def _largest(mesh: Mesh) -> Any:
    return jax.jit(jnp.max, out_shardings=replicated(mesh))


def check_batch_size(batch_size: int, mesh: Mesh, name: str = "batch_size") -> None:
    """Raises BratsError where the devices cannot share a batch evenly."""
    if batch_size < 1 or batch_size % mesh.size:
        raise BratsError(
            f"{name}={batch_size} cannot be divided among {mesh.size} devices; "
            f"choose a multiple of {mesh.size}"
        )


def round_up(batch_size: int, mesh: Mesh) -> int:
    """The next batch size that the devices can share evenly."""
    return -(-batch_size // mesh.size) * mesh.size


def compute_dtype(name: str) -> Any:
    """The dtype that activations are computed in; 'auto' is bfloat16 on accelerators.

    Parameters, statistics, losses and metrics are float32 whatever this says.
    """
    if name not in DTYPES:
        raise BratsError(f"unknown dtype '{name}'; valid: {', '.join(DTYPES)}")
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[name]


def use_compilation_cache(setting: str) -> None:
    """Keeps compiled programs on disk: 'auto' in the user's cache folder, '' nowhere, or a path.

    JAX keeps those that took a second to compile, or as long as the environment's
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS says.
    """
    if not setting:
        return
    if setting == "auto":
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        setting = str(Path(base) / "brats_jax" / "compiled")
    jax.config.update("jax_compilation_cache_dir", setting)


def compiler_options(mesh: Mesh, *, deterministic: bool) -> dict[str, Any]:
    """Options of `jax.jit` for a program whose results are to be the same bits in every run.

    On a GPU sums may be taken in any order, by atomic additions, and which algorithm a
    convolution gets is found by trying. `deterministic` leaves only those of one order to be
    tried, and has what else needs atomics written otherwise. Which of them was taken is kept
    with the program (`use_compilation_cache`). Elsewhere nothing need be asked for.

    Reference: https://openxla.org/xla/determinism
    """
    if deterministic and mesh.devices.flat[0].platform in ("gpu", "cuda", "rocm"):
        return {"xla_gpu_exclude_nondeterministic_ops": True}
    return {}


# Of glibc's malloc.h: how much free memory at the end of the heap goes back to the system, how
# many blocks are mapped apart from the heap, how many heaps there are.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_memory() -> bool:
    """Has the C library keep what is freed, where the next step finds it again.

    XLA:CPU allocates the scratch space of a program anew for each run, hundreds of megabytes.
    glibc would give blocks of that size back to the system and get them page by page again, each
    filled with zeros: a fifth of a training step's processor time. The process keeps its peak
    for good instead, in one heap, since only the first can grow as far as is needed.

    To be called before JAX makes its threads. Without effect where the user says in the
    environment how malloc should work (MALLOC_*, GLIBC_TUNABLES), where it is not glibc's, and
    where JAX has an accelerator, whose memory it is not.

    Returns:
      Whether that is so now.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    only_cpu = os.environ.get("JAX_PLATFORMS") == "cpu"
    if not only_cpu and importlib.metadata.entry_points(group="jax_plugins"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    settings = ((_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0), (_ARENA_MAX, 1))
    return all([mallopt(name, value) == 1 for name, value in settings])


def describe() -> str:
    """'4 x NVIDIA H100' or '1 x cpu'; with several processes, 'in 2 processes' too."""
    kinds = sorted({device.device_kind for device in jax.devices()})
    several = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{jax.device_count()} x {', '.join(kinds)}{several}"
