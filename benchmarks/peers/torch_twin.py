"""The networks of brats_jax in PyTorch, used by the benchmarks and the golden files of the tests.

The encoder is torchvision's `resnet50` (bottleneck v1.5: the stride is in the 3x3 convolution)
with its state-dict names and without `fc`; the decoders and heads are those of
`brats_jax.models.unet` and `brats_jax.models.reconstruction`, parameter for parameter.
Needs torch alone.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS = (3, 4, 6, 3)
DECODER_CHANNELS = (256, 128, 64, 32, 16)  # at width 64


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions, plus a shortcut."""

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, 4 * inner, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * inner)
        self.downsample = None
        if stride != 1 or inputs != 4 * inner:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * inner, 1, stride=stride, bias=False),
                nn.BatchNorm2d(4 * inner),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return torch.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    """Images [B, C, H, W] to five feature maps, finest first."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = [width]
        channels = width
        for stage, blocks in enumerate(BLOCKS):
            inner = width * 2**stage
            layer = []
            for block in range(blocks):
                layer.append(Bottleneck(channels, inner, 2 if stage and not block else 1))
                channels = 4 * inner
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
            self.channels.append(channels)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        c0 = torch.relu(self.bn1(self.conv1(x)))
        c1 = self.layer1(self.maxpool(c0))
        c2 = self.layer2(c1)
        c3 = self.layer3(c2)
        return [c0, c1, c2, c3, self.layer4(c3)]


def _conv_bn_relu(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def decoder_channels(width: int) -> list[int]:
    """Output channels of the decoder's five stages."""
    return [max(8, c * width // 64) for c in DECODER_CHANNELS]


class Segmentation(nn.Module):
    """`brats_jax.models.SegmentationModel`: logits [B, classes, H, W]."""

    def __init__(self, in_channels: int, width: int, classes: int = 4) -> None:
        super().__init__()
        self.encoder = ResNet50(in_channels, width)
        *skips, coarsest = self.encoder.channels
        sizes = [coarsest, *decoder_channels(width)]
        self.decoder = nn.ModuleList(
            nn.Sequential(_conv_bn_relu(i + s, o), _conv_bn_relu(o, o))
            for i, s, o in zip(sizes[:-1], [*reversed(skips), 0], sizes[1:], strict=True)
        )
        self.head = nn.Conv2d(sizes[-1], classes, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *skips, x = self.encoder(x)
        for stage, skip in zip(self.decoder, [*reversed(skips), None], strict=True):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = stage(x if skip is None else torch.cat([x, skip], 1))
        return self.head(x)


class Reconstruction(nn.Module):
    """`brats_jax.models.ReconstructionModel`: one image [B, 1, H, W]."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.encoder = ResNet50(in_channels, width)
        sizes = [self.encoder.channels[-1], *decoder_channels(width)]
        self.decoder = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ConvTranspose2d(i, o, 4, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(o),
                    nn.ReLU(),
                )
                for i, o in pairwise(sizes)
            )
        )
        self.head = nn.Conv2d(sizes[-1], 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.decoder(self.encoder(x)[-1]))


def dice_ce(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`brats_jax.losses.dice_ce`, in float32."""
    logits = logits.float()
    p = logits.softmax(1)[:, 1:]
    truth = F.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2)[:, 1:].to(p.dtype)
    total = p.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    dice = (1 - (2 * (p * truth).sum((0, 2, 3)) + 1e-5) / (total + 1e-5)).mean()
    return 0.5 * dice + 0.5 * F.cross_entropy(logits, labels)


def mse(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error, in float32."""
    return F.mse_loss(output.float(), target)
