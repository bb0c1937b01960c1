"""The public place of `read_truth`, as the documentation imports it."""

from brats_jax.data.scans.truth import read_truth

__all__ = ["read_truth"]
