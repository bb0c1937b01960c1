"""How comparable normalisations make patients: FLAIR explained by a regression on T1 and T1Gd.

    python benchmarks/numerics/normalisations.py DIR

DIR holds BraTS NIfTI cases. For each normalisation, a regression with nine numbers per voxel (1,
T1, T1Gd, squares, product, cubes, max(T1Gd - T1, 0)) is fitted to all patients but one, and tested
on that one. Prints its mean squared error over the brain beside that of the mean of the others, and
the share of the mean's error that is due to differences between patients. The brain is where none
of the three modalities is 0.

The white stripe is a stripe of 10 % of the voxels around the last peak of T1's histogram. Histogram
standardisation maps the percentiles 1, 10, 20, ..., 90, 99 to their mean over all patients.

References: Shinohara et al. 2014, https://doi.org/10.1016/j.nicl.2014.08.008;
Nyul et al. 2000, https://doi.org/10.1109/42.836373
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from brats_jax.data.modalities import MODALITIES  # noqa: E402
from brats_jax.data.normalise import IQR_OF_NORMAL, PERCENTILE  # noqa: E402
from brats_jax.data.sources.detect import open_source  # noqa: E402

SLICE_STEP, VOXEL_STEP = 3, 7
LANDMARKS = (1, *range(10, 100, 10), 99)
NAMES = ("t1", "t1gd", "flair")

# The brain's voxels of the three modalities, float64[3, n].
Patient = np.ndarray


def read(folder: str) -> list[Patient]:
    """Every SLICE_STEP-th slice of each patient, intensities cut at the upper percentile."""
    source = open_source(folder)
    channels = [MODALITIES.index(name) for name in NAMES]
    patients = []
    for name in source.patients():
        images = source.read(name).images[::SLICE_STEP, ..., channels]
        values = images[(images != 0).all(axis=-1)].T.astype(np.float64)
        top = np.percentile(values, PERCENTILE, axis=1, keepdims=True)
        patients.append(np.minimum(values, top))
    return patients


def volume(patient: Patient) -> Patient:
    """Z-scores over the brain."""
    mean, deviation = patient.mean(1, keepdims=True), patient.std(1, keepdims=True)
    return (patient - mean) / deviation


def robust(patient: Patient) -> Patient:
    """Median 0 and the interquartile range of a normal distribution, over the brain."""
    low, middle, high = np.percentile(patient, (25, 50, 75), axis=1)[..., None]
    return (patient - middle) / ((high - low) / IQR_OF_NORMAL)


def white_stripe(patient: Patient) -> Patient:
    """Median 0 and standard deviation 1 over the white stripe; both by percentiles."""
    inside = stripe(patient[0])
    low, middle, high = np.percentile(patient[:, inside], (16, 50, 84), axis=1)[..., None]
    return (patient - middle) / ((high - low) / 2)


def white_matter_ratio(patient: Patient) -> Patient:
    """The relative difference to the median of the white stripe."""
    middle = np.median(patient[:, stripe(patient[0])], axis=1, keepdims=True)
    return patient / middle - 1


def stripe(t1: np.ndarray) -> np.ndarray:
    """bool[n]: the tenth of the voxels around the last peak of T1's histogram."""
    limits = tuple(np.percentile(t1, (1, PERCENTILE)))
    counts, edges = np.histogram(t1, bins=200, range=limits)
    smooth = gaussian_filter1d(counts.astype(float), 4)
    inner = smooth[1:-1]
    peaks = (inner >= smooth[:-2]) & (inner > smooth[2:]) & (inner > 0.2 * smooth.max())
    rank = (t1 < edges[np.flatnonzero(peaks)[-1] + 1]).mean()
    low, high = np.quantile(t1, (max(0.0, rank - 0.05), min(1.0, rank + 0.05)))
    return (t1 >= low) & (t1 <= high)


def standardised(patients: list[Patient]) -> list[Patient]:
    """Histogram standardisation, linear between and beyond the landmarks."""
    marks = np.array([np.percentile(patient, LANDMARKS, axis=1) for patient in patients])
    spread = marks[:, -1:] - marks[:, :1]
    scale = ((marks - marks[:, :1]) / spread).mean(axis=0)
    result = []
    for patient, own in zip(patients, marks, strict=True):
        mapped = np.empty_like(patient)
        for channel, values in enumerate(patient):
            x, y = own[:, channel], scale[:, channel]
            part = np.clip(np.searchsorted(x, values) - 1, 0, len(x) - 2)
            slope = np.diff(y)[part] / np.diff(x)[part]
            mapped[channel] = y[part] + (values - x[part]) * slope
        result.append(mapped)
    return result


def features(t1: np.ndarray, t1gd: np.ndarray) -> np.ndarray:
    """float64[n, 9]: the numbers of each voxel that the regression uses."""
    enhancing = np.maximum(t1gd - t1, 0)
    terms = [np.ones_like(t1), t1, t1gd, t1**2, t1gd**2, t1 * t1gd, t1**3, t1gd**3, enhancing]
    return np.stack(terms, axis=1)


def compare(patients: list[Patient]) -> tuple[float, float, float]:
    """(regression's MSE, mean's MSE, share of the latter between patients), leave one out."""
    samples = [(features(p[0, ::VOXEL_STEP], p[1, ::VOXEL_STEP]), p[2, ::VOXEL_STEP])
               for p in patients]  # fmt: skip
    products = [(x.T @ x, x.T @ y) for x, y in samples]
    regression, mean, within = [], [], []
    for left_out, (x, y) in enumerate(samples):
        others = [product for i, product in enumerate(products) if i != left_out]
        squares, sums = (sum(parts) for parts in zip(*others, strict=True))
        regression.append(np.mean((x @ np.linalg.solve(squares, sums) - y) ** 2))
        # The first feature is 1, so that these are the sum and the number of the values.
        mean.append(np.mean((sums[0] / squares[0, 0] - y) ** 2))
        within.append(y.var())
    share = 1 - np.mean(within) / np.mean(mean)
    return float(np.mean(regression)), float(np.mean(mean)), float(share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="of BraTS NIfTI cases")
    patients = read(parser.parse_args().folder)
    one_by_one: dict[str, Callable[[Patient], Patient]] = {
        "volume": volume,
        "robust": robust,
        "white stripe": white_stripe,
        "ratio to white matter": white_matter_ratio,
    }
    print(f"{len(patients)} patients; MSE over the brain, leave one patient out")
    print("normalisation                regression   mean  ratio  mean's MSE between patients")
    results = {name: [how(patient) for patient in patients] for name, how in one_by_one.items()}
    results["histogram standardisation"] = standardised(patients)
    for name, normalised in results.items():
        regression, mean, share = compare(normalised)
        print(f"{name:<28}{regression:>11.3f}{mean:>7.3f}{regression / mean:>7.3f}{share:>12.1%}")


if __name__ == "__main__":
    main()
