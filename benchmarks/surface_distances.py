"""Surface statistics beside plain SciPy: milliseconds a pair of masks, in 2D and in 3D.

    python benchmarks/surface_distances.py --real=DIR   # DIR: BraTS NIfTI folders
    python benchmarks/surface_distances.py              # a phantom patient instead

The prediction is the truth shifted by a few voxels; the masks are NCR, ED and ET in slices, WT,
TC and ET in the volume. SciPy computes the same nine numbers on whole arrays, on one thread:
erosion, two distance transforms, three percentiles. Ours: on the host (cropped, threaded SciPy),
and in the compiled form for accelerators. All by turns; copying the masks to the device counts.
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
    """The statistics of two masks by the definition."""
    if not prediction.any() or not target.any():
        return None
    at, to = (m & ~ndimage.binary_erosion(m) for m in (prediction, target))
    there = ndimage.distance_transform_edt(~to)[at]
    back = ndimage.distance_transform_edt(~at)[to]
    percentiles = (np.percentile(d, 95) for d in (there, back, np.concatenate([there, back])))
    within = ((d <= 1).sum() for d in (there, back))
    return there.sum(), there.size, back.sum(), back.size, *percentiles, *within


def compare(
    name: str, target: np.ndarray, shift: tuple[int, ...], regions: tuple, turns: int
) -> None:
    """Prints the time of SciPy and of either backend for label maps [B, ...]."""
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
    took = measure.by_turns(
        {"SciPy": scipy, "host": lambda: ours("host"), "device": lambda: ours("device")}, turns
    )
    for backend in ("host", "device"):
        times = measure.ratio(took["SciPy"], took[backend])
        each = Spread.of(took[backend]).show(1e3 / pairs, 3)
        print(f"{name}, {backend}: {times.show()} times as fast as SciPy, {each} ms a pair")
        kind = "asd" if target.ndim == 3 else "asd volume"
        text = f"{times.show()} x SciPy, {each} ms a pair ({backend})"
        ASD.keep(f"{kind} {backend}", times=times.middle, text=text)
    print(f"  SciPy {Spread.of(took['SciPy']).show(1e3 / pairs, 2)} ms a pair; {pairs} pairs")


def parser() -> argparse.ArgumentParser:
    """Of its arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="BraTS NIfTI folders")
    parser.add_argument("--patients", type=int, default=1, help="how many of them")
    parser.add_argument("--shape", default="155,240,240", help="of a phantom: slices,H,W")
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
