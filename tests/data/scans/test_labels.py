import numpy as np
import pytest

from brats_jax.data.scans.labels import label_values, map_labels, with_et_as
from brats_jax.data.scans.volumes import Volume
from brats_jax.errors import BratsError


def volume(values, dtype=np.float32):
    return Volume("A_seg.nii.gz", np.array(values, dtype).reshape(1, 1, -1), np.eye(4), None)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_both_values_of_et_become_3(dtype):
    for et in (3, 4):
        labels = map_labels(volume([0, 1, 2, et, 0], dtype), four_is_et=True)
        assert labels.dtype == np.uint8
        assert labels.ravel().tolist() == [0, 1, 2, 3, 0]


def test_a_resection_cavity_is_refused():
    assert map_labels(volume([0, 3]), four_is_et=False).ravel().tolist() == [0, 3]
    with pytest.raises(BratsError, match=r"A_seg.* label value 4, .* resection cavity, not ET"):
        map_labels(volume([0, 4]), four_is_et=False)


@pytest.mark.parametrize("values", [[0, 0.5], [0, 5], [0, 3, 4], [-1, 0], list(range(20))])
def test_other_label_values_are_refused(values):
    with pytest.raises(BratsError, match=r"A_seg.nii.gz has the label values .* repair or remove"):
        map_labels(volume(values), four_is_et=True)


def test_distinct_values_are_ascending():
    assert label_values(np.array([2, 0, 1, 2, 0])) == [0, 1, 2]
    assert label_values(np.array([[3, 1], [1, 3]])) == [1, 3]
    assert label_values(np.zeros(3)) == [0]


def test_et_is_written_as_the_release_has_it():
    labels = np.array([0, 1, 2, 3], np.uint8)
    assert with_et_as(labels, 4).tolist() == [0, 1, 2, 4] and with_et_as(labels, 4).dtype == "u1"
    assert with_et_as(labels, 3).tolist() == [0, 1, 2, 3]
    with pytest.raises(BratsError, match=r"et_label=5: give 4 .* or 3"):
        with_et_as(labels, 5)
