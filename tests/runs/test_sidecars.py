"""Sidecars of predicted cases: files, schemas, and values that cannot be read."""

import dataclasses

import pytest

from brats_jax.errors import BratsError
from brats_jax.runs import sidecars
from brats_jax.runs.documents import TrainingFacts
from brats_jax.runtime.document import read_document

MODEL = sidecars.ModelFacts(
    "a" * 64, "RUN", (sidecars.FoldModel(0, "b" * 64, 7, 1.5),), TrainingFacts("patient"), {}
)
SEGMENTATION = sidecars.SegmentationSidecar(
    case="A",
    use="research",
    program="brats_jax",
    version="0.1.0",
    model=MODEL,
    averaged=sidecars.Averaged(1, 4),
    min_component_mm3=5.0,
    min_et_mm3=0.0,
    made="now",
    inputs={"t1": "t1.nii"},
    notes=("a note",),
    labels={"1": "NCR/NET"},
    volumes_ml={"WT": sidecars.VolumeRange(3.0, None, None)},
    files={"A_seg.nii.gz": 12},
)


def test_a_sidecar_is_read_as_it_was_written(tmp_path):
    SEGMENTATION.write(tmp_path / "a.json")
    assert read_document(tmp_path / "a.json", sidecars.SegmentationSidecar) == SEGMENTATION


def test_the_sidecar_of_a_case_is_not_that_of_a_single_output(tmp_path):
    """Both have the same fields; the schema tells them apart."""
    values = {f.name: getattr(SEGMENTATION, f.name) for f in dataclasses.fields(SEGMENTATION)}
    sidecars.SegmentationOutputSidecar(**values).write(tmp_path / "a.json")
    with pytest.raises(BratsError, match=r"not a version 1 brats_jax.prediction file"):
        read_document(tmp_path / "a.json", sidecars.SegmentationSidecar)


def test_an_unreadable_sidecar_names_its_remedy(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(BratsError, match="predict the case again with --overwrite"):
        read_document(tmp_path / "a.json", sidecars.SegmentationSidecar)


def test_a_sidecar_names_the_files_that_are_not_whole(tmp_path):
    (tmp_path / "whole").write_bytes(b"123")
    (tmp_path / "short").write_bytes(b"1")
    files = {"whole": 3, "short": 3, "gone": 3}
    assert sidecars.missing_files(tmp_path, files) == ["short", "gone"]
