"""A modality that is blank in a part of the brain is noted, or refused where that is most of it."""

import re

import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.case_files import group_by_case
from brats_jax.data.scans.scan import read_scan
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.kaggle import KaggleSource
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.errors import BratsError

SHAPE = (24, 20, 16)


@pytest.fixture
def readings(tmp_path, brats_files):
    """A function that blanks a part of T2, and the notes of preparation and prediction."""
    paths = brats_files.write_nifti_case(tmp_path, "A", brats_files.make_case(shape=SHAPE))

    def of(*blank):
        image = nib.load(paths["t2"])
        voxels = np.array(image.dataobj)
        voxels[blank] = 0
        nib.save(nib.Nifti1Image(voxels, image.affine), paths["t2"])
        files = folder_files(tmp_path)
        (case,) = group_by_case(files, labels=False).values()
        yield lambda: NiftiSource(tmp_path, files).read("A").notes
        yield lambda: read_scan(case, MODALITIES).notes

    return of


ALL = slice(None)
PARTS = [
    ((ALL, ALL, slice(6, 10)), "in 4 of the 1[0-9] axial"),
    ((slice(0, 9), ALL, ALL), "sagittal"),
    ((ALL, slice(12, 20), ALL), "coronal"),
]


@pytest.mark.parametrize(("part", "words"), PARTS)
def test_preparation_and_prediction_count_the_blank_slices(readings, part, words):
    for notes in readings(*part):
        assert any(re.match(rf"A_t2.nii.gz is blank .*{words} slices", note) for note in notes())


@pytest.mark.parametrize("part", [(ALL, ALL, slice(3, 12)), (slice(0, 15), ALL, ALL)])
def test_more_than_half_of_the_brain_is_refused(readings, part):
    for notes in readings(*part):
        with pytest.raises(BratsError, match=r"A_t2.nii.gz is blank in .* slices of the brain"):
            notes()


def test_slice_files_are_counted_too(tmp_path, brats_files):
    volumes = brats_files.make_case(shape=SHAPE)
    volumes["flair"][..., 6:10] = 0
    brats_files.write_kaggle(tmp_path, 1, volumes)
    (name,) = (source := KaggleSource(tmp_path, folder_files(tmp_path))).patients()
    assert any(f"FLAIR of {name} is blank in 4 of" in note for note in source.read(name).notes)


def test_right_cases_have_no_such_note(readings):
    for notes in readings(slice(0), ALL, ALL):
        assert not any("blank" in note for note in notes())
