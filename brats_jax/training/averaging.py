"""Moving average of a network over the steps of its training."""

import jax
import jax.numpy as jnp

from brats_jax.models import Weights

# Parameters and BatchNorm statistics, by the names 'params' and 'stats'.
Network = dict[str, Weights]


def averaged(average: Network, network: Network, updates: jax.Array, decay: float) -> Network:
    """The exponential moving average of a network, after one more update.

        average + (1 - d) * (network - average),   d = min(decay, (1 + t) / (10 + t))

    The growing d forgets the random start, as in TensorFlow's `ExponentialMovingAverage` with
    `num_updates`. A value that does not change, of a frozen parameter, keeps its bits.

    The running statistics of BatchNorm are averaged in the same way, as in EfficientNet and in
    timm's `ModelEma`. To first order they are the statistics of the averaged network. Stochastic
    weight averaging (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407) instead computes them
    anew, which takes a pass over the data.

    Args:
      average, network: the average so far, and the network after the update.
      updates: t, int32, the number of updates so far, this one included.
      decay: the largest share of the old average that an update keeps, below 1.

    Reference: Polyak & Juditsky 1992, https://doi.org/10.1137/0330046;
    https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage;
    Tan & Le 2019, https://arxiv.org/abs/1905.11946
    """
    share = jnp.maximum(1 - decay, 9 / (10 + updates.astype(jnp.float32)))
    return jax.tree.map(lambda old, new: old + share * (new - old), average, network)
