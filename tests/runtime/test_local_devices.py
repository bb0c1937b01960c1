import jax
import pytest

from brats_jax.errors import BratsError
from brats_jax.runtime import distributed, local_devices


def shares(tasks, visible, on_node=None, node=0, per_node=None):
    """The shares of all processes of a node on SLURM."""
    environment = {
        "SLURM_STEP_TASKS_PER_NODE": per_node or str(tasks),
        "SLURM_NODEID": str(node),
        "CUDA_VISIBLE_DEVICES": visible,
    }
    if on_node is not None:
        environment["SLURM_GPUS_ON_NODE"] = on_node
    return [local_devices.gpu_share({**environment, "SLURM_LOCALID": str(i)}) for i in range(tasks)]


@pytest.mark.parametrize(
    ("tasks", "visible", "on_node", "ids"),
    [
        (1, "0,1,2,3", "4", [[0, 1, 2, 3]]),
        (2, "0,1,2,3", "4", [[0, 1], [2, 3]]),
        (4, "0,1,2,3", "4", [[0], [1], [2], [3]]),
        (2, "0,1,2,3", None, [[0, 1], [2, 3]]),
        (1, "GPU-abc,GPU-def", None, [[0, 1]]),
        (4, "0", "4", [[0]] * 4),  # each process sees a GPU of its own
        (2, "0,1", "4", [[0, 1]] * 2),  # or two
        (2, "0", None, [[0]] * 2),
    ],
)
def test_all_gpus_of_a_node_are_used(tasks, visible, on_node, ids):
    found = shares(tasks, visible, on_node)
    assert [share.ids for share in found] == ids and not any(share.note for share in found)


def test_gpus_that_cannot_be_shared_equally_are_named_once():
    first, second = shares(2, "0,1,2", "3")
    assert first.ids == [0] and second.ids == [1] and not second.note
    assert "1 of 3 GPUs not used, because 2 processes share them equally" in first.note


def test_more_processes_than_gpus_are_refused():
    with pytest.raises(BratsError, match="4 processes for 2 GPUs; give --ntasks-per-node=2"):
        shares(4, "0,1", "2")


def test_nodes_may_have_different_numbers_of_processes():
    per_node = "2(x2),4"
    assert [share.ids for share in shares(2, "0,1,2,3", "4", 1, per_node)] == [[0, 1], [2, 3]]
    assert [share.ids for share in shares(4, "0,1,2,3", "4", 2, per_node)] == [[0], [1], [2], [3]]


def test_without_a_list_of_gpus_their_number_counts():
    environment = {"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
    assert local_devices.gpu_share({**environment, "SLURM_GPUS_ON_NODE": "4"}).ids == [2, 3]


def test_without_use_of_gpus_nothing_is_said_or_refused():
    environment = {"SLURM_LOCALID": "0", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "0,1,2"}
    assert local_devices.gpu_share({**environment, "SLURM_TASKS_PER_NODE": "2"}).note == ""
    assert local_devices.gpu_share({**environment, "SLURM_TASKS_PER_NODE": "4"}).ids is None


def test_jax_gets_the_share(monkeypatch):
    for name, value in (("LOCALID", "0"), ("STEP_TASKS_PER_NODE", "1"), ("GPUS_ON_NODE", "4")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    given = {}

    def initialize(*arguments, **options):
        given.update(options)
        raise ValueError

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(jax.config, "update", lambda *setting: None)
    with pytest.raises(BratsError, match="no cluster found"):
        distributed.initialize(None, None, None, automatic=True)
    assert given["local_device_ids"] == [0, 1, 2, 3]


def test_open_mpi_divides_them_too():
    environment = {"OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    environment["ROCR_VISIBLE_DEVICES"] = "0,1,2,3"
    assert local_devices.gpu_share(environment).ids == [2, 3]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "1", "CUDA_VISIBLE_DEVICES": ""},
        {"SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "1", "CUDA_VISIBLE_DEVICES": "NoDevFiles"},
        {"SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "?", "CUDA_VISIBLE_DEVICES": "0"},
    ],
)
def test_without_a_cluster_or_gpus_jax_decides(environment):
    assert local_devices.gpu_share(environment) == local_devices.GpuShare()
