"""Labels and images whose headers contradict each other on axes or place."""

import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.errors import BratsError

IMAGES = ("t1", "t1gd", "t2", "flair")


@pytest.fixture
def case(tmp_path, brats_files):
    """(files, volumes, a function that reads the case)."""
    volumes = brats_files.make_case(shape=(40, 36, 24))
    paths = brats_files.write_nifti_case(tmp_path, "A", volumes)

    def read(orientation=""):
        options = ReadOptions(orientation)
        return NiftiSource(tmp_path, folder_files(tmp_path), options=options).read("A")

    return paths, volumes, read


def rewrite(path, affine, change=lambda v: v):
    nib.save(nib.Nifti1Image(change(np.asarray(nib.load(path).dataobj)), affine), path)


def shifted(brats_files, mm):
    affine = brats_files.AFFINE.copy()
    affine[:3, 3] += mm
    return affine


def check(case, volumes):
    np.testing.assert_array_equal(np.moveaxis(case.labels, 0, 2), volumes["seg"])
    np.testing.assert_array_equal(np.moveaxis(case.images[..., 0], 0, 2), volumes["t1"])


def test_images_of_the_identity_beside_other_labels_are_refused_with_both_readings(case):
    paths, volumes, read = case
    for name in IMAGES:
        rewrite(paths[name], np.eye(4))
    with pytest.raises(BratsError, match=r"A_seg.nii.gz is LPS .*--orientation=LPS or --or.*=RAS"):
        read()
    check(read("LPS"), volumes)
    turned = {name: np.flip(values, (0, 1)) for name, values in volumes.items()}
    check(read("RAS"), turned)


def test_most_images_of_the_identity_do_not_outvote_another_header(case):
    paths, _, read = case
    for name in IMAGES[1:]:
        rewrite(paths[name], np.eye(4))
    with pytest.raises(BratsError, match=r"RAS; .*A_t1.nii.gz: LPS.*identity.*=RAS or .*=LPS"):
        read()


def test_labels_of_the_identity_are_settled_by_the_brain_or_refused(case):
    paths, volumes, read = case
    rewrite(paths["seg"], np.eye(4))
    with pytest.raises(BratsError, match=r"is RAS by its header, its images are LPS.*=LPS.*=RAS"):
        read()  # the tumour lies in the brain both ways
    check(read("LPS"), volumes)


@pytest.mark.parametrize("mm", [(3, 0, 0), (0, 0, -4), (2, 2, 5)])
def test_labels_elsewhere_are_refused_where_the_brain_does_not_decide(case, brats_files, mm):
    paths, _, read = case
    small = np.zeros((40, 36, 24), np.uint8)
    small[18:20, 16:18, 11:13] = 2
    rewrite(paths["seg"], shifted(brats_files, mm), lambda v: small)
    away = f"{np.linalg.norm(mm):.0f}"
    line = rf"A_seg.nii.gz lies {away} mm away from .*, and the brain does not decide \(8 of its 8"
    with pytest.raises(BratsError, match=line):
        read()


@pytest.mark.parametrize("mm", [(30, 0, 0), (0, -239, 0), (0, 0, 20)])
def test_labels_in_the_brain_on_the_grid_of_the_images_alone_are_noted(case, brats_files, mm):
    paths, volumes, read = case
    rewrite(paths["seg"], shifted(brats_files, mm))
    found = read()
    check(found, volumes)
    assert any("A_seg.nii.gz has another affine" in note for note in found.notes)


def test_labels_in_other_axes_and_elsewhere_are_refused(case, brats_files):
    paths, volumes, read = case
    voxels, affine = brats_files.in_axes(np.where(volumes["seg"] == 3, 4, volumes["seg"]), "RAS")
    affine = affine.copy()
    affine[:3, 3] += (0, 0, 3)
    nib.save(nib.Nifti1Image(voxels, affine), paths["seg"])
    with pytest.raises(BratsError, match=r"3 mm away from|does not decide"):
        read()


def test_labels_a_voxel_away_are_on_the_same_grid(case, brats_files):
    paths, volumes, read = case
    rewrite(paths["seg"], shifted(brats_files, (0.5, 0.5, 1)))
    found = read()
    check(found, volumes)
    assert any("same grid" in note for note in found.notes)


def turned(brats_files, degrees, about):
    angle = np.deg2rad(degrees)
    turn, there, back = np.eye(4), np.eye(4), np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    there[:3, 3], back[:3, 3] = about, np.negative(about)
    return brats_files.AFFINE @ there @ turn @ back


@pytest.mark.parametrize("degrees", [5, 25, -30])
def test_labels_tilted_by_their_header_are_refused_as_images_are(case, brats_files, degrees):
    paths, _, read = case
    small = np.zeros((40, 36, 24), np.uint8)
    small[18:20, 16:18, 11:13] = 2
    rewrite(paths["seg"], turned(brats_files, degrees, (19, 17, 12)), lambda v: small)
    for orientation in ("", "LPS", "RAS"):
        with pytest.raises(BratsError, match=f"tilted by {abs(degrees)} degrees against .*decide"):
            read(orientation)


def test_tilted_labels_in_the_brain_on_the_grid_of_the_images_alone_are_noted(case, brats_files):
    paths, volumes, read = case
    rewrite(paths["seg"], turned(brats_files, 30, (0, 90, 0)))
    found = read()
    check(found, volumes)
    assert any("tilted by 30 degrees" in note and "same grid" in note for note in found.notes)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAS"])
def test_a_choice_of_axes_does_not_excuse_another_place(case, brats_files, orientation):
    paths, _, read = case
    small = np.zeros((40, 36, 24), np.uint8)
    small[18:20, 16:18, 11:13] = 2
    rewrite(paths["seg"], shifted(brats_files, (5, 0, 0)), lambda v: small)
    with pytest.raises(BratsError, match="lies 5 mm away from"):
        read(orientation)


def test_a_choice_for_labels_in_other_axes_does_not_excuse_another_place(case, brats_files):
    paths, _, read = case
    small = np.zeros((40, 36, 24), np.uint8)
    small[18:20, 16:18, 11:13] = 2
    voxels, affine = brats_files.in_axes(small, "RAS")
    affine = affine.copy()
    affine[:3, 3] += (5, 0, 0)
    nib.save(nib.Nifti1Image(voxels, affine), paths["seg"])
    with pytest.raises(BratsError, match="lies 5 mm away from"):
        read("RAS")
