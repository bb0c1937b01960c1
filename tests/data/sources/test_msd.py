"""Task01_BrainTumour of the Medical Segmentation Decathlon."""

import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.detect import open_source
from brats_jax.errors import BratsError


@pytest.fixture(scope="module")
def volumes(brats_files):
    return brats_files.make_case()


@pytest.fixture
def root(tmp_path, brats_files, volumes):
    root = tmp_path / "Task01_BrainTumour"
    brats_files.write_dataset_json(root, brats_files.MSD_JSON)
    brats_files.write_msd_case(root, "BRATS_001", volumes)
    return root


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL"])
def test_a_case_equals_the_same_case_of_brats(root, tmp_path, brats_files, volumes, codes):
    brats_files.write_msd_case(root, "BRATS_001", volumes, codes=codes)
    brats_files.write_nifti_case(tmp_path / "nifti", "A", volumes)
    source = open_source(str(root.parent / root.name))
    assert source.name == "msd" and source.patients() == ["BRATS_001"]
    case, same = source.read("BRATS_001"), open_source(str(tmp_path / "nifti")).read("A")
    np.testing.assert_array_equal(case.images, same.images)
    np.testing.assert_array_equal(case.labels, same.labels)
    assert case.present == MODALITIES and case.provenance["label_scheme"].startswith("msd")


def test_the_order_of_the_channels_is_that_of_dataset_json(root, brats_files, volumes):
    turned = {"0": "t1gd", "1": "T2w", "2": "FLAIR", "3": "T1w"}
    brats_files.write_dataset_json(root, {**brats_files.MSD_JSON, "modality": turned})
    images = open_source(str(root)).read("BRATS_001").images
    for name, stored in {"t1gd": "flair", "t2": "t1", "flair": "t1gd", "t1": "t2"}.items():
        expected = np.moveaxis(volumes[stored], 2, 0)
        np.testing.assert_array_equal(images[..., MODALITIES.index(name)], expected)


def test_test_images_are_unlabelled(root, brats_files, volumes):
    brats_files.write_msd_case(root, "BRATS_485", volumes, part="Ts")
    source = open_source(str(root))
    assert source.patients() == ["BRATS_001", "BRATS_485"] and not source.problems()
    assert source.read("BRATS_485").labels is None


def test_another_number_of_channels_is_refused(root, brats_files):
    fewer = {"0": "FLAIR", "1": "T1w", "2": "t1gd"}
    brats_files.write_dataset_json(root, {**brats_files.MSD_JSON, "modality": fewer})
    with pytest.raises(BratsError, match=r"holds 24 x 20 x 8 x 4 voxels, .* names 3 channels"):
        open_source(str(root)).read("BRATS_001")


def test_an_empty_channel_is_refused_by_its_name(root):
    path = root / "imagesTr" / "BRATS_001.nii.gz"
    image = nib.load(path)
    voxels = np.array(image.dataobj)
    voxels[..., 3] = 0
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    with pytest.raises(BratsError, match=r"BRATS_001\.nii\.gz \(T2\) is all zero"):
        open_source(str(root)).read("BRATS_001")


def test_a_truncated_file_is_one_line(root):
    path = root / "imagesTr" / "BRATS_001.nii.gz"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BratsError, match=r"BRATS_001\.nii\.gz cannot be read"):
        open_source(str(root)).read("BRATS_001")


def test_labels_that_the_names_do_not_explain_are_refused(root, brats_files, volumes):
    labels = np.where(volumes["seg"] == 3, 4, volumes["seg"])
    brats_files.write_volume(root / "labelsTr" / "BRATS_001.nii.gz", labels, "RAS")
    with pytest.raises(BratsError, match="label values 0, 1, 2, 4"):
        open_source(str(root)).read("BRATS_001")


def test_a_brain_that_lies_back_to_front_is_refused_until_its_axes_are_given(root, brats_files):
    for path in root.rglob("BRATS_001.nii.gz"):
        path.unlink()
    brats_files.write_dataset_json(root, {"modality": {"0": "FLAIR", "1": "T1w"}})
    # Where the brains of BraTS lie: the centre at 134 of 240 pixels from the front.
    x, y, z = np.ogrid[:240, :240, :155]
    head = ((x - 119) / 60) ** 2 + ((y - 134) / 80) ** 2 + ((z - 75) / 60) ** 2 < 1
    voxels = np.stack([np.where(head, 50 + (x + k) % 50, 0).astype(np.uint8) for k in (0, 9)], -1)
    (root / "imagesTs").mkdir()
    path = root / "imagesTs" / "BRATS_002.nii"
    # A converter that keeps the voxels and loses the axes.
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    with pytest.raises(BratsError, match=r"lies back to front .* at 105 of 240 .*orientation=LPS"):
        open_source(str(root)).read("BRATS_002")
    case = open_source(str(root), options=ReadOptions("LPS")).read("BRATS_002")
    np.testing.assert_array_equal(case.images[..., 3], np.moveaxis(voxels[..., 0], 2, 0))
