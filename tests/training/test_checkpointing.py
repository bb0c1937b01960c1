"""A stage's checkpoints: their order on disk, failures, and what waits for what."""

import contextlib
import dataclasses
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.runs import checkpoints
from brats_jax.runs.checkpoints import CheckpointMeta
from brats_jax.runs.folder import StageFolder
from brats_jax.training.checkpointing import StageCheckpoints, restore_last, take_snapshot
from brats_jax.training.steps import TrainState

META = CheckpointMeta(model={}, step=0, epoch=0)
FINALIZE = checkpoints.ocp.StandardCheckpointHandler.finalize
FULL = "RESOURCE_EXHAUSTED: write failed: No space left on device [28]"


def state_of(value):
    params = {"kernel": jnp.full((256, 256), float(value))}
    scalars = (jnp.array(value), jnp.zeros(()), jnp.array(-1))
    return TrainState(params, {"mean": jnp.zeros(8)}, {"nu": params["kernel"] ** 2}, *scalars)


def steps(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


@pytest.fixture
def disk(monkeypatch):
    """The disk: `full` makes writing fail, `slow` makes it wait for `go_on`."""

    class Disk:
        full, slow = threading.Event(), threading.Event()
        asked, go_on = threading.Event(), threading.Event()

    def finalize(self, directory):
        Disk.asked.set()
        if Disk.full.is_set():
            raise ValueError(FULL)
        if Disk.slow.is_set():
            assert Disk.go_on.wait(60)
        FINALIZE(self, directory)

    monkeypatch.setattr(checkpoints.ocp.StandardCheckpointHandler, "finalize", finalize)
    return Disk


def test_last_is_not_written_before_best_is_on_disk(tmp_path, disk):
    disk.slow.set()
    with contextlib.closing(StageCheckpoints(StageFolder(tmp_path))) as saved:
        saved.save(4, take_snapshot(state_of(4)), META, best_value=0.5)  # does not wait
        assert disk.asked.wait(60)
        assert steps(saved.best) == steps(saved.last) == []
        assert not list(saved.last.iterdir())
        disk.go_on.set()
        saved.wait()
        assert steps(saved.best) == steps(saved.last) == [4]
        assert saved.latest_step() == 4 and saved.best_value() == 0.5
    assert checkpoints.read_meta(tmp_path / "best").value == 0.5
    assert checkpoints.read_meta(tmp_path / "last").value is None


def test_later_steps_do_not_change_a_snapshot(tmp_path):
    advance = jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s), donate_argnums=0)
    state = state_of(3)
    with contextlib.closing(StageCheckpoints(StageFolder(tmp_path))) as saved:
        saved.save(3, take_snapshot(state), META, best_value=1.0)
        for _ in range(50):
            state = advance(state)
    last, meta = restore_last(StageFolder(tmp_path), state, {})
    jax.tree.map(np.testing.assert_array_equal, last, state_of(3))
    assert meta.model == {}
    best, _ = checkpoints.read(tmp_path / "best", {"params": state.params}, {})
    np.testing.assert_array_equal(best["params"]["kernel"], 3.0)


def test_the_newest_last_and_the_newest_best_are_kept(tmp_path):
    with contextlib.closing(StageCheckpoints(StageFolder(tmp_path))) as saved:
        assert saved.latest_step() is None and saved.best_value() is None
        for step, value in ((1, 0.1), (2, None), (3, 0.3), (4, None)):
            saved.save(step, take_snapshot(state_of(step)), META, value)
    assert steps(tmp_path / "last") == [4] and steps(tmp_path / "best") == [3]
    assert checkpoints.read_meta(tmp_path / "best").value == 0.3


def test_at_the_end_one_checkpoint_stays_where_a_kill_had_left_two(tmp_path):
    with contextlib.closing(StageCheckpoints(StageFolder(tmp_path))) as saved:
        saved.save(3, take_snapshot(state_of(3)), META, 0.3)
    shutil.copytree(tmp_path / "last" / "3", tmp_path / "last" / "2")
    with contextlib.closing(StageCheckpoints(StageFolder(tmp_path))) as saved:
        assert saved.latest_step() == 3 and steps(tmp_path / "last") == [2, 3]
        saved.finish()
    assert steps(tmp_path / "last") == steps(tmp_path / "best") == [3]


def test_if_best_cannot_be_written_last_is_not_either(tmp_path, disk):
    before = set(threading.enumerate())
    saved = StageCheckpoints(StageFolder(tmp_path))
    saved.save(1, take_snapshot(state_of(1)), META, best_value=0.1)
    saved.wait()
    disk.full.set()
    saved.save(2, take_snapshot(state_of(2)), META, best_value=0.2)
    message = "best: No space left on device; the checkpoint before"
    with pytest.raises(BratsError, match=message):
        saved.save(3, take_snapshot(state_of(3)), META)
    assert steps(saved.best) == steps(saved.last) == [1]
    with pytest.raises(BratsError, match=message):
        saved.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
    assert not set(threading.enumerate()) - before


def test_closing_raises_the_error_of_the_last_save(tmp_path, disk):
    disk.full.set()
    saved = StageCheckpoints(StageFolder(tmp_path))
    saved.save(1, take_snapshot(state_of(1)), META)
    with pytest.raises(BratsError, match="last: No space left on device"):
        saved.close()


def test_check_raises_the_error_of_a_save_that_failed(tmp_path, disk):
    saved = StageCheckpoints(StageFolder(tmp_path))
    saved.check()
    saved.save(1, take_snapshot(state_of(1)), META)
    saved.wait()
    disk.full.set()
    saved.save(2, take_snapshot(state_of(2)), META)
    deadline = time.monotonic() + 60
    with pytest.raises(BratsError, match="last: No space left on device"):
        while time.monotonic() < deadline:
            saved.check()
            time.sleep(0.01)
    with pytest.raises(BratsError, match="last: No space left on device"):
        saved.close()
    assert steps(tmp_path / "last") == [1]


def test_check_does_not_wait_for_a_save_in_progress(tmp_path, disk):
    disk.slow.set()
    with contextlib.closing(StageCheckpoints(StageFolder(tmp_path))) as saved:
        saved.save(1, take_snapshot(state_of(1)), META)
        saved.check()
        assert steps(saved.last) == []
        disk.go_on.set()


def test_a_last_of_another_model_is_refused(tmp_path):
    with contextlib.closing(StageCheckpoints(StageFolder(tmp_path))) as saved:
        saved.save(1, take_snapshot(state_of(1)), dataclasses.replace(META, model={"width": 4}))
    with pytest.raises(BratsError, match="width is 4 there, 8 here"):
        restore_last(StageFolder(tmp_path), state_of(0), {"width": 8})
