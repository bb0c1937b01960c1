import numpy as np
import pytest

from brats_jax.data.scans.air import with_air_zero
from brats_jax.data.scans.volumes import Volume
from brats_jax.errors import BratsError


@pytest.fixture
def head(brats_files):
    return brats_files.make_case()["t1"]


def cleaned(voxels):
    notes = []
    return with_air_zero(Volume("a.nii", voxels, np.eye(4), None), notes).voxels, notes


def test_air_of_0_is_left_alone(head):
    voxels, notes = cleaned(head)
    assert voxels is head and not notes


@pytest.mark.parametrize("air", [7, -1024, 9000])
def test_air_of_one_constant_is_set_to_0(head, air):
    voxels, notes = cleaned(np.where(head == 0, air, head).astype(np.int16))
    np.testing.assert_array_equal(voxels, head)
    count = f"{int((head == 0).sum()):,}"
    assert notes == [f"a.nii has air of {air}; set to 0 in {count} voxels"]


def test_voxels_of_the_brain_with_the_value_of_air_are_kept(head):
    air = int(head[12, 10, 4])
    voxels, _ = cleaned(np.where(head == 0, air, head).astype(np.int16))
    np.testing.assert_array_equal(voxels, head)


def test_noise_in_air_is_set_to_0(head):
    noise = np.random.default_rng(0).uniform(1e-6, 1e-3, head.shape)
    voxels, notes = cleaned(np.where(head == 0, noise, head).astype(np.float32))
    np.testing.assert_array_equal(voxels, head)
    assert "noise in air (up to 0.001 along the edges)" in notes[0]


def test_air_that_cannot_be_told_is_refused(head):
    noise = np.random.default_rng(0).uniform(0, 50, head.shape)
    with pytest.raises(BratsError, match=r"a\.nii has air that is neither 0 nor one value"):
        cleaned(np.where(head == 0, noise, head))
    with pytest.raises(BratsError, match=r"air of -1024 and a brain from -\S+ .* shift its"):
        cleaned((head - 1024).astype(np.int16))
