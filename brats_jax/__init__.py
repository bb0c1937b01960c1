"""Self-supervised brain tumour segmentation on multi-modal MRI, in JAX/Flax.

import brats_jax

model = brats_jax.load("RUN")
labels = model.segment({"t1": t1, "t1gd": t1gd, "t2": t2, "flair": flair})
"""

import importlib.util
import sys
from typing import TYPE_CHECKING

from brats_jax.about import RESEARCH_USE_ONLY, __version__

if TYPE_CHECKING:
    from brats_jax.inference.loading import load

__all__ = ["RESEARCH_USE_ONLY", "__version__", "load"]


def _check_python() -> None:
    """Ends with one line in a Python that is too old, or without the packages that we need."""
    if sys.version_info < (3, 11):  # noqa: UP036, a clone may be tried with an older one
        problem = f"brats_jax needs Python 3.11 or newer, and this is {sys.version.split()[0]}"
    elif importlib.util.find_spec("absl") is None:
        problem = f"the packages that brats_jax needs are not installed for {sys.executable}"
    else:
        return
    remedy = "source .venv/bin/activate, or run bash launch/setup.sh first"
    if sys.argv[:1] == ["-m"]:  # python -m brats_jax.COMMAND
        sys.exit(f"error: {problem}: {remedy}")
    raise ImportError(f"{problem}: {remedy}")


_check_python()


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    # Imported on first use, because it imports JAX.
    if name == "load":
        from brats_jax.inference.loading import load

        return load
    raise AttributeError(f"module 'brats_jax' has no attribute '{name}'")
