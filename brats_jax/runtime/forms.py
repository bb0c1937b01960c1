"""Selects between the fast form of an operation and the plain form that it equals.

A fast form is written for a compiler or a machine; the plain form beside it is the formula. To
find the form that makes a wrong number, select plain forms by the environment:

    BRATS_JAX_PLAIN=1 python -m brats_jax.main ...            # all of them
    BRATS_JAX_PLAIN=max_pool,ssim python -m brats_jax.main ...  # these

The variable is read while a function is traced. A function that was compiled before keeps its
form, so set the variable before the process starts.
"""

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import lax

from brats_jax.errors import BratsError

VARIABLE = "BRATS_JAX_PLAIN"

# Names of the operations with a fast and a plain form, and the fast form in words.
FORMS: dict[str, str] = {
    "product": "1x1 convolutions as matrix products; on CPU with written gradients",
    "patches": "3x3 convolutions of small maps as a product with their patches, on CPU",
    "upsampled": "3x3 convolutions of up-sampled maps computed on the coarse map, on CPU",
    "transposed": "transposed convolutions as phases or products on CPU, as a gradient elsewhere",
    "max_pool": "maximum pooling by comparisons",
    "batch_norm": "batch normalisation with written gradients",
    "rounded": "kernels rounded to bfloat16 before a training step, not by each layer within it",
    "counts": "confusion counts by a histogram, on CPU",
    "surface": "surface distances with SciPy, on CPU",
    "ssim": "SSIM in sums over contiguous memory, on CPU",
}


def plain(name: str) -> bool:
    """Whether the environment selects the plain form of an operation.

    Args:
      name: a key of `FORMS`.

    Raises:
      BratsError: the environment names a form that does not exist.
    """
    value = os.environ.get(VARIABLE, "")
    if value in ("", "0", "1"):
        return value == "1"
    selected = value.split(",")
    if unknown := [each for each in selected if each not in FORMS]:
        raise BratsError(
            f"{VARIABLE} names the unknown form '{unknown[0]}'; set it to 1 for all plain forms, "
            f"or to some of: {','.join(FORMS)}"
        )
    return name in selected


EVERY = "every"
_platform: contextvars.ContextVar[str] = contextvars.ContextVar("platform", default="")


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """Traces the forms of a platform within the context, whatever JAX runs on.

    Args:
      platform: 'cpu', 'gpu', or `EVERY` for a program that `jax.export` lowers for several
        platforms. `EVERY` is for forward passes: gradients would keep the residuals of each form.
    """
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


def on_cpu() -> bool:
    """Whether programs are compiled for a CPU alone."""
    return (_platform.get() or jax.default_backend()) == "cpu"


def by_platform(
    *arguments: Any, cpu: Callable[..., jax.Array], default: Callable[..., jax.Array]
) -> jax.Array:
    """Calls the form of the platform; under `EVERY` the program holds both.

    Args:
      arguments: of either form.
      cpu: the form for CPUs.
      default: the form for everything else.
    """
    if _platform.get() == EVERY:
        return lax.platform_dependent(*arguments, cpu=cpu, default=default)
    return (cpu if on_cpu() else default)(*arguments)
