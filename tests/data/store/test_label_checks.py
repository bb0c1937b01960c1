import numpy as np
import pytest

from brats_jax.data.store.label_checks import tumour_hash
from brats_jax.data.store.prepare import prepare
from brats_jax.errors import BratsError


def test_labels_in_air_are_refused_and_skippable(tmp_path, brats_files):
    volumes = brats_files.make_case(1)
    brats_files.write_nifti_case(tmp_path / "source", "A", volumes)
    wrong = {**volumes, "seg": np.roll(volumes["seg"], 9, axis=0)}
    paths = brats_files.write_nifti_case(tmp_path / "source", "B", wrong)
    brats_files.write_kaggle(tmp_path / "kaggle", 1, wrong)
    with pytest.raises(BratsError, match=r"B_seg.nii.gz: \d+% of its .* lie in air"):
        prepare(tmp_path / "source", tmp_path / "store", workers=1)
    manifest = prepare(tmp_path / "source", tmp_path / "store", workers=1, skip_bad_cases=True)
    assert manifest.patients == ("A",) and paths["seg"].name in manifest.skipped["B"]
    with pytest.raises(BratsError, match=r"BraTS20_Training_001: \d+% of its .* lie in air"):
        prepare(tmp_path / "kaggle", tmp_path / "other", workers=1)


def test_the_hash_of_a_tumour_depends_on_places_and_classes():
    labels = np.zeros((2, 3, 4), np.uint8)
    assert tumour_hash(labels) == ""
    labels[1, 1, 1] = 1
    other = labels.copy()
    assert tumour_hash(other) == tumour_hash(labels)
    other[1, 1, 1] = 2
    assert len({tumour_hash(labels), tumour_hash(other), tumour_hash(np.roll(labels, 1))}) == 3
