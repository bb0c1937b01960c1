import numpy as np
import pytest

from brats_jax.data.scans.checks import (
    check_stripped,
    checked_images,
    grid_problem,
    modalities_apart,
    voxel_problem,
)
from brats_jax.data.scans.grids import Grid
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.volumes import Volume
from brats_jax.errors import BratsError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def volume(name, affine=LPS, voxels=None):
    voxels = np.pad(np.arange(1, 9).reshape(2, 2, 2), 1) if voxels is None else voxels
    return Volume(name, voxels, affine, None)


def test_an_image_without_contrast_is_refused():
    for voxels, message in (
        (np.zeros((3, 3, 3)), "b is all zero"),
        (np.full((3, 3, 3), 7), "b is constant, 7 everywhere: .*without this modality"),
    ):
        images = {"t1": volume("a"), "t2": volume("b", voxels=voxels)}
        with pytest.raises(BratsError, match=message):
            checked_images(images, ReadOptions())


def test_grids_that_differ_are_told_by_what_differs():
    first = volume("a")
    moved, small = LPS.copy(), LPS.copy()
    moved[0, 3] += 1
    small[:3, :3] *= 0.5
    for affine, message in (
        (LPS, ""),
        (moved, "b lies elsewhere than a (their affines differ)"),
        (small, "b has voxels of 0.5 x 0.5 x 0.5 mm, a of 1 x 1 x 1 mm"),
    ):
        volumes = {"t1": first, "t2": volume("b", affine)}
        apart = modalities_apart(volumes, first)
        assert grid_problem(volumes, apart, first) == message


def test_slices_of_5_mm_are_a_problem():
    thick = volume("a", LPS @ np.diag([1, 1, 5, 1]))
    assert voxel_problem(thick, thick.grid, None) == "a has voxels of 1 x 1 x 5 mm, not of 1 mm"


def test_noise_around_the_head_is_more_than_a_brain_has():
    images = np.zeros((2, 210, 210, 1), np.float32)
    images[:, 5:-5, 5:-5] = 1 + np.arange(200)[:, None]
    with pytest.raises(BratsError, match=r"a is not zero in 400 cm² of one slice"):
        check_stripped(images, Grid(LPS, (210, 210, 2)), {0: "a"})


def test_a_mask_in_place_of_an_image_is_refused():
    images = np.zeros((2, 20, 20, 2), np.int16)
    images[:, 5:-5, 5:-5] = 3
    images[:, 6, 6, 0] = 5
    with pytest.raises(BratsError, match="b is a mask, 3 wherever it is not 0"):
        check_stripped(images, Grid(LPS, (20, 20, 2)), {0: "a", 1: "b"})
