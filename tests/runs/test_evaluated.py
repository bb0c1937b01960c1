import dataclasses
from pathlib import Path

import numpy as np
import pytest
from document_examples import evaluation_of, write_tally_head

from brats_jax.runs.documents import Score
from brats_jax.runs.evaluated import files_of, has_tally, is_current
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


FILES = (
    *("tally_segment.npz", "evaluation_segment.csv", "evaluation_segment_patients.csv"),
    *("panels/segmentation.png", "panels/segmentation.npz"),
)


CONTENT = {".csv": b"patient,Dice\nA,0.5\n", ".png": b"\x89PNG" + bytes(99) + b"IEND\xaeB`\x82"}


@pytest.fixture
def whole(fold):
    """The same with tables and panels, which evaluation.json lists."""
    assert files_of(fold, "segment", volumes=True, panels=True) == FILES
    dataclasses.replace(evaluation_of("segment", step=5), files=FILES).write(fold.evaluation_json)
    fold.panels.mkdir()
    for name in FILES[1:-1]:
        (fold.path / name).write_bytes(CONTENT[Path(name).suffix])
    np.savez(fold.segmentation_npz, images=np.arange(99))
    assert is_current(fold, {"segment": 5})
    return fold


@pytest.mark.parametrize("name", [*FILES, "evaluation.json"])
@pytest.mark.parametrize("kept", [None, 0, 0.5])
def test_an_evaluation_of_which_a_file_is_removed_or_cut_is_not_current(whole, name, kept):
    path = whole.path / name
    data = path.read_bytes()
    path.unlink() if kept is None else path.write_bytes(data[: int(kept * len(data))])
    assert not is_current(whole, {"segment": 5})
    path.write_bytes(data)
    assert is_current(whole, {"segment": 5})


@pytest.mark.parametrize("name", ["tally_segment.npz", "panels/segmentation.npz"])
def test_an_evaluation_with_a_flipped_bit_in_its_arrays_is_not_current(whole, name):
    path = whole.path / name
    data = bytearray(path.read_bytes())
    data[data.index(b"\x93NUMPY") + 140] ^= 1
    path.write_bytes(data)
    assert not is_current(whole, {"segment": 5})


def test_an_evaluation_of_an_earlier_version_has_the_tables_of_its_rows(fold):
    """It does not list its files."""
    score = Score("segment", "slice", "all slices", "WT", "dice", "paper", 0.5, 4)
    by_patient = dataclasses.replace(score, unit="patient", over="volumes")
    evaluation = evaluation_of("segment", step=5)
    dataclasses.replace(evaluation, rows=(score,)).write(fold.evaluation_json)
    assert not is_current(fold, {"segment": 5})
    fold.slices_csv("segment").write_bytes(CONTENT[".csv"])
    assert is_current(fold, {"segment": 5}, panels=False)
    assert not is_current(fold, {"segment": 5}, panels=True)
    dataclasses.replace(evaluation, rows=(score, by_patient)).write(fold.evaluation_json)
    assert not is_current(fold, {"segment": 5}, panels=False)
    fold.patients_csv("segment").write_bytes(CONTENT[".csv"])
    assert is_current(fold, {"segment": 5}, panels=False)
