import dataclasses
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from brats_jax.errors import BratsError
from brats_jax.runs import checkpoints
from brats_jax.runs.checkpoints import CheckpointMeta, Checkpoints

MODEL = {"task": "segment", "inputs": ("t1", "t2"), "width": 8}
META = CheckpointMeta(MODEL, step=0, epoch=0)


def state_of(value):
    params = {"layer": {0: {"kernel": jnp.full((3, 4), value)}, 1: {"kernel": jnp.ones((4,))}}}
    return {
        "params": params,
        "opt_state": optax.adam(1e-3).init(params),
        "step": jnp.array(int(value), jnp.int32),
    }


def shapes(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), tree)


def save(directory, step, **meta):
    folder = Checkpoints(directory)
    folder.save(step, state_of(step), dataclasses.replace(META, step=step, **meta))
    folder.close()


def test_a_state_comes_back_bit_for_bit(tmp_path):
    save(tmp_path / "last", 3, value=0.5)
    state, meta = checkpoints.read(tmp_path / "last", shapes(state_of(0)), MODEL)
    assert meta.value == 0.5 and meta.step == 3
    assert jax.tree.structure(state) == jax.tree.structure(state_of(3))
    jax.tree.map(np.testing.assert_array_equal, state, state_of(3))


def test_a_part_of_a_state_can_be_restored(tmp_path):
    save(tmp_path / "last", 2)
    state, _ = checkpoints.read(tmp_path / "last", {"params": shapes(state_of(0)["params"])}, MODEL)
    assert list(state) == ["params"]
    np.testing.assert_array_equal(state["params"]["layer"][0]["kernel"], np.full((3, 4), 2.0))


def test_only_the_newest_checkpoint_stays(tmp_path):
    folder = Checkpoints(tmp_path / "last")
    for step in (1, 2, 3):
        folder.save(step, state_of(step), META)
    folder.close()
    assert [p.name for p in (tmp_path / "last").iterdir() if p.name.isdigit()] == ["3"]
    assert checkpoints.read_meta(tmp_path / "last").step == 0


def test_saving_a_step_again_keeps_the_first(tmp_path):
    folder = Checkpoints(tmp_path / "last")
    folder.save(1, state_of(1), dataclasses.replace(META, epoch=1))
    folder.save(1, state_of(5), dataclasses.replace(META, epoch=2))
    folder.close()
    assert checkpoints.read_meta(tmp_path / "last").epoch == 1


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    save(tmp_path / "last", 1)
    with pytest.raises(BratsError, match="another model: width is 8 there, 16 here"):
        checkpoints.read(tmp_path / "last", shapes(state_of(0)), {**MODEL, "width": 16})


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    save(tmp_path / "last", 1)
    for file in (tmp_path / "last" / "1" / "meta").rglob("metadata"):
        file.write_text(file.read_text().replace('"version": 1', '"version": 99'))
    with pytest.raises(
        BratsError, match=r"not a version 1 .* \(it says .* 99\); train again in an"
    ):
        checkpoints.read(tmp_path / "last", shapes(state_of(0)), MODEL)


def test_a_folder_without_a_checkpoint_is_refused_and_not_made(tmp_path):
    with pytest.raises(BratsError, match="no checkpoint there; train this stage first"):
        checkpoints.read_meta(tmp_path / "last")
    assert not (tmp_path / "last").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(BratsError, match="no checkpoint there"):
        checkpoints.read_meta(tmp_path / "empty")


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    save(tmp_path / "last", 1)
    for file in (tmp_path / "last" / "1" / "meta").rglob("metadata"):
        file.write_text("{")
    with pytest.raises(BratsError, match="1: not a readable checkpoint") as caught:
        checkpoints.read_meta(tmp_path / "last")
    assert "\n" not in str(caught.value)


RESTORE = """
import sys, jax
from pathlib import Path
from brats_jax.runs import checkpoints
where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
shape = jax.ShapeDtypeStruct((50_000,), "float32", sharding=where)
checkpoints.read(Path(sys.argv[1]), {"x": shape, "y": shape}, {})
"""


@pytest.mark.parametrize(
    "error", [MemoryError("no memory"), RuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_a_checkpoint_that_does_not_fit_into_memory_is_not_called_damaged(
    tmp_path, monkeypatch, error
):
    """The message on a damaged one advises to remove it."""
    save(tmp_path / "last", 1)

    def restore(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(checkpoints.ocp.CheckpointManager, "restore", restore)
    with pytest.raises(type(error), match=str(error)):
        checkpoints.read_meta(tmp_path / "last")
    with pytest.raises(type(error), match=str(error)):
        checkpoints.read(tmp_path / "last", shapes(state_of(0)), MODEL)


def test_a_truncated_checkpoint_prints_one_error(tmp_path):
    """In a process of its own: threads may print at its end."""
    folder = Checkpoints(tmp_path / "last")
    folder.save(
        1, {"x": jnp.arange(50_000.0), "y": jnp.ones(50_000)}, dataclasses.replace(META, model={})
    )
    folder.close()
    for file in (tmp_path / "last" / "1" / "state" / "ocdbt.process_0" / "d").iterdir():
        os.truncate(file, file.stat().st_size // 2)
    done = subprocess.run(
        [sys.executable, "-c", RESTORE, tmp_path / "last"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
    )  # fmt: skip
    *_, line = done.stderr.splitlines()
    assert re.search(r"BratsError: .*/1: cannot be restored \(.*\): copy it again", line)
    assert "TensorStore" not in line
    assert "Event loop" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("full", ["No space left on device", "Disk quota exceeded"])
def test_a_full_disk_is_one_line(tmp_path, monkeypatch, full):
    folder = Checkpoints(tmp_path / "last")

    def fail(*args, **kwargs):
        raise ValueError(f"RESOURCE_EXHAUSTED: write failed: {full} [28]\n...")

    monkeypatch.setattr(checkpoints.ocp.CheckpointManager, "save", fail)
    with pytest.raises(BratsError, match=f"last: {full}; the checkpoint before this one"):
        folder.save(1, state_of(1), META)
    folder.close()


def test_a_save_continues_in_the_background(tmp_path, monkeypatch):
    """`save` returns while the files cannot be finished yet; `wait` returns when they are."""
    go_on, asked = threading.Event(), threading.Event()
    finalize = checkpoints.ocp.StandardCheckpointHandler.finalize

    def slow(self, directory):
        asked.set()
        assert go_on.wait(60)
        finalize(self, directory)

    monkeypatch.setattr(checkpoints.ocp.StandardCheckpointHandler, "finalize", slow)
    folder = Checkpoints(tmp_path / "last")
    folder.save(1, state_of(1), dataclasses.replace(META, step=1))
    assert asked.wait(60)
    begun = [p.name for p in (tmp_path / "last").iterdir()]
    assert begun and not any(name.isdigit() for name in begun)
    with pytest.raises(BratsError, match="no checkpoint there"):
        checkpoints.read_meta(tmp_path / "last")
    go_on.set()
    folder.wait()
    assert [p.name for p in (tmp_path / "last").iterdir()] == ["1"]
    assert checkpoints.read_meta(tmp_path / "last").step == 1
    folder.close()


def test_closing_raises_a_failed_save_and_leaves_no_thread(tmp_path, monkeypatch):
    before = set(threading.enumerate())

    def fail(self, directory):
        raise ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device [28]")

    monkeypatch.setattr(checkpoints.ocp.StandardCheckpointHandler, "finalize", fail)
    folder = Checkpoints(tmp_path / "last")
    folder.save(1, state_of(1), META)
    with pytest.raises(BratsError, match="last: No space left on device; the checkpoint before"):
        folder.close()
    # Orbax lets go of an event loop, whose executor ends its idle threads a moment later.
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
    assert not set(threading.enumerate()) - before
