"""Devices: mesh, shardings, number format, and the compiled-program cache."""

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
            "one process drives all devices of its machine; to use several machines give each "
            "its own folds (--config.folds)"
        )
    return jax.make_mesh((jax.local_device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of state: a full copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def divided(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first axis divided among the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Moves a host batch to the devices, its first axis divided among them."""
    return jax.device_put(dict(batch), divided(mesh))


def put_batches(batches: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Moves several batches at once, [steps, B, ...]; each one's first axis is divided."""
    return jax.device_put(dict(batches), NamedSharding(mesh, PartitionSpec(None, "data")))


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
    """Keeps compiled programs on disk: 'auto' in the user's cache folder, '' nowhere, or a path."""
    if not setting:
        return
    if setting == "auto":
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        setting = str(Path(base) / "brats_jax" / "compiled")
    jax.config.update("jax_compilation_cache_dir", setting)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def describe() -> str:
    """'4 x NVIDIA H100' or '1 x cpu'."""
    kinds = sorted({device.device_kind for device in jax.local_devices()})
    return f"{jax.local_device_count()} x {', '.join(kinds)}"
