"""The public place of `read_truth`."""

from brats_jax.data import truth
from brats_jax.data.scans.truth import read_truth


def test_the_documented_import_is_the_reader_of_true_labels():
    assert truth.__all__ == ["read_truth"] and truth.read_truth is read_truth
