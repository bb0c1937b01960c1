import numpy as np

from brats_jax.data.sources.phantom.anatomy import build_head, tissue_fractions
from brats_jax.data.sources.phantom.grid import PhantomGrid, Voxels


def test_the_tissues_of_every_voxel_sum_to_one():
    grid = PhantomGrid((16, 32, 32))
    head = build_head(grid, seed=1, index=0)
    voxels = Voxels(grid, grid.refine(head.depth) > 0)
    shares = tissue_fractions(head, voxels, np.random.default_rng(0))
    total = sum(shares.values())
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
    assert all(share.min() > -1e-6 for share in shares.values())
    assert shares["white"].mean() > 0.1 and shares["grey"].mean() > 0.1
