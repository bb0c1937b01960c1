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


def main() -> None:
    arguments = parser().parse_args()
    devices.keep_freed_memory()  # as an evaluation does
    source = PhantomSource(1, 0, [int(size) for size in arguments.shape.split(",")])
    case = source.read(source.patients()[0])
    with_tumour = np.flatnonzero((case.labels > 0).any((1, 2)))
    chosen = with_tumour[np.linspace(0, len(with_tumour) - 1, arguments.batch).astype(int)]
    target = normalise(case.images[chosen], "slice")[..., 3].astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(target.shape).astype(np.float32)
    reconstruction = target + 0.2 * noise
    labels = case.labels[chosen]
    prediction = np.roll(labels, (3, 2), (1, 2))
    span = float(np.ptp(target))  # one data range for all slices, as MONAI needs

    def skimage() -> list[float]:
        pairs = zip(reconstruction, target, strict=True)
        return [structural_similarity(x, y, data_range=span) for x, y in pairs]

    def statistics() -> surface.SurfaceStatistics:
        return surface.region_surface_statistics(prediction, labels, FOREGROUND)

    def dice() -> object:
        counts = overlap.confusion_counts(prediction, labels, NUM_CLASSES)
        return overlap.dice_under(counts, "present_only")[..., 1:]

    ours: dict[str, Callable[[], object]] = {
        "SSIM, uniform": lambda: image.ssim(reconstruction, target, span),
        "SSIM": lambda: image.ssim(reconstruction, target, span, window="gaussian11"),
        "SSIM, compiled": lambda: image.ssim_of_centred_windows(
            reconstruction, target, np.full(len(target), span, np.float32), None, "uniform7"
        ),
        "Dice": dice,
        "HD95": lambda: surface.hd95(statistics(), "max_directed"),
        "ASD": lambda: surface.pooled_mean(statistics()),
    }
    difference = np.abs(np.asarray(ours["SSIM, uniform"]()) - np.array(skimage())).max()
    assert difference < 1e-4, difference
    functions: dict[str, Callable[[], object]] = {"scikit-image": skimage, **ours}
    monai: dict[str, list[float]] = {name: [] for name in ours if "," not in name}
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if arguments.peer_python:
            file = Path(folder) / "arrays.npz"
            arrays = {"target": target, "labels": labels, "prediction": prediction}
            np.savez(file, reconstruction=reconstruction, range=span, **arrays)
            flags = [f"--arrays={file}"]
            flags.append(f"--device={'cpu' if jax.default_backend() == 'cpu' else 'cuda'}")
            try:
                peer = measure.Peer(arguments.peer_python, "peers/torch_metrics.py", flags)
            except SystemExit as problem:  # continues with scikit-image alone
                print(f"MONAI: not measured, {problem}")
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
    each = 1e3 / len(target)
    faster = measure.ratio(took["scikit-image"], took["SSIM, uniform"])
    print(f"SSIM: {faster.show()} times as fast as scikit-image, called once per slice")
    for name, times in took.items():
        print(f"  {name:<14} {Spread.of(times).show(each, 3)} ms per slice")
    shown = Spread.of(took["SSIM, uniform"]).show(each, 3)
    SSIM.keep("ssim", times=faster.middle, text=f"{faster.show()} x, {shown} ms per slice")
    for name, times in monai.items() if peer else ():
        against = measure.ratio(took[name], times)
        print(
            f"{name}: {measure.ratio(times, took[name]).show()} times as fast as {version}, "
            f"{Spread.of(times).show(each, 3)} ms per slice"
        )
        text = f"{1 / against.middle:.1f} x MONAI"
        MONAI.keep(f"monai {name}", ratio=against, text=text)
    print(f"  {len(target)} slices of {target.shape[1]} x {target.shape[2]}; {measure.where()}")


if __name__ == "__main__":
    main()
