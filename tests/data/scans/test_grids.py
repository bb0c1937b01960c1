import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.scans.grids import (
    affine_to_lps,
    centred_affine,
    codes_of,
    from_lps,
    is_invertible,
    to_lps,
    voxel_sizes_mm,
)

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
RAS = np.diag([2.0, 3.0, 4.0, 1.0])


def test_turning_to_lps_keeps_every_voxel_in_its_place():
    turned, affine = to_lps(VOXELS, RAS), affine_to_lps(RAS, VOXELS.shape)
    assert nib.aff2axcodes(affine) == ("L", "P", "S")
    np.testing.assert_array_equal(turned, VOXELS[::-1, ::-1])
    np.testing.assert_allclose(affine @ [0, 0, 0, 1], RAS @ [1, 2, 0, 1])
    np.testing.assert_array_equal(from_lps(turned, RAS), VOXELS)
    assert voxel_sizes_mm(affine) == voxel_sizes_mm(RAS) == (2.0, 3.0, 4.0)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SPL", "AIR"])
def test_an_affine_is_made_for_any_axes_and_sizes(codes):
    affine = centred_affine(codes, (1.0, 2.0, 3.0), (5, 6, 7))
    assert codes_of(affine) == codes and voxel_sizes_mm(affine) == (1.0, 2.0, 3.0)
    np.testing.assert_allclose(affine @ [2, 2.5, 3, 1], [0, 0, 0, 1])


def test_an_affine_of_microscopic_voxels_can_be_inverted():
    assert is_invertible(np.diag([1e-6, 1e-6, 1e-6, 1.0]))
    assert not is_invertible(np.diag([1.0, 0.0, 1.0, 1.0]))
    assert not is_invertible(np.full((4, 4), np.nan))
