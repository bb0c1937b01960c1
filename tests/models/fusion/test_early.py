import jax
import numpy as np
from flax import nnx

from brats_jax.models import FUSIONS, Fusion, ResNet50, split


def test_early_fusion_is_resnet_50_with_channels_for_images_and_presence():
    fusion = Fusion("early", ("t1", "flair"), slices=3, with_presence=True)
    kinds = {"width": 4, "dtype": np.float32}
    ours = split(FUSIONS["early"](fusion, rngs=nnx.Rngs(3), **kinds))
    plain = split(ResNet50(2 * 3 + 2, rngs=nnx.Rngs(3), **kinds))
    assert ours[0] == plain[0]
    jax.tree.map(np.testing.assert_array_equal, ours[1:], plain[1:])
