"""A stage's checkpoints: their order on disk, and that nobody waits for them."""

import contextlib
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.runs import checkpoints
from brats_jax.training.checkpointing import Saving, take_snapshot
from brats_jax.training.steps import TrainState

META = {"model": {}}
FINALIZE = checkpoints.ocp.StandardCheckpointHandler.finalize


def state_of(value):
    params = {"kernel": jnp.full((256, 256), float(value))}
    scalars = (jnp.array(value), jnp.zeros(()), jnp.array(-1))
    return TrainState(params, {"mean": jnp.zeros(8)}, {"nu": params["kernel"] ** 2}, *scalars)


def shapes(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), tree)


def steps(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_last_is_not_begun_before_best_is_on_disk(tmp_path, monkeypatch):
    go_on, asked = threading.Event(), threading.Event()

    def slow(self, directory):
        asked.set()
        assert go_on.wait(60)
        FINALIZE(self, directory)

    monkeypatch.setattr(checkpoints.ocp.StandardCheckpointHandler, "finalize", slow)
    with contextlib.closing(Saving(tmp_path)) as saving:
        saving.save(4, take_snapshot(state_of(4)), META, best_value=0.5)  # and waits for nothing
        assert asked.wait(60)
        assert steps(saving.best) == steps(saving.last) == []
        assert not list(saving.last.iterdir())
        go_on.set()
        saving.wait()
        assert steps(saving.best) == steps(saving.last) == [4]
        assert saving.latest_step() == 4 and saving.best_value() == 0.5
    assert checkpoints.read_meta(tmp_path / "best")["value"] == 0.5
    assert "value" not in checkpoints.read_meta(tmp_path / "last")


def test_a_snapshot_is_not_touched_by_the_steps_after_it(tmp_path):
    advance = jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s), donate_argnums=0)
    state = state_of(3)
    with contextlib.closing(Saving(tmp_path)) as saving:
        saving.save(3, take_snapshot(state), META, best_value=1.0)
        for _ in range(50):
            state = advance(state)
    template = shapes(state._asdict())
    saved, _ = checkpoints.read(tmp_path / "last", template, {})
    jax.tree.map(np.testing.assert_array_equal, saved, state_of(3)._asdict())
    best, _ = checkpoints.read(tmp_path / "best", {"params": template["params"]}, {})
    np.testing.assert_array_equal(best["params"]["kernel"], 3.0)


def test_many_saves_leave_the_newest_of_each(tmp_path):
    with contextlib.closing(Saving(tmp_path)) as saving:
        assert saving.latest_step() is None and saving.best_value() is None
        for step, value in ((1, 0.1), (2, None), (3, 0.3), (4, None)):
            saving.save(step, take_snapshot(state_of(step)), META, value)
    assert steps(tmp_path / "last") == [4] and steps(tmp_path / "best") == [3]
    assert checkpoints.read_meta(tmp_path / "best")["value"] == 0.3


def test_a_best_that_cannot_be_written_keeps_last_from_being_begun(tmp_path, monkeypatch):
    before = set(threading.enumerate())
    full = threading.Event()

    def fail(self, directory):
        if full.is_set():
            raise ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device [28]")
        FINALIZE(self, directory)

    monkeypatch.setattr(checkpoints.ocp.StandardCheckpointHandler, "finalize", fail)
    saving = Saving(tmp_path)
    saving.save(1, take_snapshot(state_of(1)), META, best_value=0.1)
    saving.wait()
    full.set()
    saving.save(2, take_snapshot(state_of(2)), META, best_value=0.2)
    message = "best: No space left on device; the checkpoint before"
    with pytest.raises(BratsError, match=message):
        saving.save(3, take_snapshot(state_of(3)), META)
    assert steps(saving.best) == steps(saving.last) == [1]
    with pytest.raises(BratsError, match=message):
        saving.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
    assert not set(threading.enumerate()) - before


def test_what_fails_last_is_said_at_closing(tmp_path, monkeypatch):
    def fail(self, directory):
        raise ValueError("write failed: Disk quota exceeded")

    monkeypatch.setattr(checkpoints.ocp.StandardCheckpointHandler, "finalize", fail)
    saving = Saving(tmp_path)
    saving.save(1, take_snapshot(state_of(1)), META)
    with pytest.raises(BratsError, match="last: Disk quota exceeded"):
        saving.close()


def test_what_failed_is_heard_of_before_the_next_save(tmp_path, monkeypatch):
    def fail(self, directory):
        raise ValueError("write failed: No space left on device")

    saving = Saving(tmp_path)
    saving.check()
    saving.save(1, take_snapshot(state_of(1)), META)
    saving.wait()
    monkeypatch.setattr(checkpoints.ocp.StandardCheckpointHandler, "finalize", fail)
    saving.save(2, take_snapshot(state_of(2)), META)
    deadline = time.monotonic() + 60
    with pytest.raises(BratsError, match="last: No space left on device"):
        while time.monotonic() < deadline:
            saving.check()
            time.sleep(0.01)
    with pytest.raises(BratsError, match="last: No space left on device"):
        saving.close()
    assert steps(tmp_path / "last") == [1]


def test_to_hear_of_failures_waits_for_nothing(tmp_path, monkeypatch):
    go_on = threading.Event()

    def slow(self, directory):
        assert go_on.wait(60)
        FINALIZE(self, directory)

    monkeypatch.setattr(checkpoints.ocp.StandardCheckpointHandler, "finalize", slow)
    with contextlib.closing(Saving(tmp_path)) as saving:
        saving.save(1, take_snapshot(state_of(1)), META)
        saving.check()
        assert steps(saving.last) == []
        go_on.set()
