"""`read_truth` at the place where programs written for earlier versions import it."""

from brats_jax.data.scans.truth import read_truth

__all__ = ["read_truth"]
