"""Compares SSIM, Dice, HD95 and ASD of a batch of slices with scikit-image and MONAI.

    python benchmarks/metrics.py                        # scikit-image
    python benchmarks/metrics.py --peer_python=PYTHON   # also MONAI, installed for PYTHON

The slices are a phantom patient's. The predicted labels are the true labels shifted by a few
pixels; the predicted image is the true image plus noise. Our functions and MONAI's get the whole
batch in one call, from NumPy to NumPy; scikit-image gets one slice per call. surface_distances.py
compares surface distances with plain SciPy.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from skimage.metrics import structural_similarity

from benchmarks import measure
from benchmarks.measure import Spread
from brats_jax.data.modalities import NUM_CLASSES
from brats_jax.data.normalise import normalise
from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.metrics import image, overlap, surface
from brats_jax.runtime import devices

FOREGROUND = ((1,), (2,), (3,))
SSIM = measure.Record("ssim", times=float, text=str)
MONAI = measure.Record(
    "monai SSIM", "monai Dice", "monai HD95", "monai ASD", ratio=Spread, text=str
)


def finite_mean(values: object) -> float:
    """Mean of the finite values."""
    array = np.asarray(values, np.float64)
    return float(array[np.isfinite(array)].mean())


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="155,240,240", help="slices,H,W of the phantom")
    parser.add_argument("--batch", type=int, default=16, help="number of slices with tumour")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--peer_python", help="Python with MONAI; without it, MONAI is left out")
    return parser


class Slices(NamedTuple):
    """A batch of slices with tumour, and predictions of them.

    Attributes:
      target, reconstruction: float32[B, H, W], a true and a predicted image.
      labels, prediction: uint8[B, H, W], true and predicted labels.
      data_range: of all targets, one for all slices, as MONAI needs.
    """

    target: np.ndarray
    reconstruction: np.ndarray
    labels: np.ndarray
    prediction: np.ndarray
    data_range: float


def phantom_slices(shape: str, batch: int) -> Slices:
    """Slices of a phantom patient: labels shifted by a few pixels, the image plus noise."""
    source = PhantomSource(1, 0, [int(size) for size in shape.split(",")])
    case = source.read(source.patients()[0])
    with_tumour = np.flatnonzero((case.labels > 0).any((1, 2)))
    chosen = with_tumour[np.linspace(0, len(with_tumour) - 1, batch).astype(int)]
    target = normalise(case.images[chosen], "slice")[..., 3].astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(target.shape).astype(np.float32)
    labels = case.labels[chosen]
    prediction = np.roll(labels, (3, 2), (1, 2))
    return Slices(target, target + 0.2 * noise, labels, prediction, float(np.ptp(target)))


def our_functions(slices: Slices) -> dict[str, Callable[[], object]]:
    """Our metrics of the whole batch, by name; MONAI has those without a comma in the name."""
    images, span = (slices.reconstruction, slices.target), slices.data_range
    ranges = np.full(len(slices.target), span, np.float32)

    def statistics() -> surface.SurfaceStatistics:
        return surface.region_surface_statistics(slices.prediction, slices.labels, FOREGROUND)

    def dice() -> object:
        counts = overlap.confusion_counts(slices.prediction, slices.labels, NUM_CLASSES)
        return overlap.dice_under(counts, "present_only")[..., 1:]

    return {
        "SSIM, uniform": lambda: image.ssim(*images, span),
        "SSIM": lambda: image.ssim(*images, span, window="gaussian11"),
        "SSIM, compiled": lambda: image.ssim_of_centred_windows(*images, ranges, None, "uniform7"),
        "Dice": dice,
        "HD95": lambda: surface.hd95(statistics(), "max_directed"),
        "ASD": lambda: surface.pooled_mean(statistics()),
    }


def start_monai(python: str, slices: Slices, folder: Path) -> measure.Peer | None:
    """Starts MONAI's process on the same arrays; None, with a line, where it cannot be started."""
    file = folder / "arrays.npz"
    arrays = {"target": slices.target, "labels": slices.labels, "prediction": slices.prediction}
    np.savez(file, reconstruction=slices.reconstruction, range=slices.data_range, **arrays)
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    try:
        return measure.Peer(
            python, "peers/torch_metrics.py", [f"--arrays={file}", f"--device={device}"]
        )
    except SystemExit as problem:  # continues with scikit-image alone
        print(f"MONAI: not measured, {problem}")
        return None


def main() -> None:
    arguments = parser().parse_args()
    devices.keep_freed_memory()  # as an evaluation does
    slices = phantom_slices(arguments.shape, arguments.batch)

    def skimage() -> list[float]:
        pairs = zip(slices.reconstruction, slices.target, strict=True)
        return [structural_similarity(x, y, data_range=slices.data_range) for x, y in pairs]

    ours = our_functions(slices)
    difference = np.abs(np.asarray(ours["SSIM, uniform"]()) - np.array(skimage())).max()
    assert difference < 1e-4, difference
    functions: dict[str, Callable[[], object]] = {"scikit-image": skimage, **ours}
    monai: dict[str, list[float]] = {name: [] for name in ours if "," not in name}
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if arguments.peer_python:
            peer = start_monai(arguments.peer_python, slices, Path(folder))
        for name in monai if peer else ():  # checks the values; also warms up
            its, mine = peer.request(name)[1], finite_mean(ours[name]())
            assert abs(its - mine) < 1e-3 * max(1.0, abs(mine)), (name, its, mine)
        took: dict[str, list[float]] = {name: [] for name in functions}
        for turn in range(arguments.turns + 1):
            for name, run in functions.items():
                took[name].append(measure.timed(run))
            for name, times in monai.items():
                times += [peer.request(name)[0]] if peer else []
            if turn == 0:  # excludes compilation and first reads
                for times in (*took.values(), *monai.values()):
                    times.clear()
        version = peer.description["version"] if peer else ""
        if peer:
            peer.close()
    count, height, width = slices.target.shape
    show(took, monai if peer else {}, 1e3 / count, version)
    print(f"  {count} slices of {height} x {width}; {measure.where()}")


def show(
    took: dict[str, list[float]], monai: dict[str, list[float]], scale: float, version: str
) -> None:
    """Prints and records the times.

    Args:
      took: seconds of each function in each turn, scikit-image's among them.
      monai: seconds of MONAI's functions; empty if it was not measured.
      scale: from seconds of the batch to milliseconds of a slice.
      version: of MONAI.
    """
    faster = measure.ratio(took["scikit-image"], took["SSIM, uniform"])
    print(f"SSIM: {faster.show()} times as fast as scikit-image, called once per slice")
    for name, times in took.items():
        print(f"  {name:<14} {Spread.of(times).show(scale, 3)} ms per slice")
    shown = Spread.of(took["SSIM, uniform"]).show(scale, 3)
    SSIM.keep("ssim", times=faster.middle, text=f"{faster.show()} x, {shown} ms per slice")
    for name, times in monai.items():
        against = measure.ratio(took[name], times)
        print(
            f"{name}: {measure.ratio(times, took[name]).show()} times as fast as {version}, "
            f"{Spread.of(times).show(scale, 3)} ms per slice"
        )
        text = f"{1 / against.middle:.1f} x MONAI"
        MONAI.keep(f"monai {name}", ratio=against, text=text)


if __name__ == "__main__":
    main()
