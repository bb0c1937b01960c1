"""The store: prepared once, read by training and evaluation through memory maps."""

from brats_jax.data.store.reader import Store

__all__ = ["Store"]
