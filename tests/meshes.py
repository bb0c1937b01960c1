"""Meshes of some of the devices that the tests have."""

import jax
from jax.sharding import AxisType, Mesh


def mesh_of(count: int) -> Mesh:
    """The first `count` devices, among which batches are divided."""
    return jax.make_mesh(
        (count,), ("data",), devices=jax.devices()[:count], axis_types=(AxisType.Auto,)
    )
