"""A PyTorch DataLoader over Kaggle slice files; the peer of loader.py, which starts it.

For each patch: reads the HDF5 file, transposes to channels first, clips each channel to its 1st and
99th percentile, z-scores it, cuts a random patch. Prints a JSON object when it is ready. Then, for
each input line 'N', it draws N patches and prints their seconds. Needs torch and h5py.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler


class Slices(Dataset):
    """(image float32[4, P, P], mask uint8[3, P, P]) of each file."""

    def __init__(self, folder: Path, patch: int) -> None:
        self.paths = sorted(folder.rglob("volume_*_slice_*.h5"))
        self.patch = patch

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        with h5py.File(self.paths[index], "r") as file:
            image, mask = file["image"][()], file["mask"][()]
        image, mask = image.transpose(2, 0, 1), mask.transpose(2, 0, 1)
        low, high = np.percentile(image, (1, 99), axis=(1, 2), keepdims=True)
        image = np.clip(image, low, high)
        image = (image - image.mean((1, 2), keepdims=True)) / (
            image.std((1, 2), keepdims=True) + 1e-8
        )
        row, column = (int(torch.randint(0, size - self.patch + 1, ())) for size in image.shape[1:])
        window = (slice(None), slice(row, row + self.patch), slice(column, column + self.patch))
        return np.ascontiguousarray(image[window], np.float32), np.ascontiguousarray(mask[window])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--patch", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    arguments = parser.parse_args()
    data = Slices(arguments.folder, arguments.patch)
    loader = DataLoader(
        data,
        arguments.batch,
        sampler=RandomSampler(data, replacement=True, num_samples=10**9),
        num_workers=arguments.workers,
    )
    batches = iter(loader)
    next(batches)
    print(json.dumps({"version": torch.__version__}), flush=True)
    for line in sys.stdin:
        if not line.strip():
            break
        start = time.perf_counter()
        for _ in range(int(line) // arguments.batch):
            next(batches)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
