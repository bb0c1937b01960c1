import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.scans.case_files import group_by_case
from brats_jax.data.scans.scan import check_headers, read_scan
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.errors import BratsError
from brats_jax.inference.inputs import named_files

INPUTS = ("t1", "t1gd", "t2", "flair")
CASE = "BraTS2021_00001"


@pytest.fixture
def case(brats_files, tmp_path):
    """(files by modality, a function that reads the case)."""
    volumes = brats_files.make_case(0)
    paths = brats_files.write_nifti_case(tmp_path, CASE, volumes)

    def read(needed=INPUTS, **options):
        (found,) = group_by_case(folder_files(tmp_path), labels=False).values()
        return read_scan(found, needed, **options)

    return paths, read


def rewrite(path, change=lambda v: v, affine=None):
    image = nib.load(path)
    voxels = change(np.asarray(image.dataobj).copy())
    nib.save(nib.Nifti1Image(voxels, image.affine if affine is None else affine), path)


def scaled(sizes):
    return np.diag([-sizes[0], -sizes[1], sizes[2], 1.0])


def nan_in(voxels):
    voxels = voxels.astype(np.float32)
    voxels[3, 3, 3] = np.nan
    return voxels


def uneven_air(voxels):
    return voxels + (np.arange(voxels.size).reshape(voxels.shape) % 50).astype(voxels.dtype)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p["t2"].unlink(), "no T2 volume, which the model needs: add it"),
        (lambda p: rewrite(p["flair"], lambda v: v[:, :, :-1]),
         "flair.nii.gz is 24 x 20 x 7, .*t1.nii.gz is 24 x 20 x 8: .*--resample"),
        (lambda p: rewrite(p["flair"], affine=scaled((1, 1, 1))),
         "flair.nii.gz lies elsewhere than .*t1.nii.gz .their affines differ.: .*--resample"),
        (lambda p: [rewrite(p[m], affine=scaled((1, 1, 3))) for m in INPUTS],
         "t1.nii.gz has voxels of 1 x 1 x 3 mm, not of 1 mm: .*--resample"),
        (lambda p: [rewrite(p[m], affine=scaled((2, 2, 2))) for m in INPUTS],
         "voxels of 2 x 2 x 2 mm"),
        (lambda p: [rewrite(p[m], uneven_air) for m in INPUTS],
         "t1.nii.gz has air that is neither 0 nor one value .*: strip the skull first"),
        (lambda p: rewrite(p["t2"], uneven_air),
         "t2.nii.gz has air that is neither 0 nor one value .*: strip the skull first"),
        (lambda p: rewrite(p["t1gd"], lambda v: np.stack([v, v], -1)),
         r"t1ce.nii.gz holds int16\[24, 20, 8, 2\], not one volume"),
        (lambda p: rewrite(p["t1gd"], nan_in), "t1ce.nii.gz holds voxels that are not finite"),
        (lambda p: rewrite(p["t1gd"], lambda v: v * 1e37),
         r"t1ce.nii.gz holds values up to \S+e\+39, beyond 32-bit floats: rescale"),
        (lambda p: rewrite(p["t2"], np.zeros_like), "t2.nii.gz is all zero: fetch it again"),
        (lambda p: p["t2"].write_bytes(p["t2"].read_bytes()[:-50]),
         "t2.nii.gz cannot be read .*: fetch it again"),
        (lambda p: p["t2"].write_bytes(b"what"), "t2.nii.gz cannot be read"),
        (lambda p: (p["t2"].parent / f"{CASE}_t2.nii").write_bytes(b""), "are the same volume"),
    ],
    ids=["missing", "shape", "affine", "anisotropic", "2 mm", "skull", "skull of one", "4D",
         "NaN", "huge", "zero", "truncated", "no NIfTI", "twice"],
)  # fmt: skip
def test_scans_unlike_brats_are_refused_in_one_line(case, spoil, message, request, tmp_path):
    paths, read = case
    spoil(paths)
    with pytest.raises(BratsError, match=message) as error:
        read()
    assert "\n" not in str(error.value)
    # The headers alone tell some of it, in the same words.
    (found,) = group_by_case(folder_files(tmp_path), labels=False).values()
    by_header = ""
    try:
        check_headers(found)
    except BratsError as early:
        by_header = str(early)
    told = ("shape", "affine", "anisotropic", "2 mm", "no NIfTI", "twice")
    assert by_header == (str(error.value) if request.node.callspec.id in told else "")


def test_the_headers_do_not_refuse_what_is_resampled_left_out_or_whole(case, tmp_path):
    paths, _ = case
    (found,) = group_by_case(folder_files(tmp_path), labels=False).values()
    check_headers(found)
    rewrite(paths["t2"], affine=scaled((1, 1, 3)))
    check_headers(found, resampled=True)
    check_headers(found, leave_out=("t2",))
    with pytest.raises(BratsError, match=r"t2.nii.gz has voxels of 1 x 1 x 3 mm, .*t1.nii.gz of"):
        check_headers(found)


def test_a_header_without_axes_is_left_to_the_vote_of_the_others(case, tmp_path):
    paths, _ = case
    image = nib.load(paths["t1"])
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, paths["t1"])
    (found,) = group_by_case(folder_files(tmp_path), labels=False).values()
    check_headers(found)


def test_files_of_different_cases_are_warned_of(case, brats_files, tmp_path):
    paths, read = case
    assert read().notes == []
    other = brats_files.write_nifti_case(tmp_path / "b", "BraTS2021_00002", brats_files.make_case())
    plain = tmp_path / "my_scan.nii.gz"  # says nothing of its case
    plain.write_bytes(paths["t2"].read_bytes())
    mixed = {**paths, "t2": plain, "flair": other["flair"]}
    scan = read_scan(named_files({name: mixed[name] for name in INPUTS}), INPUTS)
    assert scan.notes == [
        "WARNING: by their names these are files of different cases (T1 and T1Gd of "
        f"{CASE}, FLAIR of BraTS2021_00002)"
    ]


def test_names_that_contradict_the_modality_given_are_warned_of(case, brats_files, tmp_path):
    paths, _ = case
    mixed = {**paths, "t1gd": paths["t2"], "t2": paths["t1gd"]}
    scan = read_scan(named_files({name: mixed[name] for name in INPUTS}), INPUTS)
    assert scan.notes == [
        f"WARNING: {CASE}_t2.nii.gz was given as T1Gd and is T2 by its name; {CASE}_t1ce.nii.gz "
        "was given as T2 and is T1Gd by its name"
    ]
    labels = tmp_path / f"{CASE}_seg.nii.gz"
    labels.write_bytes(paths["flair"].read_bytes())
    named = named_files({name: paths[name] for name in INPUTS} | {"flair": labels})
    (note,) = read_scan(named, INPUTS).notes
    assert note == f"WARNING: {labels.name} was given as FLAIR and holds labels by its name"
    # Left out, it does not matter.
    (note, *others) = [*read_scan(named, INPUTS[:3], leave_out={"flair"}).notes, ""]
    assert not note and not others


def test_a_head_with_its_skull_is_refused(brats_files, tmp_path):
    """2.5 litres of voxels that are not zero, where a brain has 2 at most."""
    voxels = np.zeros((150, 150, 150), np.int16)
    voxels[5:-5, 5:-5, 5:-5] = 100
    for name in ("t1", "t1ce", "t2", "flair"):
        brats_files.write_volume(tmp_path / f"{CASE}_{name}.nii", voxels)
    (found,) = group_by_case(folder_files(tmp_path)).values()
    with pytest.raises(BratsError, match="not zero in 2744 ml, more than a brain has"):
        read_scan(found, INPUTS)


def test_a_tilted_head_is_refused(case):
    paths, read = case
    angle = np.radians(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    for name in INPUTS:
        rewrite(paths[name], affine=turn @ scaled((1, 1, 1)))
    with pytest.raises(BratsError, match="tilted by 20 degrees"):
        read()
    assert "tilted" in read(resampled=True).notes[0]


def test_the_slice_size_of_the_training_counts_for_slice_statistics(case, tmp_path):
    _, read = case
    (found,) = group_by_case(folder_files(tmp_path), labels=False).values()
    for refuse in (read, lambda **shape: check_headers(found, **shape)):
        with pytest.raises(BratsError, match="slices of 24 x 20, the model was trained on 32 x 30"):
            refuse(in_plane=(32, 30))
    plain, padded = read(), read(in_plane=(32, 30), resampled=True)
    assert padded.images.shape == (8, 32, 30, 4)
    # Nothing is interpolated: the brain is there, voxel by voxel, in the middle.
    for images in (plain.images, padded.images):
        assert (images != 0).sum() == (plain.images != 0).sum()
    brain = np.argwhere(padded.images[..., 0].any(axis=0))
    assert abs(brain.mean(axis=0) - [15.5, 14.5]).max() < 1
    # And back.
    labels = (padded.images[..., 0] > 300).astype(np.uint8)
    back = padded.to_input(labels, nearest=True)
    expected = np.moveaxis(plain.images[..., 0] > 300, 0, 2)
    np.testing.assert_array_equal(back, expected)
    with pytest.raises(BratsError, match=r"holds more .* than a slice of the model, 8 x 8 mm"):
        read(in_plane=(8, 8), resampled=True)


def test_resampling_keeps_things_in_place(case):
    """Voxels of 2 x 1 x 3 mm: on 1 mm the brain has six times the voxels, in the same place."""
    paths, read = case
    for name in INPUTS:
        rewrite(paths[name], affine=scaled((2, 1, 3)))
    scan = read(resampled=True)
    assert scan.images.shape[:3] == (22, 47, 20)
    original = np.asarray(nib.load(paths["t1"]).dataobj) > 150
    moved = scan.images[..., 0] > 150
    assert moved.sum() == pytest.approx(6 * original.sum(), rel=0.15)
    centre = (scan.grid.affine @ [*np.argwhere(np.moveaxis(moved, 0, 2)).mean(axis=0), 1])[:3]
    expected = (scaled((2, 1, 3)) @ [*np.argwhere(original).mean(axis=0), 1])[:3]
    np.testing.assert_allclose(centre, expected, atol=0.3)
    back = scan.to_input(moved.astype(np.uint8), nearest=True)
    assert back.shape == original.shape
    overlap = 2 * (back.astype(bool) & original).sum() / (back.sum() + original.sum())
    assert overlap > 0.95


def test_modalities_in_other_axes_share_a_grid_if_they_lie_together(case, brats_files):
    paths, read = case
    plain = read().images
    voxels = np.asarray(nib.load(paths["flair"]).dataobj)
    brats_files.write_volume(paths["flair"], voxels, "RSA")
    np.testing.assert_array_equal(read().images, plain)


def test_a_modality_that_lies_elsewhere_is_brought_onto_the_first(case):
    paths, read = case
    plain = read().images
    # Stored two voxels away, with a header that says so.
    away = nib.load(paths["flair"]).affine.copy()
    away[0, 3] += 2.0  # two voxels to the right; x runs Left
    rewrite(paths["flair"], lambda v: np.roll(v, 2, axis=0), affine=away)
    scan = read(resampled=True)
    np.testing.assert_allclose(scan.images, plain, atol=1e-3)
    assert "lies elsewhere" in scan.notes[0]


def test_a_header_that_places_a_modality_beside_the_head_is_refused(case):
    paths, read = case
    away = nib.load(paths["flair"]).affine.copy()
    away[0, 3] += 10.0  # of a head of 20 voxels, which have not moved
    rewrite(paths["flair"], affine=away)
    with pytest.raises(BratsError, match=r"overlap by 0\.\d\d .Dice. where their headers"):
        read(resampled=True)


def test_modalities_that_are_not_needed_may_be_missing(case):
    paths, read = case
    paths["flair"].unlink()
    scan = read(("t1", "t1gd"))
    assert scan.present == ("t1", "t1gd", "t2") and not scan.images[..., 3].any()
    with pytest.raises(BratsError, match="no FLAIR volume"):
        read()


def test_the_line_on_a_missing_modality_names_a_file_that_may_be_it(case):
    paths, read = case
    paths["t2"].with_name(f"{CASE}_brain_mask.nii.gz").touch()
    paths["flair"].rename(paths["flair"].with_name(f"{CASE}_FLAIR_corrected.nii.gz"))
    with pytest.raises(BratsError) as error:
        read()
    assert (
        f"no FLAIR volume, which the model needs (in '{CASE}_FLAIR_corrected.nii.gz', 'corrected' "
        "at its end names no modality): add it under a BraTS name"
    ) in str(error.value)


@pytest.mark.real
@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="no real cases")
def test_real_scans_are_what_the_store_reads():
    """Accepted as they are, to the bit; and back to where they came from."""
    root = Path(os.environ["BRATS_REAL_DATA"])
    source = NiftiSource(root, folder_files(root))
    for name, files in list(group_by_case(folder_files(root), labels=False).items())[:2]:
        scan = read_scan(files, INPUTS, in_plane=(240, 240))
        np.testing.assert_array_equal(scan.images, source.read(name).images)
        original = np.asarray(nib.load(files.paths["flair"]).dataobj)
        back = scan.to_input(scan.images[..., 3], nearest=True)
        np.testing.assert_array_equal(back, original)
        assert not scan.notes
