"""Functions and their gradients, compared; and the operations that compute them. Not tests."""

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


def primitives(f, *arguments):
    """Names of the operations that compute f and its gradients, those of inner functions too."""

    def names(jaxpr):
        for equation in jaxpr.eqns:
            inner = [p for p in equation.params.values() if hasattr(p, "jaxpr")]
            yield from (name for closed in inner for name in names(closed.jaxpr))
            yield equation.primitive.name

    def run(*arguments):
        y, vjp = jax.vjp(f, *arguments)
        return vjp(y)

    return set(names(jax.make_jaxpr(run)(*arguments).jaxpr))
