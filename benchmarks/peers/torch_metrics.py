"""MONAI's metrics on a batch of slices; the peer of metrics.py, which starts it.

    python benchmarks/peers/torch_metrics.py --arrays=FILE.npz --device=cpu  # needs torch and monai

First prints a JSON object with the versions. Then, for each input line with the name of a metric,
it computes the metric from NumPy arrays and prints its seconds and the mean of its finite values.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable

import monai
import numpy as np
import torch
from monai.metrics import (
    SSIMMetric,
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arrays", required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    arrays, device = np.load(arguments.arrays, allow_pickle=False), arguments.device
    warnings.simplefilter("ignore")  # MONAI warns about classes that a slice lacks
    similarity = SSIMMetric(spatial_dims=2, data_range=float(arrays["range"]))

    def masks(name: str) -> torch.Tensor:
        """One-hot labels float[B, 4, H, W], MONAI's input format."""
        labels = torch.from_numpy(arrays[name].astype(np.int64)).to(device)
        return torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()

    def images(name: str) -> torch.Tensor:
        return torch.from_numpy(arrays[name]).to(device)[:, None]

    def pair() -> tuple[torch.Tensor, torch.Tensor]:
        return masks("prediction"), masks("labels")

    metrics: dict[str, Callable[[], torch.Tensor]] = {
        "SSIM": lambda: similarity(images("reconstruction"), images("target")),
        "Dice": lambda: compute_dice(*pair(), include_background=False),
        "HD95": lambda: compute_hausdorff_distance(*pair(), percentile=95),
        "ASD": lambda: compute_average_surface_distance(*pair(), symmetric=True),
    }
    arrays = {name: arrays[name] for name in arrays.files}
    torch.zeros((), device=device)  # raises an error here if there is no such device
    print(
        json.dumps({"version": f"MONAI {monai.__version__}, torch {torch.__version__}"}), flush=True
    )
    for line in sys.stdin:
        if not line.strip():
            break
        start = time.perf_counter()
        values = metrics[line.strip()]().cpu()
        took = time.perf_counter() - start
        finite = values[torch.isfinite(values)]
        print(took, float(finite.mean()), flush=True)


if __name__ == "__main__":
    main()
