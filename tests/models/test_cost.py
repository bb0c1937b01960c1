import pytest
from flax import nnx

from brats_jax.models import ResNet50, SegmentationModel
from brats_jax.models.cost import cost_of
from brats_jax.models.layers import Conv


class Convolution(nnx.Module):
    def __init__(self):
        self.conv = Conv(2, 3, 3, stride=2, use_bias=True, rngs=nnx.Rngs(0))

    def __call__(self, x, *, train):
        return self.conv(x)


def test_a_convolution_multiplies_each_output_pixel_by_its_kernel():
    cost = cost_of(Convolution, (8, 6, 2))
    assert cost.parameters == 3 * 3 * 2 * 3 + 3
    assert cost.multiplications == 4 * 3 * (3 * 3 * 2 * 3)


def test_resnet_50_has_the_published_size():
    """25,557,032 parameters and 4.09 billion multiplications, less those of the classifier.

    https://pytorch.org/vision/stable/models/generated/torchvision.models.resnet50.html
    """
    cost = cost_of(lambda: ResNet50(3, rngs=nnx.Rngs(0)), (224, 224, 3))
    classifier = 2048 * 1000
    assert cost.parameters == 25_557_032 - classifier - 1000
    assert cost.multiplications + classifier == pytest.approx(4.09e9, rel=1e-3)
    assert cost.words() == "23.5 million parameters, 4.09 billion multiplications"


def test_the_stem_reads_more_channels_and_nothing_else_changes():
    few, many = (
        cost_of(lambda c=c: SegmentationModel(c, width=4, rngs=nnx.Rngs(0)), (32, 32, c))
        for c in (2, 5)
    )
    assert many.parameters - few.parameters == 3 * 49 * 4
    assert many.multiplications - few.multiplications == 16 * 16 * 3 * 49 * 4
