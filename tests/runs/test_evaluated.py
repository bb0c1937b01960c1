import pytest
from document_examples import evaluation_of, write_tally_head

from brats_jax.runs.evaluated import has_tally, is_current
from brats_jax.runs.folder import FoldFolder


@pytest.fixture
def fold(tmp_path):
    """A fold whose segmentation is evaluated at step 5."""
    fold = FoldFolder(tmp_path / "fold_0")
    evaluation_of("segment", step=5).write(fold.evaluation_json)
    write_tally_head(fold.tally("segment"), "segment")
    return fold


def test_an_evaluation_is_current_for_its_step_stage_and_settings_only(fold):
    assert is_current(fold, {"segment": 5}, slices="all", tolerance_mm=1.0)
    assert not is_current(fold, {"segment": 6})
    assert not is_current(fold, {"segment": 5, "pretrain": 5})
    assert not is_current(fold, {"segment": 5}, slices="tumour")
    assert not is_current(fold, {"segment": 5}, tolerance_mm=2.0)


def test_an_evaluation_without_its_tally_is_not_current(fold):
    fold.tally("segment").unlink()
    assert not is_current(fold, {"segment": 5})


@pytest.mark.parametrize(("stage", "version"), [("pretrain", 2), ("segment", 1)])
def test_a_tally_of_another_stage_or_version_does_not_count(fold, stage, version):
    write_tally_head(fold.tally("segment"), stage, version)
    assert not has_tally(fold.tally("segment"), "segment")
