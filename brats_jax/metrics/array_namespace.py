"""One formula for NumPy and JAX arrays."""

from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np


def array_namespace(*arrays: Any) -> ModuleType:
    """`numpy` where all arrays are NumPy's, for which nothing is compiled; else `jnp`."""
    return np if all(isinstance(a, np.ndarray | np.generic) for a in arrays) else jnp
