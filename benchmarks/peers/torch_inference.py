"""The segmentation network in PyTorch; the peer of volume_inference.py, which starts it.

    python benchmarks/peers/torch_inference.py --batch=8 --width=64

First prints a JSON object with version, device and threads. Then, for each input line 'N', it
segments N slices of 240 x 240 and prints their seconds. Uses channels-last memory format, and
bfloat16 on a GPU if there is one. Needs torch alone.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.peers.torch_twin import Segmentation

STRIDE = 32


def cropped(model: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Pads images [B, C, H, W] to a multiple of 32; crops the output [B, K, H, W] back."""
    height, width = images.shape[2:]
    padded = torch.nn.functional.pad(images, (0, -width % STRIDE, 0, -height % STRIDE))
    return model(padded)[..., :height, :width]


def labels_of(model: Segmentation, images: torch.Tensor) -> torch.Tensor:
    """Predicted labels uint8[B, H, W] of images [B, 4, H, W]."""
    return cropped(model, images).argmax(1).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True  # autotuning, as in XLA
    model = Segmentation(4, arguments.width)
    model.train(False)
    model.to(device, memory_format=torch.channels_last)
    mixed = torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()
    images = torch.randn(arguments.batch, 4, 240, 240).to(memory_format=torch.channels_last)
    about = f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads"
    print(json.dumps({"about": about}), flush=True)
    for line in sys.stdin:
        if not line.strip():
            break
        start = time.perf_counter()
        with torch.inference_mode(), mixed:
            for _ in range(-(-int(line) // arguments.batch)):
                labels = labels_of(model, images.to(device))
            labels.cpu()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
