"""Compares surface statistics with plain SciPy, in milliseconds per pair of masks, in 2D and 3D.

    python benchmarks/surface_distances.py --real=DIR   # DIR: BraTS NIfTI folders
    python benchmarks/surface_distances.py              # a phantom patient

The prediction is the truth shifted by a few voxels. The masks are NCR, ED and ET in slices, and WT,
TC and ET in the volume. SciPy computes the same nine numbers on whole arrays and one thread:
erosion, two distance transforms, three percentiles. Our two backends are `host` (SciPy on cropped
masks, in threads) and `device` (compiled for accelerators, including the copy of the masks). The
three alternate in one run.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks import measure
from benchmarks.measure import Spread
from brats_jax.data.modalities import REGIONS
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.metrics import surface

CLASSES = ((1,), (2,), (3,))
ASD = measure.Record(
    *("asd host", "asd device", "asd volume host", "asd volume device"), times=float, text=str
)


def plain_scipy(prediction: np.ndarray, target: np.ndarray) -> tuple[float, ...] | None:
    """The statistics of two masks, computed from their definition."""
    if not prediction.any() or not target.any():
        return None
    surface_p, surface_t = (m & ~ndimage.binary_erosion(m) for m in (prediction, target))
    p_to_t = ndimage.distance_transform_edt(~surface_t)[surface_p]
    t_to_p = ndimage.distance_transform_edt(~surface_p)[surface_t]
    percentiles = (np.percentile(d, 95) for d in (p_to_t, t_to_p, np.concatenate([p_to_t, t_to_p])))
    within = ((d <= 1).sum() for d in (p_to_t, t_to_p))
    return p_to_t.sum(), p_to_t.size, t_to_p.sum(), t_to_p.size, *percentiles, *within


def compare(
    name: str, target: np.ndarray, shift: tuple[int, ...], regions: tuple, turns: int
) -> None:
    """Prints the times of SciPy and of both backends for label maps [B, ...]."""
    prediction = np.roll(target, shift, tuple(range(1, target.ndim)))

    def scipy() -> list[object]:
        return [
            plain_scipy(np.isin(p, region), np.isin(t, region))
            for p, t in zip(prediction, target, strict=True)
            for region in regions
        ]

    def ours(backend: str) -> object:
        return surface.region_surface_statistics(prediction, target, regions, backend=backend)

    pairs = len(target) * len(regions)
    took = measure.time_alternately(
        {"SciPy": scipy, "host": lambda: ours("host"), "device": lambda: ours("device")}, turns
    )
    for backend in ("host", "device"):
        times = measure.ratio(took["SciPy"], took[backend])
        each = Spread.of(took[backend]).show(1e3 / pairs, 3)
        print(f"{name}, {backend}: {times.show()} times as fast as SciPy, {each} ms per pair")
        kind = "asd" if target.ndim == 3 else "asd volume"
        text = f"{times.show()} x SciPy, {each} ms per pair ({backend})"
        ASD.keep(f"{kind} {backend}", times=times.middle, text=text)
    print(f"  SciPy {Spread.of(took['SciPy']).show(1e3 / pairs, 2)} ms per pair; {pairs} pairs")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="BraTS NIfTI folders")
    parser.add_argument("--patients", type=int, default=1, help="number of patients")
    parser.add_argument("--shape", default="155,240,240", help="slices,H,W of a phantom")
    parser.add_argument("--turns", type=int, default=5)
    return parser


def main() -> None:
    arguments = parser().parse_args()
    if arguments.real:
        source = NiftiSource(arguments.real, sorted(arguments.real.rglob("*.nii.gz")))
    else:
        source = PhantomSource(
            arguments.patients, 0, [int(size) for size in arguments.shape.split(",")]
        )
    for patient in source.patients()[: arguments.patients]:
        labels = source.read(patient).labels
        slices = labels[(labels > 0).any((1, 2))][::4]
        compare(f"{patient}, slices", slices, (3, 2), CLASSES, arguments.turns)
        volume = tuple(REGIONS.values())
        compare(f"{patient}, volume", labels[None], (3, 2, 1), volume, arguments.turns)
    print(f"  {measure.where()}")


if __name__ == "__main__":
    main()
