"""A checkpoint is restored as it was saved, or refused in one line with safe advice."""

import contextlib
import dataclasses
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.runs import checkpoints
from brats_jax.runs.checkpoints import CheckpointMeta
from brats_jax.runs.folder import StageFolder
from brats_jax.training.checkpointing import StageCheckpoints, restore_last
from brats_jax.training.steps import TrainState

MODEL = {"task": "segment"}
META = CheckpointMeta(MODEL, step=8, epoch=1, validated_step=8, loader={"next": 8})


def state_of(step: int) -> TrainState:
    rng = np.random.default_rng(step)
    params = {f"layer{i}": jnp.asarray(rng.normal(size=(24, 16)), jnp.float32) for i in range(4)}
    scalars = (jnp.array(step), jnp.zeros(()), jnp.array(-1))
    return TrainState(params, {"mean": jnp.ones(8)}, {"mu": params["layer0"] * 2}, *scalars)


def save(stage: StageFolder, step: int, value: float | None) -> None:
    meta = dataclasses.replace(META, step=step, validated_step=step)
    with contextlib.closing(StageCheckpoints(stage)) as saved:
        saved.save(step, state_of(step), meta, value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a stage of 8 steps."""
    folder = tmp_path_factory.mktemp("stage")
    save(StageFolder(folder), 8, 0.5)
    return folder


def flip(path: Path, seed: int) -> None:
    content = bytearray(path.read_bytes())
    bit = random.Random(seed).randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "flipped": lambda path: flip(path, 0),
    "flipped again": lambda path: flip(path, 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_or_changes_nothing(whole, tmp_path, damage):
    refused = 0
    for file in sorted(path for path in (whole / "last").rglob("*") if path.stat().st_size):
        if file.is_dir():
            continue
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        DAMAGES[damage](copy / file.relative_to(whole))
        try:
            state, meta = restore_last(StageFolder(copy), state_of(0), MODEL)
        except BratsError as error:
            refused += 1
            assert "\n" not in str(error)
            assert re.search(r"last/8: .*(remove this folder|another --workdir)", str(error))
        else:
            assert meta == checkpoints.read_meta(whole / "last")
            jax.tree.map(np.testing.assert_array_equal, state, state_of(8))
        shutil.rmtree(copy)
    assert refused >= 3


def test_the_folder_named_in_the_refusal_can_be_removed_and_training_goes_on(whole, tmp_path):
    folder = tmp_path / "stage"
    shutil.copytree(whole, folder)
    largest = max((folder / "last").rglob("*"), key=lambda path: path.stat().st_size)
    os.truncate(largest, 50)
    with pytest.raises(BratsError) as caught:
        restore_last(StageFolder(folder), state_of(0), MODEL)
    named = re.match(r"(\S+): .*remove this folder and give", str(caught.value))
    assert named is not None and named[1] == str(folder / "last" / "8")
    shutil.rmtree(named[1])
    with contextlib.closing(StageCheckpoints(StageFolder(folder))) as saved:
        assert saved.latest_step() is None and saved.best_value() == 0.5
    save(StageFolder(folder), 4, 0.6)  # begun anew, and better at once
    assert checkpoints.read_meta(folder / "best").step == 4
    assert restore_last(StageFolder(folder), state_of(0), MODEL)[1].step == 4


@pytest.mark.parametrize(
    ("part", "name"),
    [("params", "parameters"), ("stats", "statistics"), ("opt_state", "optimiser state")],
)
def test_the_part_that_changed_is_named(whole, tmp_path, monkeypatch, part, name):
    """As if the bits had changed below Orbax's own checks."""
    damaged = state_of(8).parts
    damaged[part] = jax.tree.map(lambda a: a.at[0].add(1e-6), damaged[part])
    digests = checkpoints.digests.of_state(state_of(8).parts)
    monkeypatch.setattr(checkpoints.digests, "of_state", lambda state: digests)
    with contextlib.closing(checkpoints.Checkpoints(tmp_path / "last")) as folder:
        folder.save(8, damaged, META)
    monkeypatch.undo()
    with pytest.raises(BratsError, match=f"last/8: {name} changed on disk since the checkpoint"):
        restore_last(StageFolder(tmp_path), state_of(0), MODEL)


def test_a_checkpoint_without_digests_is_restored(whole, tmp_path, monkeypatch):
    """Version 0.1.0 wrote none."""
    monkeypatch.setattr(CheckpointMeta, "with_digests", lambda meta, state: meta)
    save(StageFolder(tmp_path), 8, 0.5)
    monkeypatch.undo()
    state, meta = restore_last(StageFolder(tmp_path), state_of(0), MODEL)
    assert meta.sha256 == {} and int(state.step) == 8


class TestAMissingBest:
    """`best` removed from a stage of two validations, of which `last` holds the second."""

    def repair(self, folder: Path, validations: dict[int, float]) -> None:
        stage = StageFolder(folder)
        state, meta = restore_last(stage, state_of(0), MODEL)
        with contextlib.closing(StageCheckpoints(stage)) as saved:
            saved.repair_best(state, meta, validations)

    @pytest.fixture
    def stage(self, whole, tmp_path) -> Path:
        shutil.copytree(whole, tmp_path / "stage")
        shutil.rmtree(tmp_path / "stage" / "best")
        return tmp_path / "stage"

    def test_is_made_again_where_last_holds_its_weights(self, whole, stage):
        self.repair(stage, {4: 0.4, 8: 0.5})
        before, now = (checkpoints.read_meta(folder / "best") for folder in (whole, stage))
        assert now == before and now.value == 0.5
        template = {"params": state_of(0).params}
        restored, _ = checkpoints.read(stage / "best", template, MODEL)
        jax.tree.map(np.testing.assert_array_equal, restored["params"], state_of(8).params)

    @pytest.mark.parametrize("validations", [{4: 0.5}, {}])
    def test_is_refused_elsewhere_with_what_to_remove(self, stage, validations):
        (stage / "complete.json").write_text("{}")
        with pytest.raises(BratsError) as caught:
            self.repair(stage, validations)
        text = str(caught.value)
        assert f"remove {stage / 'last'} and {stage / 'complete.json'} and give the same" in text

    def test_is_no_fault_before_the_first_validation(self, tmp_path):
        meta = dataclasses.replace(META, validated_step=0)
        with contextlib.closing(StageCheckpoints(StageFolder(tmp_path))) as saved:
            saved.save(8, state_of(8), meta)
            saved.wait()
            saved.repair_best(state_of(8), meta, {})
        assert not list((tmp_path / "best").glob("[0-9]*"))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"metric": "mse", "best": "x"}'])
def test_a_damaged_complete_json_is_not_complete(tmp_path, content):
    stage = StageFolder(tmp_path / "segment")
    stage.path.mkdir()
    stage.complete_json.write_text(content)
    assert not stage.is_complete
