import gzip
import io
import pickle

import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.detect import open_source
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.errors import BratsError


def opened(root):
    return NiftiSource(root, folder_files(root))


@pytest.fixture(scope="module")
def volumes(brats_files):
    return brats_files.make_case()


def check(case, volumes):
    for channel, name in enumerate(MODALITIES):
        np.testing.assert_array_equal(case.images[..., channel], np.moveaxis(volumes[name], 2, 0))
    np.testing.assert_array_equal(case.labels, np.moveaxis(volumes["seg"], 2, 0))
    # What integers are stored as they stay, and everything else becomes float32.
    stored = {volumes[name].dtype for name in MODALITIES}
    assert case.labels.dtype == np.uint8
    assert case.images.dtype == (np.int16 if stored == {np.dtype(np.int16)} else np.float32)
    assert case.slice_numbers.tolist() == list(range(8))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("naming", ["2020", "2021", "2023", "odd case"])
def test_files_of_every_naming_are_read(tmp_path, brats_files, volumes, naming, suffix):
    case = {"2020": "BraTS20_Training_007", "2021": "BraTS2021_00007"}.get(
        naming, "BraTS-GLI-00007-001"
    )
    brats_files.write_nifti_case(tmp_path / "deep" / "er", case, volumes, naming, suffix)
    source = opened(tmp_path)
    assert source.patients() == [case]
    read = pickle.loads(pickle.dumps(source)).read(case)
    check(read, volumes)
    assert (read.subject or case) == ("BraTS-GLI-00007" if "GLI" in case else case)
    assert not read.notes


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAS", "SPL", "PIR", "ASR"])
def test_every_orientation_becomes_lps(tmp_path, brats_files, volumes, codes):
    brats_files.write_nifti_case(tmp_path, "BraTS2021_1", volumes, codes=codes)
    case = opened(tmp_path).read("BraTS2021_1")
    check(case, volumes)
    np.testing.assert_allclose(case.affine, brats_files.AFFINE)
    assert case.spacing_mm == (1.0, 1.0, 1.0)
    assert case.provenance["orientation"] == codes


def test_affine_keeps_every_voxel_in_its_place(tmp_path, brats_files, volumes):
    # Axes A, R, S: voxel (5, 6, 7) of the file and where it went.
    affine = np.array([[0, 1.005, 0, -30], [1, 0, 0, -20], [0, 0, 0.995, 10], [0, 0, 0, 1]])
    moved, _ = brats_files.in_axes(volumes["t1"], "ARS")
    for name, voxels in volumes.items():
        file = {"t1gd": "t1ce"}.get(name, name)
        if name == "seg":
            voxels = np.where(voxels == 3, 4, voxels)
        brats_files.write_volume(tmp_path / f"B_{file}.nii.gz", voxels, "ARS", affine)
    case = opened(tmp_path).read("B")
    check(case, volumes)
    assert case.spacing_mm == pytest.approx((1.005, 1.0, 0.995))
    x, y, z = np.argwhere(moved == moved.max())[0]
    k, i, j = np.argwhere(case.images[..., 0] == moved.max())[0]
    np.testing.assert_allclose(
        np.array(case.affine) @ [i, j, k, 1], affine @ [x, y, z, 1], rtol=1e-5
    )


def test_one_folder_may_hold_many_cases(tmp_path, brats_files, volumes):
    for case in ("A", "B"):
        paths = brats_files.write_nifti_case(tmp_path, case, volumes)
        for path in paths.values():
            path.rename(tmp_path / path.name)
    source = opened(tmp_path)
    assert source.patients() == ["A", "B"] and not source.problems()
    check(source.read("B"), volumes)


def test_the_oddly_named_labels_of_case_355_are_found(tmp_path, brats_files, volumes):
    for case in ("BraTS20_Training_354", "BraTS20_Training_355"):
        paths = brats_files.write_nifti_case(tmp_path, case, volumes, "2020", ".nii")
    paths["seg"].rename(paths["seg"].with_name("W39_1998.09.19_Segm.nii"))
    source = opened(tmp_path)
    assert not source.problems() and len(source.patients()) == 2
    case = source.read("BraTS20_Training_355")
    check(case, volumes)
    assert case.provenance["files"]["seg"].endswith("W39_1998.09.19_Segm.nii")


def test_the_only_label_file_of_a_folder_may_have_another_name(tmp_path, brats_files, volumes):
    paths = brats_files.write_nifti_case(tmp_path, "A", volumes)
    paths["seg"].rename(paths["seg"].with_name("corrected_seg.nii.gz"))
    source = opened(tmp_path)
    assert source.patients() == ["A"]
    check(source.read("A"), volumes)


def test_labels_may_have_one_name_in_every_folder(tmp_path, brats_files, volumes):
    for case in ("A", "B"):
        paths = brats_files.write_nifti_case(tmp_path, case, volumes)
        paths["seg"].rename(paths["seg"].with_name("labels_seg.nii.gz"))
    source = opened(tmp_path)
    assert source.patients() == ["A", "B"] and not source.problems()
    # Those of a case that has images elsewhere are that case's.
    paths["seg"].with_name("labels_seg.nii.gz").rename(tmp_path / "B" / "A_seg.nii.gz")
    assert "both hold the case A" in opened(tmp_path).problems()["A"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_of_every_type_are_read(tmp_path, brats_files, volumes, dtype):
    changed = {**volumes, "seg": volumes["seg"].astype(dtype)}
    brats_files.write_nifti_case(tmp_path, "A", changed)
    case = opened(tmp_path).read("A")
    check(case, volumes)
    assert case.provenance["label_values"] == [0, 1, 2, 4]
    assert case.provenance["label_dtype"] == np.dtype(dtype).name


def test_float_images_with_negative_voxels_are_kept(tmp_path, brats_files, volumes):
    t2 = volumes["t2"].astype(np.float64)
    t2[12, 10, 4] = -7
    brats_files.write_nifti_case(tmp_path, "A", {**volumes, "t2": t2})
    case = opened(tmp_path).read("A")
    check(case, {**volumes, "t2": t2})
    assert case.notes == ["t2 has 1 negative voxels; kept as they are"]


def test_the_scale_of_the_header_is_applied(tmp_path, brats_files, volumes):
    paths = brats_files.write_nifti_case(tmp_path, "A", volumes)
    image = nib.Nifti1Image(volumes["t1"], brats_files.AFFINE)
    image.header.set_slope_inter(2.5, 0.0)
    nib.save(image, paths["t1"])
    raw = nib.load(paths["t1"]).get_fdata()
    np.testing.assert_allclose(
        opened(tmp_path).read("A").images[..., 0], np.moveaxis(raw, 2, 0), atol=1e-3
    )


def test_same_axes_and_another_origin_is_the_same_grid(tmp_path, brats_files, volumes):
    paths = brats_files.write_nifti_case(tmp_path, "A", volumes)
    shifted = brats_files.AFFINE + np.array([[0, 0, 0, 5.0]] * 3 + [[0] * 4])
    seg = np.where(volumes["seg"] == 3, 4, volumes["seg"])
    brats_files.write_volume(paths["seg"], seg, "LPS", shifted)
    case = opened(tmp_path).read("A")
    check(case, volumes)
    assert case.notes == ["A_seg.nii.gz has another affine than A_t1.nii.gz; same grid"]


@pytest.mark.parametrize("name", ["BraTS2021_00002_GT.nii.gz", "BraTS2021_00002_adc.nii"])
def test_a_file_that_may_be_the_missing_one_is_named(tmp_path, brats_files, volumes, name):
    brats_files.write_nifti_case(tmp_path, "BraTS2021_00001", volumes)
    paths = brats_files.write_nifti_case(tmp_path, "BraTS2021_00002", volumes)
    paths["seg"].rename(paths["seg"].with_name(name))
    assert any(f"such as {name}, not read" in line for line in opened(tmp_path).notices())
    elsewhere = tmp_path / "labels" / "BraTS2021_00002.nii.gz"
    elsewhere.parent.mkdir()
    paths["seg"].with_name(name).rename(elsewhere)
    assert any(f"such as {elsewhere.name}, not" in line for line in opened(tmp_path).notices())


def test_the_scheme_of_names_of_no_release_is_told(tmp_path, brats_files, volumes):
    for case in ("BraTS2021_00001", "own_7", "own_8"):
        brats_files.write_nifti_case(tmp_path, case, volumes)
    (line,) = opened(tmp_path).notices()
    assert line.startswith("the names of 2 cases tell no release (own_7): labels are read as brats")
    chosen = NiftiSource(tmp_path, folder_files(tmp_path), labels="brats2021")
    assert chosen.notices() == []


@pytest.mark.parametrize("header_is_right", [True, False])
def test_the_brain_decides_between_contradicting_axes(
    tmp_path, brats_files, volumes, header_is_right
):
    paths = brats_files.write_nifti_case(tmp_path, "A", volumes)
    seg = np.where(volumes["seg"] == 3, 4, volumes["seg"]).astype(np.uint8)
    # Reading this tumour the wrong way round would put it outside the head.
    seg_only = np.zeros_like(seg)
    seg_only[2:6, 8:12, 3:5] = np.where(volumes["t1"][2:6, 8:12, 3:5] != 0, 2, 0)
    volumes = {**volumes, "t1": volumes["t1"].copy()}
    for name in MODALITIES:
        half = volumes[name].copy()
        half[12:] = 0
        volumes[name] = half
        brats_files.write_volume(paths[name], half)
    if header_is_right:
        brats_files.write_volume(paths["seg"], seg_only, "RAS")
    else:  # LPS voxels under a header that says RAS
        _, ras = brats_files.in_axes(seg_only, "RAS")
        brats_files.write_volume(paths["seg"], seg_only, "LPS", ras)
    case = opened(tmp_path).read("A")
    check(case, {**volumes, "seg": seg_only})
    if header_is_right:  # other axes and the same places are no contradiction
        assert not case.notes
    else:
        assert len(case.notes) == 1 and "is RAS" in case.notes[0]
        assert "read as LPS (" in case.notes[0]


@pytest.mark.parametrize(
    "values, et, naming",
    [((1, 2, 5), 5, "2021"), ((1, 3, 4), 3, "2021"), ((1, 2, 4), 4, "2023"), ((1, 2.5), 3, "2021")],
)
def test_unknown_labels_are_refused(tmp_path, brats_files, volumes, values, et, naming):
    seg = np.zeros(volumes["seg"].shape, dtype=np.float32)
    seg.flat[: len(values)] = values
    paths = brats_files.write_nifti_case(tmp_path, "A", {**volumes, "seg": seg}, naming, et=et)
    with pytest.raises(BratsError, match="label value") as error:
        opened(tmp_path).read("A")
    assert str(paths["seg"]) in str(error.value)
    if naming == "2021":
        assert ", ".join(str(float(v)) for v in values) in str(error.value)


@pytest.mark.parametrize("size", [100, -200, -4])
def test_a_truncated_file_is_refused(tmp_path, brats_files, volumes, size):
    paths = brats_files.write_nifti_case(tmp_path, "A", volumes)
    paths["t2"].write_bytes(paths["t2"].read_bytes()[:size])
    with pytest.raises(BratsError, match="cannot be read") as error:
        opened(tmp_path).read("A")
    assert str(paths["t2"]) in str(error.value)


def test_every_form_of_gzip_is_read(tmp_path, brats_files, volumes):
    paths = brats_files.write_nifti_case(tmp_path, "BraTS2021_1", volumes)
    plain = gzip.decompress(paths["t2"].read_bytes())
    named = io.BytesIO()
    with gzip.GzipFile("a name.nii", "wb", fileobj=named) as file:
        file.write(plain)
    commented = bytearray(gzip.compress(plain))
    commented[3] |= 16
    commented[10:10] = b"a comment\0"
    members = gzip.compress(plain[:1000]) + gzip.compress(plain[1000:])
    # The last member alone has the size and the checksum that the file ends with.
    doubled = gzip.compress(b"") + gzip.compress(plain)
    for raw in (named.getvalue(), bytes(commented), members, doubled, gzip.compress(plain, 0)):
        paths["t2"].write_bytes(raw)
        check(opened(tmp_path).read("BraTS2021_1"), volumes)
    wrong = bytearray(named.getvalue())
    wrong[-8] ^= 1
    paths["t2"].write_bytes(wrong)
    with pytest.raises(BratsError, match=r"t2\.nii\.gz cannot be read \(CRC"):
        opened(tmp_path).read("BraTS2021_1")


def test_a_file_truncated_before_compression_is_refused(tmp_path, brats_files, volumes):
    paths = brats_files.write_nifti_case(tmp_path, "A", volumes)
    paths["t2"].write_bytes(gzip.compress(gzip.decompress(paths["t2"].read_bytes())[:-50]))
    with pytest.raises(BratsError, match="cannot be read"):
        opened(tmp_path).read("A")


def test_a_damaged_file_is_refused(tmp_path, brats_files, volumes):
    paths = brats_files.write_nifti_case(tmp_path, "A", volumes)
    raw = bytearray(paths["t2"].read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    paths["t2"].write_bytes(raw)
    with pytest.raises(BratsError, match="cannot be read"):
        opened(tmp_path).read("A")


def test_an_empty_file_is_refused(tmp_path, brats_files, volumes):
    paths = brats_files.write_nifti_case(tmp_path, "A", volumes)
    paths["flair"].write_bytes(b"")
    with pytest.raises(BratsError, match=r"A_flair\.nii\.gz cannot be read"):
        opened(tmp_path).read("A")


def test_volumes_of_different_shapes_are_refused(tmp_path, brats_files, volumes):
    paths = brats_files.write_nifti_case(tmp_path, "A", volumes)
    brats_files.write_volume(paths["t2"], volumes["t2"][:-1])
    with pytest.raises(BratsError, match=r"A_t2.nii.gz is 23 x 20 x 8, .* is 24 x 20 x 8"):
        opened(tmp_path).read("A")


def test_values_that_are_not_finite_are_refused(tmp_path, brats_files, volumes):
    t1 = volumes["t1"].astype(np.float32)
    t1[0, 0, 0] = np.nan
    brats_files.write_nifti_case(tmp_path, "A", {**volumes, "t1": t1})
    with pytest.raises(BratsError, match="not finite"):
        opened(tmp_path).read("A")


def test_missing_files_are_known_before_reading(tmp_path, brats_files, volumes):
    for case, lacks in (("A", "t1gd"), ("B", "seg"), ("C", None)):
        paths = brats_files.write_nifti_case(tmp_path, case, volumes)
        if lacks:
            paths[lacks].unlink()
    source = open_source(str(tmp_path), options=ReadOptions(require_labels=True))
    assert source.problems() == {
        "A": f"{tmp_path / 'A'} has no t1gd volume of case A",
        "B": f"{tmp_path / 'B'} has no labels (*_seg.nii.gz) for case B",
    }


def test_what_is_there_of_a_case_is_read(tmp_path, brats_files, volumes):
    lacks = {"A": ("t1gd", "t2"), "B": ("seg",), "C": (), "D": ("t1", "t2", "flair", "seg")}
    for case, names in lacks.items():
        paths = brats_files.write_nifti_case(tmp_path, case, volumes)
        for name in names:
            paths[name].unlink()
    source = opened(tmp_path)
    assert source.problems() == {}
    bare, partial = source.notices()[-2:]
    assert bare.startswith("2 cases of 4 without labels (*_seg.nii.gz), taken as unlabelled: B, D;")
    assert partial.startswith(
        "2 cases of 4 without some modality, taken as having the others: A, D"
    )
    for case, names in lacks.items():
        read = source.read(case)
        assert read.present == tuple(name for name in MODALITIES if name not in names)
        assert read.label_kind == ("none" if "seg" in names else "classes")
        for channel, name in enumerate(MODALITIES):
            expected = volumes[name] if name in read.present else np.zeros_like(volumes[name])
            np.testing.assert_array_equal(read.images[..., channel], np.moveaxis(expected, 2, 0))
        if read.labels is not None:
            np.testing.assert_array_equal(read.labels, np.moveaxis(volumes["seg"], 2, 0))
        assert (read.labels is None) == (case in "BD")
    assert "without T1Gd and T2" in source.read("A").notes
    for name in MODALITIES:
        (tmp_path / "A").joinpath(paths[name].name.replace("D_", "A_")).unlink(missing_ok=True)
    assert "has no t1 and no t1gd" in opened(tmp_path).problems()["A"]  # labels alone


def test_two_files_of_one_volume_are_refused(tmp_path, brats_files, volumes):
    brats_files.write_nifti_case(tmp_path, "A", volumes)
    brats_files.write_nifti_case(tmp_path / "copy", "A", volumes)
    assert "both hold the case A" in opened(tmp_path).problems()["A"]
    brats_files.write_nifti_case(tmp_path / "copy", "A", volumes, suffix=".nii")
    assert "same volume" in opened(tmp_path / "copy").problems()["A"]


def test_follow_up_scans_are_one_subject(tmp_path, brats_files, volumes):
    for case in ("BraTS-GLI-00006-000", "BraTS-GLI-00006-001"):
        brats_files.write_nifti_case(tmp_path, case, volumes, "2023")
    source = opened(tmp_path)
    assert {source.read(name).subject for name in source.patients()} == {"BraTS-GLI-00006"}


def test_a_copied_modality_is_noted(tmp_path, brats_files, volumes):
    brats_files.write_nifti_case(tmp_path, "A", {**volumes, "flair": volumes["t2"]})
    (note,) = opened(tmp_path).read("A").notes
    assert "A_t2.nii.gz and A_flair.nii.gz have the same voxels: one is a copy" in note
