"""A file of the model and its description: replaced only as this program wrote them."""

import gzip
import hashlib
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.scans.writing import encoded
from brats_jax.errors import BratsError
from brats_jax.inference.output_file import OutputFile
from brats_jax.runs.documents import TrainingFacts
from brats_jax.runs.sidecars import (
    Averaged,
    FoldModel,
    ModelFacts,
    SegmentationOutputSidecar,
)

MODEL = ModelFacts("a1", "RUN", (FoldModel(0, "a1", 5, 1.0),), TrainingFacts(), {})
FACTS = ("case", "", "brats_jax", "0", MODEL, Averaged(1, 1), 0.0, 0.0, "now", {}, ())
DESCRIPTION = SegmentationOutputSidecar(*FACTS, labels={"0": "background"})


def image(value):
    """The bytes of a prediction as .nii.gz."""
    made = nib.Nifti1Image(np.full((4, 4, 4), value, np.int16), np.eye(4))
    made.header["descrip"] = b"brats_jax"
    return encoded(made, Path("x.nii.gz"))


@pytest.fixture
def output(tmp_path):
    file = OutputFile(tmp_path / "mine.nii.gz")
    file.write(image(1), DESCRIPTION)
    return file


def refusal(file):
    with pytest.raises(BratsError) as caught:
        file.write(image(9), DESCRIPTION)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_replaced_with_its_description(output, tmp_path):
    output.write(image(2), DESCRIPTION)
    assert output.path.read_bytes() == image(2)
    assert json.loads(output.sidecar.read_text())["files"] == {"mine.nii.gz": len(image(2))}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json", "mine.nii.gz"]


def test_the_corrections_of_a_reader_are_kept(output):
    output.path.write_bytes(image(7))
    assert refusal(output) == (
        f"{output.path} has changed since it was written by this program: kept; move it away, or "
        "give another output"
    )
    output.sidecar.unlink()
    assert "is there without the description that was written with it: kept" in refusal(output)
    assert output.path.read_bytes() == image(7)


def test_a_copy_that_was_cut_short_is_no_correction(output):
    output.path.write_bytes(image(1)[:-5])
    output.write(image(2), DESCRIPTION)
    assert output.path.read_bytes() == image(2)


def test_files_of_others_are_kept(tmp_path):
    file = OutputFile(tmp_path / "other.nii.gz")
    file.path.write_bytes(gzip.compress(b"of the user"))
    assert f"{file.path} is there and was not written by this program" in refusal(file)
    file.path.unlink()
    file.sidecar.write_text('{"EchoTime": 0.1}')
    assert f"{file.sidecar} is there and was not written by this program" in refusal(file)
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


@pytest.mark.parametrize("edited", [False, True])
def test_an_output_of_an_earlier_version_without_hashes_is_kept_if_edited(output, edited):
    document = json.loads(output.sidecar.read_text())
    del document["sha256"], document["document_sha256"]
    output.sidecar.write_text(json.dumps(document))
    old = output.sidecar.stat().st_mtime - 3600
    os.utime(output.path, (old, old))
    os.utime(output.sidecar, (old, old))
    if edited:
        output.path.write_bytes(image(7))
        assert "has changed since it was written" in refusal(output)
    else:
        output.write(image(2), DESCRIPTION)
        assert output.path.read_bytes() == image(2)


def test_a_killed_call_finds_its_file_again(output):
    """The list of hashes is written before the file."""
    output.path.write_bytes(image(3))
    output.sidecar.unlink()
    ledger = output.path.with_name("mine.writing.json")
    hashes = {"mine.nii.gz": [hashlib.sha256(image(3)).hexdigest()]}
    ledger.write_text(json.dumps({"schema": "brats_jax.files", "version": 1, "files": hashes}))
    output.write(image(4), DESCRIPTION)
    assert output.path.read_bytes() == image(4) and not ledger.exists()
