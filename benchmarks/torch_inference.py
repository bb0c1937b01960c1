"""The segmentation network in PyTorch, timed on its own: the peer of volume_inference.py.

    python benchmarks/torch_inference.py SLICES BATCH WIDTH    # seconds for SLICES of 240 x 240

Needs torch alone, and may so live in an environment of its own. Channels last, on the GPU if there
is one (bfloat16 there, as ours).
"""

import contextlib
import sys
import time
from collections.abc import Callable

import torch
from torch_twin import Segmentation

STRIDE = 32


def cropped(model: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The network's output [B, K, H, W] of images [B, C, H, W]: padded, and cropped back."""
    height, width = images.shape[2:]
    padded = torch.nn.functional.pad(images, (0, -width % STRIDE, 0, -height % STRIDE))
    return model(padded)[..., :height, :width]


def labels_of(model: Segmentation, images: torch.Tensor) -> torch.Tensor:
    """uint8[B, H, W] of images [B, 4, H, W]."""
    return cropped(model, images).argmax(1).to(torch.uint8)


def main() -> None:
    slices, batch, width = (int(argument) for argument in sys.argv[1:])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Segmentation(4, width)
    model.train(False)
    model.to(device, memory_format=torch.channels_last)
    mixed = torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()
    images = torch.randn(batch, 4, 240, 240).to(memory_format=torch.channels_last)
    with torch.inference_mode(), mixed:
        labels_of(model, images.to(device))  # warms up
        start = time.perf_counter()
        for _ in range(-(-slices // batch)):
            labels = labels_of(model, images.to(device))
        labels.cpu()
        seconds = time.perf_counter() - start
    print(f"{seconds:.3f} torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
