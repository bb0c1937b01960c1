"""Two exchanged modalities of a case are noticed by their contrast, without labels."""

import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans import contrast
from brats_jax.data.scans.case_files import group_by_case
from brats_jax.data.scans.contrast import exchange_note
from brats_jax.data.scans.scan import WARNING, read_scan
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.nifti import NiftiSource

FILES = {name: f"{name}.nii.gz" for name in MODALITIES}


@pytest.fixture(scope="module")
def images():
    """White matter, grey matter and CSF with the contrasts of the four modalities, and noise."""
    rng = np.random.default_rng(0)
    tissue = rng.integers(0, 3, (60, 60, 60))
    contrasts = {"t1": (3, 2, 1), "t1gd": (3.2, 2.1, 1), "t2": (1, 2, 4), "flair": (2, 3, 1)}
    channels = [np.array(contrasts[name])[tissue] for name in MODALITIES]
    noisy = np.stack(channels, -1) + 0.2 * rng.standard_normal((*tissue.shape, len(MODALITIES)))
    noisy[:, :, :10] = 0  # air
    return noisy


def exchanged(images, *names):
    order = [MODALITIES.index(name) for name in MODALITIES]
    one, other = (MODALITIES.index(name) for name in names)
    order[one], order[other] = order[other], order[one]
    return images[..., order]


def test_the_line_names_the_files_that_are_exchanged(images):
    assert exchange_note(images, FILES) == ""
    assert exchange_note(exchanged(images, "t1", "flair"), FILES) == (
        "by its contrast T1Gd (t1gd.nii.gz) is more like FLAIR (flair.nii.gz) than like T1 "
        "(t1.nii.gz): check which is which"
    )
    assert "is more like T2 (t2.nii.gz)" in exchange_note(exchanged(images, "t1", "t2"), FILES)
    assert "is more like FLAIR" in exchange_note(exchanged(images, "t1gd", "t2"), FILES)


def test_prediction_and_preparation_warn(images, brats_files, tmp_path, monkeypatch):
    monkeypatch.setattr(contrast, "_LEAST_VOXELS", 1000)
    wrong = exchanged(images, "t1", "flair")[:48, :48, :40]
    wrong = np.pad(wrong, ((8, 8), (8, 8), (8, 8), (0, 0)))
    volumes = {name: np.int16(100 * wrong[..., k]) for k, name in enumerate(MODALITIES)}
    seg = np.zeros(wrong.shape[:3], np.uint8)
    brats_files.write_nifti_case(tmp_path, "BraTS2021_00001", {**volumes, "seg": seg})
    (files,) = group_by_case(folder_files(tmp_path), labels=False).values()
    (note,) = [n for n in read_scan(files, MODALITIES).notes if "by its contrast" in n]
    assert note.startswith(WARNING) and "FLAIR (BraTS2021_00001_flair.nii.gz)" in note
    source = NiftiSource(tmp_path, folder_files(tmp_path))
    (prepared,) = source.read("BraTS2021_00001").notes
    assert prepared == note


def test_scans_that_cannot_tell_have_no_line(images):
    wrong = exchanged(images, "t1", "flair")
    assert exchange_note(wrong[:20, :20, :20], FILES) == ""  # too small
    for lacking in ("t1", "t1gd"):
        assert exchange_note(wrong, {k: v for k, v in FILES.items() if k != lacking}) == ""
    two = {name: FILES[name] for name in ("t1", "t1gd")}
    assert exchange_note(wrong, two) == ""
    three = {name: FILES[name] for name in ("t1", "t1gd", "t2")}
    assert exchange_note(wrong, three) == ""  # CSF of T2 is bright, that of T1Gd is dark
