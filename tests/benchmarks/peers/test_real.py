"""Programs on real cases: parts, requests and lengths of training; PyTorch itself is not run."""

import io
import os
import sys

import numpy as np
import pytest

from benchmarks.peers import array_pipe, nnunet_real, ours_real, real, recipe_real
from brats_jax.errors import BratsError
from brats_jax.experiments.config import parse
from brats_jax.training.options import TrainOptions
from configs import best


def test_nnunet_stands_for_two_programs_and_ours_is_always_trained():
    assert real.programs_of("nnunet,twin") == ["ours", "nnunet_planned", "nnunet_small", "twin"]
    with pytest.raises(BratsError, match="--peers=monai: valid are ours, twin"):
        real.programs_of("monai")
    assert real.folds_of("0,3") == [0, 3]
    for folds in ("all", "0,", "-1"):
        with pytest.raises(BratsError, match=f"--folds={folds}: give numbers of folds"):
            real.folds_of(folds)


def test_a_finished_part_is_not_repeated_and_a_failed_one_says_why(tmp_path):
    parts = real.Parts(tmp_path)
    program = f"open({str(tmp_path / 'ran')!r}, 'a').write('x')"
    for _ in range(2):
        found = parts.run("one", [sys.executable, "-S", "-c", program], os.environ)
        assert found["wall"] > 0 and len(found["load"]) == 2
    assert (tmp_path / "ran").read_text() == "x"
    failing = [sys.executable, "-S", "-c", "import sys; sys.exit('no such plans')"]
    with pytest.raises(BratsError, match="part two ended with status 1: no such plans"):
        parts.run("two", failing, os.environ)
    assert not parts.document("two").exists()


def test_a_folder_is_not_continued_with_other_arguments(tmp_path):
    def request(*more):
        given = ["--store=S", "--source=D", "--config=configs/real.py", "--peer_python=P"]
        given += [f"--output={tmp_path}", "--device=cpu", *more]
        real.Measurement(*real.parser().parse_known_args(given)).check_request()

    request("--config.model.width=16")  # nothing is finished yet
    request("--config.model.width=8")
    (tmp_path / "parts" / "pace.json").write_text("{}")
    request("--config.model.width=8", "--peers=twin")
    with pytest.raises(BratsError, match="was begun with other minutes, settings; give another"):
        request("--minutes=5")


def test_minutes_become_steps_after_start_validation_and_checkpoints():
    parts = {"step": 0.5, "validation": 8.0, "checkpoint": 2.0}
    # 100 s - 20 s - 2 x 10 s for 2 epochs of steps of half a second.
    assert ours_real.steps_of_epoch(100, 2, parts, 20.0) == 60
    with pytest.raises(BratsError, match="too short: start and 2 validations take 40 s"):
        ours_real.steps_of_epoch(40, 2, parts, 20.0)


def test_nnunet_ends_in_its_time_when_iterations_become_slower():
    assert nnunet_real.epochs_of(100, 1.0) == 3 and nnunet_real.epochs_of(100, 10.0) == 2
    assert nnunet_real.epochs_of(1e6, 1.0) == nnunet_real.MOST_EPOCHS
    assert nnunet_real.epochs_of(10, 60.0) == 1
    pace = nnunet_real.Pace(100.0, 4, 1.0, begin=0.0)
    now, done = 0.0, []
    for epoch in range(4):
        done.append(pace.iterations(epoch, now))
        each = 1.0 if epoch == 0 else 2.0
        for _ in range(done[-1]):
            pace.add(each)
        now += done[-1] * each + 1.0  # and its validation
    # 25 s for each epoch, then (100 - 26) / 3, then half as many of twice the length.
    assert done == [25, 24, 6, 6] and now < 110


@pytest.mark.parametrize(
    "epochs, minutes, device, flag",
    [
        (0, 0.0, "cpu", "--seconds=480"),
        (0, 8.0, "cuda", "--seconds=480"),
        (0, 0.0, "cuda", "--epochs=1000"),
        (50, 8.0, "cuda", "--epochs=50"),
    ],
)
def test_nnunet_trains_as_long_as_ours_but_on_a_gpu_its_own_epochs(epochs, minutes, device, flag):
    assert real.nnunet_length(epochs, minutes, device, 480.2) == flag


def test_settings_that_the_other_programs_do_not_follow_are_refused():
    config = best.get_config()
    options = TrainOptions(epochs=2, schedule="cosine", clip_norm=1.0)
    recipe_real.check_recipe(parse(config), options)
    config.loss = "focal"
    config.model.fusion = "stem"
    config.segment.dice_present = True
    config.segment.modality_dropout = 0.5
    with pytest.raises(
        BratsError, match=r"freeze_epochs=1, config\.loss=focal, config\.model\.fu.*:"
    ) as refused:
        recipe_real.check_recipe(parse(config), TrainOptions(freeze_epochs=1))
    assert "modality_dropout=0.5, config.segment.dice_present=True: leave" in str(refused.value)


def test_arrays_pass_through_a_pipe_unchanged():
    arrays = {"x": np.arange(24.0).reshape(2, 3, 4)[:, ::2], "labels": np.zeros((0, 3), np.uint8)}
    stream = io.BytesIO()
    array_pipe.send(stream, {"do": "train"}, arrays)
    array_pipe.send(stream, {})
    stream.seek(0)
    header, found = array_pipe.receive(stream)
    assert header == {"do": "train"}
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    assert array_pipe.receive(stream) == ({}, {}) and array_pipe.receive(stream) is None
