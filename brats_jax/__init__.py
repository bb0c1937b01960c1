"""Self-supervised brain tumour segmentation on multi-modal MRI, in JAX/Flax."""

__version__ = "0.1.0"
