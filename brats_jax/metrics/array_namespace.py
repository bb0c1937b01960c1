"""NumPy for what is on the host, JAX for the rest: one formula for both."""

from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np


def array_namespace(*arrays: Any) -> ModuleType:
    """numpy where all arrays are its own, so that nothing is compiled for a handful of numbers."""
    return np if all(isinstance(a, np.ndarray | np.generic) for a in arrays) else jnp
