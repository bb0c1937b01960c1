"""Reading .npz files: a file that cannot be read is refused in one line."""

import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.runtime.npz import open_npz


def test_arrays_are_read_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=np.ones(2))
    with open_npz(tmp_path / "a.npz", "make it again") as arrays:
        assert set(arrays) == {"x", "y"}
        np.testing.assert_array_equal(arrays["x"], [0, 1, 2])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-50])


def pickle_inside(path):
    np.savez(path, x=np.array([object()], dtype=object))


@pytest.mark.parametrize("damage", [truncate, pickle_inside, lambda path: path.unlink()])
def test_a_file_that_cannot_be_read_is_refused_with_the_remedy(damage, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3))
    damage(path)
    refused = pytest.raises(BratsError, match=r"a\.npz: cannot be read .*; make it again$")
    with refused, open_npz(path, "make it again") as arrays:
        arrays["x"]


def test_a_missing_array_is_refused_with_the_remedy(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    refused = pytest.raises(BratsError, match=r"cannot be read .*y is not .*; make it again$")
    with refused, open_npz(tmp_path / "a.npz", "make it again") as arrays:
        arrays["y"]
