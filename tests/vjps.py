"""Functions and their gradients, compared."""

import jax
import numpy as np


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def value_and_vjp(f, cotangent, *arguments):
    @jax.jit
    def run(cotangent, *arguments):
        y, vjp = jax.vjp(f, *arguments)
        return [y, *vjp(cotangent)]

    return run(cotangent, *arguments)


def assert_close(actual, expected, atol):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=atol, rtol=1e-5)
