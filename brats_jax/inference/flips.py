"""Test-time augmentation: a network's predictions averaged over four flips of each slice."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.models import Weights
from brats_jax.runtime import devices

# Whether to reverse H and W. Of axial slices, H runs from right to left.
FLIPS = ((False, False), (True, False), (False, True), (True, True))


def flipped(x: Float[Array, "b h w c"], flip: Bool[Array, "2"]) -> Float[Array, "b h w c"]:
    """`x`, reversed along H and W where `flip` is set."""
    x = jnp.where(flip[0], x[:, ::-1], x)
    return jnp.where(flip[1], x[:, :, ::-1], x)


class OverFlips:
    """Predictions of one network, averaged over the flips.

        mean over flips g of g(prediction(g(x)))

    The probabilities of a segmentation are averaged, and the images of any other network. One
    compiled program serves all flips.

    Args:
      network: on its devices.
    """

    def __init__(self, network: RestoredNetwork) -> None:
        self.network = network
        # The sum is both input and output: with one sharding it is compiled once.
        self._add = jax.jit(self._added, out_shardings=devices.batch_sharding(network.mesh))

    def labels(self, x: Float[Array, "b h w c"]) -> UInt8[Array, "b h w"]:
        """The labels of a segmentation's averaged probabilities.

        Args:
          x: input of the network, divided among its devices.
        """
        return self.network.channels.labels(self._sum(x), len(FLIPS)).astype(jnp.uint8)

    def images(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w k"]:
        """The averaged output of a network that predicts images; argument as in `labels`."""
        return self._sum(x) / len(FLIPS)

    def _sum(self, x: jax.Array) -> jax.Array:
        network = self.network
        shape = (*x.shape[:3], len(network.task.outputs))
        total = jnp.zeros(shape, jnp.float32, device=devices.batch_sharding(network.mesh))
        for flip in FLIPS:
            total = self._add(network.params, network.stats, x, np.array(flip), total)
        return total

    def _added(
        self, params: Weights, stats: Weights, x: jax.Array, flip: jax.Array, total: jax.Array
    ) -> jax.Array:
        network = self.network
        output = flipped(network.output(params, stats, flipped(x, flip)), flip)
        return total + (network.channels.probabilities(output) if network.segments else output)
