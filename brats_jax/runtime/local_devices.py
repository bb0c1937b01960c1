"""The GPUs of a node, divided among its processes.

JAX gives each process of SLURM or Open MPI the one GPU of its number, also where there are more
GPUs than processes: the others would be idle without a warning.
"""

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from brats_jax.errors import BratsError


class GpuShare(NamedTuple):
    """The GPUs of this process.

    Attributes:
      ids: their numbers among those that CUDA or ROCm shows to this process; None: JAX decides.
      note: which GPUs of the node nobody uses; from the first process of the node only.
    """

    ids: list[int] | None = None
    note: str = ""


def gpu_share(environment: Mapping[str, str] = os.environ) -> GpuShare:
    """Divides the GPUs of this node equally among its processes.

    Args:
      environment: as SLURM or Open MPI sets it.

    Raises:
      BratsError: there are fewer GPUs than processes.
    """
    own = _index_and_count(environment)
    if own is None:
        return GpuShare()
    index, count = own
    visible = _visible_gpus(environment)
    if not visible:
        return GpuShare()
    if count == 1 or _has_own_gpus(environment, visible, count):
        return GpuShare(list(range(visible)))
    each, idle = divmod(visible, count)
    host = socket.gethostname()
    on_cpu = environment.get("JAX_PLATFORMS") == "cpu"
    if not each and on_cpu:
        return GpuShare()
    if not each:
        raise BratsError(
            f"{host}: {count} processes for {visible} GPUs; give --ntasks-per-node={visible}"
        )
    note = ""
    if idle and not index and not on_cpu:
        note = (
            f"{host}: {idle} of {visible} GPUs not used, because {count} processes share them "
            f"equally; give --ntasks-per-node={visible}, or 1"
        )
    return GpuShare(list(range(index * each, (index + 1) * each)), note)


def _index_and_count(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """(index of this process on its node, number of processes there)."""
    local, size = (environment.get(f"OMPI_COMM_WORLD_LOCAL_{name}") for name in ("RANK", "SIZE"))
    if local is not None and size is not None:
        return int(local), int(size)
    local = environment.get("SLURM_LOCALID")
    names = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    tasks = next((environment[name] for name in names if environment.get(name)), "")
    if local is None or not tasks:
        return None
    counts: list[int] = []
    for part in tasks.split(","):  # '4(x2),3': two nodes with four tasks, one with three
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            return None
        counts += [int(match[1])] * int(match[2] or 1)
    node = int(environment.get("SLURM_NODEID", "0"))
    return (int(local), counts[node]) if node < len(counts) else None


def _visible_gpus(environment: Mapping[str, str]) -> int:
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if name in environment:
            names = environment[name].split(",")
            return sum(bool(n.strip()) and n.strip() not in ("-1", "NoDevFiles") for n in names)
    on_node = environment.get("SLURM_GPUS_ON_NODE", "")
    if on_node.isdecimal():  # SLURM hides the others by cgroups
        return int(on_node)
    return sum(1 for path in Path("/dev").glob("nvidia*") if path.name[6:].isdecimal())


def _has_own_gpus(environment: Mapping[str, str], visible: int, count: int) -> bool:
    """Whether the cluster shows each process GPUs of its own (--gpus-per-task, --gpu-bind)."""
    on_node = environment.get("SLURM_GPUS_ON_NODE", "")
    if on_node.isdecimal():
        return visible < int(on_node)
    return visible == 1 and count > 1
