"""What a stage left; the whole is tested in tests/faults/test_damaged_checkpoints.py."""

import pytest

from brats_jax.errors import BratsError
from brats_jax.experiments.stage_state import needs_no_training
from brats_jax.runs.documents import StageResult
from brats_jax.runs.folder import StageFolder


def test_a_complete_stage_without_any_checkpoint_is_refused(tmp_path):
    folder = StageFolder(tmp_path / "segment")
    assert not needs_no_training(folder)
    StageResult("mse", 0.5, 7, 7, 1.0).write(folder.complete_json)
    with pytest.raises(BratsError, match="holds no checkpoint to go on from"):
        needs_no_training(folder)
    (folder.best / "7").mkdir(parents=True)
    assert needs_no_training(folder)
