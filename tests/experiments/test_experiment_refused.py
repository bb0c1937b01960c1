"""What cannot work is refused in one line, and leaves nothing behind."""

import numpy as np
import pytest
import safetensors.numpy
from experiment_examples import config_of

from brats_jax.errors import BratsError, Busy
from brats_jax.experiments import experiment
from brats_jax.runtime import locks

pytestmark = pytest.mark.usefixtures("shallow")


def test_other_settings_need_another_folder(finished, small_store, compiled_programs):
    workdir, _, _ = finished
    changed = config_of(small_store, compiled_programs, seed=5, loss="focal")
    with pytest.raises(BratsError, match="loss: dice_ce -> focal; seed: 0 -> 5"):
        experiment.run(changed, workdir)


def test_another_store_needs_another_folder(finished, compiled_programs, tmp_path):
    from brats_jax.data.store.prepare import prepare
    from brats_jax.data.store.reader import Store

    workdir, _, _ = finished
    prepare("phantom", tmp_path / "s", patients=6, seed=1, shape=(16, 32, 32), workers=1)
    other = config_of(Store.open(tmp_path / "s"), compiled_programs)
    with pytest.raises(BratsError, match="was started on another store"):
        experiment.run(other, workdir)


def test_a_folder_without_a_run_cannot_be_evaluated(small_store, compiled_programs, tmp_path):
    config = config_of(small_store, compiled_programs)
    with pytest.raises(BratsError, match="no run there to evaluate"):
        experiment.run(config, tmp_path / "none", "evaluate")
    assert not (tmp_path / "none").exists()
    with pytest.raises(
        BratsError, match="unknown --mode=predict; valid: train, pretrain, evaluate"
    ):
        experiment.run(config, tmp_path / "none", "predict")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BratsError, match="file is a file: choose another --workdir"):
        experiment.run(config, tmp_path / "file")
    message = r"run cannot be written \(Not a directory\): choose another --workdir"
    with pytest.raises(BratsError, match=message):
        experiment.run(config, tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("place", [".", "runs/ssl"])
def test_no_run_goes_into_its_store(small_store, compiled_programs, tmp_path, place):
    (tmp_path / "s").symlink_to(small_store.path)
    config = config_of(small_store, compiled_programs, data__store=str(tmp_path / "s"))
    before = sorted(small_store.path.iterdir())
    with pytest.raises(BratsError, match=r"the store.* holds nothing else: choose another --work"):
        experiment.run(config, small_store.path / place)
    assert sorted(small_store.path.iterdir()) == before


def test_a_missing_store_is_refused(compiled_programs, tmp_path, small_store):
    config = config_of(small_store, compiled_programs, data__store=str(tmp_path / "none"))
    with pytest.raises(BratsError, match="none"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_store_with_too_few_patients_is_refused(small_store, compiled_programs, tmp_path):
    config = config_of(small_store, compiled_programs, data__num_folds=8)
    with pytest.raises(BratsError, match="8 patients are too few for 1 in the test set and 8"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__patch_size": 64}, "patch_size=64 does not fit slices of 48 x 48"),
        ({"train__batch_size": 3}, "train.batch_size=3 cannot be divided among 2 devices"),
    ],
)
def test_refused_settings_leave_no_folder(
    small_store, compiled_programs, tmp_path, changes, message
):
    config = config_of(small_store, compiled_programs, **changes)
    with pytest.raises(BratsError, match=message):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, r"w\.safetensors: not a readable safetensors .*; fetch or convert it again"),
        (
            {"conv1.weight": np.zeros((8, 3, 7, 7))},
            r"w\.safetensors: not the weights of .*use torch",
        ),
    ],
)
@pytest.mark.parametrize("ssl", [True, False])
def test_weights_that_do_not_fit_leave_no_folder(
    small_store, compiled_programs, tmp_path, weights, message, ssl
):
    path = tmp_path / "w.safetensors"
    if weights is None:
        path.write_bytes(b"half a file")
    else:
        safetensors.numpy.save_file(weights, path)
    config = config_of(small_store, compiled_programs, encoder_init=str(path), ssl=ssl)
    with pytest.raises(BratsError, match=message):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_fold_in_use_by_another_process_is_refused(finished):
    workdir, config, _ = finished
    with (
        locks.hold(workdir / "fold_0" / "lock", "it"),
        pytest.raises(Busy, match="fold_0: in use by"),
    ):
        experiment.run(config, workdir)
