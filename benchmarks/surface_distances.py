"""Surface statistics beside plain SciPy: milliseconds a pair of masks, in 2D and in 3D.

    python benchmarks/surface_distances.py --real=DIR   # DIR: BraTS NIfTI folders
    python benchmarks/surface_distances.py              # a phantom patient instead

The prediction is the truth shifted by a few voxels; the masks are NCR, ED and ET in slices, WT,
TC and ET in the volume. SciPy computes the same nine numbers on whole arrays, on one thread:
erosion, two distance transforms, three percentiles.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from scipy import ndimage

from brats_jax.data.modalities import REGIONS
from brats_jax.data.nifti import NiftiSource
from brats_jax.data.phantom import PhantomSource
from brats_jax.metrics import surface

CLASSES = ((1,), (2,), (3,))


def plain_scipy(prediction: np.ndarray, target: np.ndarray) -> tuple[float, ...] | None:
    """The statistics of two masks by the definition."""
    if not prediction.any() or not target.any():
        return None
    at, to = (m & ~ndimage.binary_erosion(m) for m in (prediction, target))
    there = ndimage.distance_transform_edt(~to)[at]
    back = ndimage.distance_transform_edt(~at)[to]
    percentiles = (np.percentile(d, 95) for d in (there, back, np.concatenate([there, back])))
    within = ((d <= 1).sum() for d in (there, back))
    return there.sum(), there.size, back.sum(), back.size, *percentiles, *within


def seconds(run: Callable[[], object], repeats: int) -> float:
    """The shortest of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return min(times)


def compare(title: str, target: np.ndarray, shift: tuple[int, ...], regions: tuple) -> None:
    """Prints the time of SciPy and of either backend for label maps [B, ...]."""
    prediction = np.roll(target, shift, tuple(range(1, target.ndim)))

    def scipy() -> list[object]:
        return [
            plain_scipy(np.isin(p, region), np.isin(t, region))
            for p, t in zip(prediction, target, strict=True)
            for region in regions
        ]

    def ours(backend: str) -> Callable[[], object]:
        return lambda: surface.region_surface_statistics(
            prediction, target, regions, backend=backend
        )

    pairs = len(target) * len(regions)
    peer = seconds(scipy, 1)
    line = f"{title}: {pairs} pairs; SciPy {1e3 * peer / pairs:.2f} ms a pair"
    for backend in ("host", "device"):
        ours(backend)()  # compiles
        took = seconds(ours(backend), 3)
        line += f"; {backend} {1e3 * took / pairs:.2f} ms, {peer / took:.1f} times as fast"
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="BraTS NIfTI folders")
    parser.add_argument("--patients", type=int, default=1, help="how many of them")
    arguments = parser.parse_args()
    if arguments.real:
        source = NiftiSource(arguments.real, sorted(arguments.real.rglob("*.nii.gz")))
    else:
        source = PhantomSource(arguments.patients)
    print(f"{jax.devices()[0].platform}, {jax.device_count()} device(s)")
    for patient in source.patients()[: arguments.patients]:
        labels = source.read(patient).labels
        slices = labels[(labels > 0).any((1, 2))][::4]
        compare(f"{patient}, slices", slices, (3, 2), CLASSES)
        compare(f"{patient}, volume", labels[None], (3, 2, 1), tuple(REGIONS.values()))


if __name__ == "__main__":
    main()
