"""The segmentation network in PyTorch, timed on its own: the peer of volume_inference.py.

    python benchmarks/torch_unet.py SLICES BATCH WIDTH    # prints seconds for SLICES of 240 x 240

Needs torch alone, and may so live in an environment of its own. torchvision's ResNet-50 with four
input channels and a U-Net decoder (nearest up-sampling, concatenation, twice 3x3 convolution, BN,
ReLU), channels last, on the GPU if there is one (bfloat16 there, as ours).
"""

import contextlib
import sys
import time

import torch
from torch import nn

BLOCKS = (3, 4, 6, 3)


def conv_bn(i: int, o: int, k: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, k, stride=stride, padding=k // 2, bias=False), nn.BatchNorm2d(o)
    )


class Bottleneck(nn.Module):
    def __init__(self, i: int, inner: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(i, inner), nn.ReLU(inplace=True),
            conv_bn(inner, inner, 3, stride), nn.ReLU(inplace=True),
            conv_bn(inner, 4 * inner),
        )  # fmt: skip
        same = stride == 1 and i == 4 * inner
        self.shortcut = nn.Identity() if same else conv_bn(i, 4 * inner, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(self.body(x) + self.shortcut(x))


class UNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(4, width, 7, 2), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, 1)
        channels, self.stages = width, nn.ModuleList()
        for stage, blocks in enumerate(BLOCKS):
            inner, stride = width * 2**stage, 2 if stage else 1
            first = Bottleneck(channels, inner, stride)
            rest = [Bottleneck(4 * inner, inner, 1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            channels = 4 * inner
        skips = [16 * width, 8 * width, 4 * width, width, 0]
        outs = [max(8, c * width // 64) for c in (256, 128, 64, 32, 16)]
        self.decoder = nn.ModuleList()
        for skip, out in zip(skips, outs, strict=True):
            self.decoder.append(
                nn.Sequential(
                    conv_bn(channels + skip, out, 3), nn.ReLU(inplace=True),
                    conv_bn(out, out, 3), nn.ReLU(inplace=True),
                )
            )  # fmt: skip
            channels = out
        self.head = nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        x = nn.functional.pad(x, (0, -width % 32, 0, -height % 32))
        maps = [self.stem(x)]
        x = self.pool(maps[0])
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        skips = [*reversed(maps[:-1]), None]
        for block, skip in zip(self.decoder, skips, strict=True):
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(x if skip is None else torch.cat([x, skip], 1))
        return self.head(x)[..., :height, :width].argmax(1).to(torch.uint8)


def main() -> None:
    slices, batch, width = (int(argument) for argument in sys.argv[1:])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = UNet(width).eval().to(device, memory_format=torch.channels_last)
    mixed = torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()
    images = torch.randn(batch, 4, 240, 240).to(memory_format=torch.channels_last)
    with torch.inference_mode(), mixed:
        model(images.to(device))  # warms up
        start = time.perf_counter()
        for _ in range(-(-slices // batch)):
            labels = model(images.to(device))
        labels.cpu()
        seconds = time.perf_counter() - start
    print(f"{seconds:.3f} torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
