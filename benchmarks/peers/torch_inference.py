"""The segmentation network in PyTorch, told when to run; the peer of volume_inference.py.

    python benchmarks/peers/torch_inference.py --batch=8 --width=64

Prints a JSON object that describes it; then for every line 'N' the seconds that N slices of
240 x 240 took. Needs torch alone, and may so live in an environment of its own. Channels last, on
the GPU if there is one (bfloat16 there, as ours).
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
    """The network's output [B, K, H, W] of images [B, C, H, W]: padded, and cropped back."""
    height, width = images.shape[2:]
    padded = torch.nn.functional.pad(images, (0, -width % STRIDE, 0, -height % STRIDE))
    return model(padded)[..., :height, :width]


def labels_of(model: Segmentation, images: torch.Tensor) -> torch.Tensor:
    """uint8[B, H, W] of images [B, 4, H, W]."""
    return cropped(model, images).argmax(1).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True  # tries algorithms, as XLA does
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
