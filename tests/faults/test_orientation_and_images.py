"""Preparation and prediction refuse or settle the same files, by one rule."""

import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.case_files import group_by_case
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.scan import read_scan
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.errors import BratsError


@pytest.fixture
def case(tmp_path, brats_files):
    """(files, the stored images, a function that reads the case both ways)."""
    paths = brats_files.write_nifti_case(tmp_path, "A", brats_files.make_case())

    def read(orientation=""):
        options = ReadOptions(orientation)
        (files,) = group_by_case(folder_files(tmp_path), labels=False).values()
        prepared = NiftiSource(tmp_path, folder_files(tmp_path), options=options).read("A")
        return prepared.images, read_scan(files, MODALITIES, options=options).images

    return paths, read()[0], read


def rewrite(path, change=lambda v: v, affine=None, code=None, unit=None):
    image = nib.load(path)
    voxels = change(np.asarray(image.dataobj))
    image = nib.Nifti1Image(voxels, image.affine if affine is None else affine(image.affine))
    if code is not None:
        image.set_sform(None, code)
        image.set_qform(None, code)
    if unit:
        image.header.set_xyzt_units(unit)
    nib.save(image, path)


def settled(paths):
    rewrite(paths["t1"], affine=lambda a: np.eye(4))
    rewrite(paths["t2"], code=0)


def in_metres(paths):
    for path in paths.values():
        rewrite(path, affine=lambda a: np.diag([1e-3, 1e-3, 1e-3, 1]) @ a, unit="meter")


def padded(paths):
    rewrite(paths["t2"], lambda v: np.where(v == 0, -1024, v).astype(np.int16))


@pytest.mark.parametrize("change", [settled, in_metres, padded])
def test_what_can_be_settled_is_read_as_the_right_files(case, change):
    paths, right, read = case
    change(paths)
    for images in read():
        np.testing.assert_array_equal(images, right)


def test_without_codes_the_flag_settles_the_axes(case):
    paths, right, read = case
    for path in paths.values():
        rewrite(path, code=0)
    with pytest.raises(BratsError, match="LAS or LPS"):
        read()
    for images in read("lps"):
        np.testing.assert_array_equal(images, right)
