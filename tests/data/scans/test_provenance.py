import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.scans import provenance


@pytest.mark.parametrize(
    ("note", "predicted"),
    [
        (b"RESEARCH USE ONLY, no diagnosis; brats_jax 0.1.0; model 0123", True),
        (provenance.PHANTOM.encode(), False),
        (b"made by a reader", False),
        (b"", False),
    ],
)
def test_predictions_are_told_from_true_labels(tmp_path, note, predicted):
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["descrip"] = note
    nib.save(image, tmp_path / "a.nii")
    assert provenance.is_prediction(image.header) == predicted
    assert provenance.is_predicted(tmp_path / "a.nii") == predicted
    assert provenance.note_of(image.header) == note.decode()


def test_an_unreadable_file_is_no_prediction(tmp_path):
    (tmp_path / "a.nii").write_text("brats_jax")
    assert not provenance.is_predicted(tmp_path / "a.nii")
