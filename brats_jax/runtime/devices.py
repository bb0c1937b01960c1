"""Devices: meshes, shardings, dtypes, compiler options and the compilation cache."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from brats_jax.errors import BratsError
from brats_jax.runtime import compiled_programs
from brats_jax.runtime.allocator import keep_freed_memory as keep_freed_memory

DTYPES = ("auto", "bfloat16", "float32")
# Types in which the gradients of kernels are added up over devices; auto: the compute type.
GRADIENT_SUMS = ("auto", "float32", "bfloat16")
AXIS = "data"  # of every mesh


def data_mesh() -> Mesh:
    """One-axis mesh `data` over all local devices.

    State is replicated over it and batches are sharded: one `jit`ted program then computes the
    same as `pmap` with `pmean`. BatchNorm uses the global batch, so that one device and many give
    the same numbers.

    Raises:
      BratsError: there are several processes.
    """
    if jax.process_count() > 1:
        raise BratsError(
            "only training runs in several processes: start this command once; it uses all "
            "devices of its machine"
        )
    return jax.make_mesh((jax.local_device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def training_mesh() -> Mesh:
    """One-axis mesh `data` over the devices of all processes, ordered by process."""
    if jax.process_count() == 1:
        return data_mesh()
    ordered = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered), (AXIS,), axis_types=(AxisType.Auto,))


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of state: a full copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of a batch: its first axis is divided among the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def put_replicated(tree: Any, mesh: Mesh) -> Any:
    """Copies host arrays, equal in all processes, to every device."""
    return _put(tree, replicated_sharding(mesh))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Moves a host batch to the devices, its first axis divided among them.

    With several processes, each passes its own rows of the batch (`local_rows`).
    """
    return _put(dict(batch), batch_sharding(mesh))


def put_batches(batches: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Moves stacked batches [steps, B, ...] to the devices; axis B is divided among them."""
    return _put(dict(batches), NamedSharding(mesh, PartitionSpec(None, AXIS)))


def _put(tree: Any, sharding: NamedSharding) -> Any:
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    # device_put would first compare the arrays of all processes, byte by byte.
    return jax.tree.map(
        lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), tree
    )


def local_rows(batch_size: int, mesh: Mesh) -> slice:
    """Rows of a batch that lie on the devices of this process."""
    each, here = batch_size // mesh.size, jax.process_index()
    own = [k for k, device in enumerate(mesh.devices.flat) if device.process_index == here]
    return slice(own[0] * each, (own[-1] + 1) * each)


def replicate_from_main(tree: Any, mesh: Mesh) -> Any:
    """Copies the arrays of the main process to every device, with the same bits.

    Args:
      tree: pytree of arrays on this process's devices or host; the other processes pass arrays
        of the same shapes and dtypes, whose values are ignored.
      mesh: the devices.
    """
    if not mesh.is_multi_process:
        return jax.device_put(tree, replicated_sharding(mesh))
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    # As bytes, because a sum of floats would turn -0.0 into 0.0.
    flat = np.concatenate([np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in leaves])
    rows = np.zeros((len(mesh.local_devices), flat.size), np.uint8)
    if jax.process_index() == 0:
        rows[0] = flat
    spread = _put(rows, batch_sharding(mesh))
    total = jax.jit(lambda a: a.sum(0, dtype=a.dtype), out_shardings=replicated_sharding(mesh))(
        spread
    )
    ends = np.cumsum([a.nbytes for a in leaves])[:-1]
    parts = np.split(np.asarray(total), ends)
    pairs = zip(parts, leaves, strict=True)
    whole = [part.view(a.dtype).reshape(a.shape) for part, a in pairs]
    return put_replicated(jax.tree.unflatten(structure, whole), mesh)


def max_over_processes(number: int, mesh: Mesh) -> jax.Array:
    """int32: the maximum of `number` over all processes, each of which must call this."""
    mine = np.full(len(mesh.local_devices), number, np.int32)
    return _max(mesh)(_put(mine, NamedSharding(mesh, PartitionSpec(AXIS))))


@functools.cache
def _max(mesh: Mesh) -> Any:
    return jax.jit(jnp.max, out_shardings=replicated_sharding(mesh))


def check_batch_size(batch_size: int, mesh: Mesh, name: str = "batch_size") -> None:
    """Raises BratsError if `batch_size` is no multiple of the number of devices."""
    if batch_size < 1 or batch_size % mesh.size:
        raise BratsError(
            f"{name}={batch_size} cannot be divided among {mesh.size} devices; "
            f"choose a multiple of {mesh.size}"
        )


def round_up(batch_size: int, mesh: Mesh) -> int:
    """The next multiple of the number of devices."""
    return -(-batch_size // mesh.size) * mesh.size


def compute_dtype(name: str) -> Any:
    """The dtype of activations; 'auto' is bfloat16 on accelerators, float32 on CPU.

    Parameters, statistics, losses and metrics are always float32.
    """
    if name not in DTYPES:
        raise BratsError(f"unknown dtype '{name}'; valid: {', '.join(DTYPES)}")
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[name]


def use_compilation_cache(setting: str) -> None:
    """Sets JAX's persistent compilation cache, and removes damaged programs from it.

    JAX stores programs that took at least a second to compile, or the time in the environment
    variable JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS.

    Args:
      setting: a folder, 'auto' (the user's cache folder, if the user has one), or '' (no cache).
    """
    folder = _users_cache() if setting == "auto" else setting
    if folder:
        compiled_programs.remove_damaged(Path(folder))
        jax.config.update("jax_compilation_cache_dir", folder)


def _users_cache() -> str:
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no HOME, and the system does not know the user, as in many containers
        return ""
    return str(Path(base) / "brats_jax" / "compiled")


def compiler_options(mesh: Mesh, *, deterministic: bool) -> dict[str, Any]:
    """Compiler options of `jax.jit` for bitwise reproducible results.

    On a GPU, atomic additions may sum in any order, and autotuning selects the algorithm of each
    convolution. `deterministic` restricts autotuning to algorithms with a fixed order, and
    replaces other atomics. The compilation cache keeps the selected algorithm with the program.
    Other platforms need no option.

    Reference: https://openxla.org/xla/determinism
    """
    if deterministic and mesh.devices.flat[0].platform in ("gpu", "cuda", "rocm"):
        return {"xla_gpu_exclude_nondeterministic_ops": True}
    return {}


def describe() -> str:
    """'4 x NVIDIA H100', or '2 x cpu in 2 processes'."""
    kinds = sorted({device.device_kind for device in jax.devices()})
    several = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{jax.device_count()} x {', '.join(kinds)}{several}"
