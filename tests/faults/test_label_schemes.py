"""Labels whose meaning is not that of their names, and files that are no labels."""

import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError


@pytest.fixture(scope="module")
def volumes(brats_files):
    return brats_files.make_case(1)


def write(root, brats_files, volumes, case, values, naming="2021"):
    """Writes a case whose labels 0 to 3 have the given values."""
    seg = np.array(values, np.uint8)[volumes["seg"]]
    return brats_files.write_nifti_case(root, case, {**volumes, "seg": seg}, naming, et=3)


def labels_of(store, volumes):
    labels = Store.open(store).read(range(volumes["seg"].shape[2]))[1]
    return np.moveaxis(labels, 0, 2)


@pytest.mark.parametrize(
    ("case", "naming", "values", "chosen"),
    [
        ("BraTS2021_01476", "2021", (0, 1, 2, 4), ""),
        ("BraTS2021_01476", "2021", (0, 2, 1, 3), "msd"),
        ("BraTS2021_01476", "2021", (0, 1, 2, 3), "brats2023"),
        ("BraTS-GLI-00001-000", "2023", (0, 1, 2, 3), ""),
        ("BraTS-PED-00001-000", "2023", (0, 2, 4, 1), ""),
        ("BraTS-PED-00001-000", "2023", (0, 1, 2, 3), "brats2023"),
        ("UCSF-PDGM-0004", "2021", (0, 1, 2, 4), ""),
        ("BRATS_001", "2021", (0, 2, 1, 3), ""),
    ],
)
def test_the_classes_are_those_of_the_release(
    tmp_path, brats_files, volumes, case, naming, values, chosen
):
    write(tmp_path / "s", brats_files, volumes, case, values, naming)
    manifest = prepare(tmp_path / "s", tmp_path / "store", labels=chosen, workers=1)
    np.testing.assert_array_equal(labels_of(tmp_path / "store", volumes), volumes["seg"])
    assert len(manifest.label_schemes) == 1


def test_the_order_of_another_release_is_not_guessed(tmp_path, brats_files, volumes):
    write(tmp_path / "s", brats_files, volumes, "BraTS2021_01476", (0, 2, 1, 3))
    with pytest.raises(BratsError, match=r"0, 1, 2, 3, but by its name .*--labels=msd \(1 ED"):
        prepare(tmp_path / "s", tmp_path / "store", workers=1)
    with pytest.raises(BratsError, match="0, 1, 2, 3, but as --labels says it is brats2021"):
        prepare(tmp_path / "s", tmp_path / "store", labels="brats2021", workers=1)
    write(tmp_path / "kaggle", brats_files, volumes, "BraTS2021_01476", (0, 2, 1, 4))
    with pytest.raises(BratsError, match="--labels is for NIfTI volumes"):
        prepare("phantom", tmp_path / "store", patients=1, labels="msd")


def test_a_resection_cavity_is_background_counted_and_named(tmp_path, brats_files, volumes):
    write(tmp_path / "s", brats_files, volumes, "BraTS-GLI-02063-100", (0, 4, 2, 3), "2023")
    manifest = prepare(tmp_path / "s", tmp_path / "store", workers=1)
    count = int((volumes["seg"] == 1).sum())
    (notes,) = manifest.notes.values()
    assert f"{count} voxels of resection cavity (label 4) are read as background" in notes
    expected = np.where(volumes["seg"] == 1, 0, volumes["seg"])
    np.testing.assert_array_equal(labels_of(tmp_path / "store", volumes), expected)
    write(tmp_path / "t", brats_files, volumes, "BraTS-GLI-02063-000", (0, 4, 2, 3), "2023")
    with pytest.raises(BratsError, match=r"--labels=brats2024 \(.*4 resection cavity\)"):
        prepare(tmp_path / "t", tmp_path / "other", workers=1)


def test_masks_of_the_brain_are_no_labels(tmp_path, brats_files, volumes):
    paths = brats_files.write_nifti_case(tmp_path / "s", "UCSF-PDGM-0004", volumes)
    brain = (volumes["t1"] > 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(brain, brats_files.AFFINE), paths["seg"])
    with pytest.raises(BratsError, match=r"labels fill 100% of the brain, so they are a mask"):
        prepare(tmp_path / "s", tmp_path / "store", workers=1)
    paths["seg"].rename(paths["seg"].with_name("UCSF-PDGM-0004_brain_segmentation.nii.gz"))
    line = "UCSF-PDGM-0004_brain_segmentation.nii.gz is no known name of labels"
    with pytest.raises(BratsError, match=line):
        options = ReadOptions(require_labels=True)
        prepare(tmp_path / "s", tmp_path / "store", workers=1, options=options)
    manifest = prepare(tmp_path / "s", tmp_path / "store", workers=1)
    assert manifest.label_kinds == ("none",)
    assert manifest.notes["UCSF-PDGM-0004"] == (f"without labels; {line}",)
    assert any(line in notice for notice in manifest.notices)


def test_masks_of_the_whole_tumour_in_every_case_are_not_taken_for_a_class(tmp_path, brats_files):
    for number in (1, 2):
        write(
            tmp_path / "s", brats_files, brats_files.make_case(number), f"A{number}", (0, 1, 1, 1)
        )
    with pytest.raises(BratsError, match=r"all 2 cases with tumour are 0 and 1 alone \(A1, A2\)"):
        prepare(tmp_path / "s", tmp_path / "store", labels="brats2021", workers=1)
    assert not (tmp_path / "store" / "manifest.json").exists()
    # One case with classes: then a mask of one value may be right, and is noted.
    write(tmp_path / "s", brats_files, brats_files.make_case(3), "A3", (0, 1, 2, 4))
    manifest = prepare(tmp_path / "s", tmp_path / "store", labels="brats2021", workers=1)
    assert any("0 and 1 alone" in line for line in manifest.notes["A1"])
