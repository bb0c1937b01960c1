"""Compares phantom with real cases: intensities per tissue, contrasts, sizes, difficulty.

    python benchmarks/numerics/phantom_statistics.py --patients=16 --real=DIR --store=STORE

Prints one table of aggregate numbers; without --real it has the phantom's column only. Then the
share of the variance of the brain's FLAIR, in unseen patients, that a regression with nine numbers
per voxel explains (docs/metrics.md, "Yardsticks"), of the phantom, of DIR, and of a STORE that was
prepared with --normalisation=volume. Takes about 5 s per patient on one core.
"""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks import measure
from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES, MODALITIES
from brats_jax.data.sources.base import Case
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.data.store.reader import Store
from brats_jax.evaluation.slices import brain_mask
from brats_jax.evaluation.yardsticks import terms

T1, T1GD, T2, FLAIR = (MODALITIES.index(m) for m in ("t1", "t1gd", "t2", "flair"))
SAMPLE = 50_000  # voxels per case for the regression and the areas under the curve


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive voxel is brighter than a negative one; NaN if one is empty."""
    if not len(positive) or not len(negative):
        return float("nan")
    order = np.searchsorted(np.sort(negative), positive)
    return float(order.mean() / len(negative))


def explained_flair(z: np.ndarray, brain: np.ndarray, rng: np.random.Generator) -> float:
    """R^2 of a regression of FLAIR on T1 and T1Gd: voxel, its square, two neighbourhood means."""
    columns = []
    for m in (T1, T1GD):
        columns += [z[..., m], z[..., m] ** 2]
        columns += [ndimage.gaussian_filter(z[..., m], s, truncate=2) for s in (1.5, 4.0)]
    chosen = rng.choice(np.flatnonzero(brain), min(SAMPLE, int(brain.sum())), replace=False)
    features = np.stack([c.ravel()[chosen] for c in columns] + [np.ones(len(chosen))], 1)
    target = z[..., FLAIR].ravel()[chosen]
    fit = features @ np.linalg.lstsq(features, target, rcond=None)[0]
    return float(1 - np.mean((target - fit) ** 2) / np.var(target))


class LeaveOneOutRegression:
    """A regression of FLAIR on the yardstick's terms, tested on the one patient that it leaves out.

    Intensities are z-scores over the brain of each volume, air is 0. Fitted to all pixels of the
    slices, scored over the brain.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"all": [], "tumour": []}

    def add_case(self, case: Case) -> None:
        """Adds a case, normalised here."""
        brain = (case.images != 0).any(-1)
        voxels = case.images[brain]
        scaled = np.zeros(case.images.shape, np.float32)
        scaled[brain] = (voxels - voxels.mean(0)) / voxels.std(0)
        self.add(scaled, brain, (case.labels > 0).any((1, 2)))

    def add_store(self, store: Store) -> None:
        """Adds every patient of a store that is normalised by volume."""
        for name in store.patients:
            indices = np.array(store.slices_of(name))
            images = store.read(indices)[0].astype(np.float32)
            self.add(images, np.asarray(brain_mask(images)), store.has_tumour[indices])

    def add(self, images: np.ndarray, brain: np.ndarray, tumour: np.ndarray) -> None:
        """Adds a patient: z-scores [N, H, W, 4], bool[N, H, W], bool[N]."""
        for which, sums in self._sums.items():
            chosen = np.ones(len(images), bool) if which == "all" else tumour
            voxels = images[chosen][brain[chosen]].astype(np.float64)
            pair = voxels[:, [T1, T1GD]]
            rows = np.stack([*terms(pair, ("t1", "t1gd")), voxels[:, FLAIR]], axis=1)
            inside = rows.T @ rows
            every = inside.copy()
            every[0, 0] += brain[chosen].size - len(voxels)  # air: only the term 1 is not 0
            sums.append((every, inside))

    def scores(self, which: str) -> tuple[float, float]:
        """(MSE of the regression, of the mean) over the brain, mean over patients."""
        sums = self._sums[which]
        total = np.sum([every for every, _ in sums], axis=0)
        found = []
        for every, inside in sums:
            rest = total - every
            fits = (np.linalg.solve(rest[:-1, :-1], rest[:-1, -1]), rest[:1, -1] / rest[0, 0])
            found.append([_error(inside, fit) for fit in fits])
        regression, mean = np.mean(found, axis=0).tolist()
        return regression, mean


def _error(sums: np.ndarray, fit: np.ndarray) -> float:
    """Mean squared error of a fit, from the sums of products of terms and target."""
    n, cross = len(fit), sums[: len(fit), -1]
    return float((sums[-1, -1] - 2 * fit @ cross + fit @ sums[:n, :n] @ fit) / sums[0, 0])


def statistics(case: Case, rng: np.random.Generator) -> dict[str, float]:
    """Statistics of one case; intensities are z-scores over the brain of each volume."""
    brain = (case.images != 0).any(-1)
    voxels = case.images[brain]
    label = case.labels[brain]
    mean, sd = voxels.mean(0), voxels.std(0)
    z = (voxels - mean) / sd
    voxel_ml = float(np.prod(case.spacing_mm)) / 1000 if case.spacing_mm else 1e-3

    row: dict[str, float] = {"brain ml": brain.sum() * voxel_ml}
    for c, name in enumerate(CLASSES[1:], 1):
        row[f"{name} ml"] = (label == c).sum() * voxel_ml
    for c, name in enumerate(CLASSES[1:], 1):
        row[f"slices with {name} %"] = 100 * (case.labels == c).any((1, 2)).mean()
    row["slices with tumour %"] = 100 * (case.labels > 0).any((1, 2)).mean()
    for m, modality in enumerate(MODALITIES):
        shown = DISPLAY_NAMES[modality]
        row[f"{shown} sd / mean"] = sd[m] / mean[m]
        for q in (1, 10, 50, 90, 99):
            row[f"{shown} normal z at {q} %"] = np.percentile(z[label == 0, m], q)
        inner = np.zeros(case.images.shape[:3], np.float32)
        inner[brain] = z[:, m]
        steps = [np.abs(np.diff(inner, axis=a)) for a in (1, 2)]
        both = [brain[:, 1:] & brain[:, :-1], brain[:, :, 1:] & brain[:, :, :-1]]
        row[f"{shown} mean step to the next voxel"] = float(
            np.mean([s[b].mean() for s, b in zip(steps, both, strict=True)])
        )
        for c, name in enumerate(("normal", *CLASSES[1:])):
            inside = z[label == c, m]
            row[f"{shown} {name} mean"] = inside.mean() if len(inside) > 100 else np.nan
            row[f"{shown} {name} sd"] = inside.std() if len(inside) > 100 else np.nan
    few = rng.choice(len(label), min(SAMPLE * 4, len(label)), replace=False)
    zf, lf = z[few], label[few]
    row["AUC FLAIR, tumour over normal"] = area_under_curve(zf[lf > 0, FLAIR], zf[lf == 0, FLAIR])
    row["AUC T2, tumour over normal"] = area_under_curve(zf[lf > 0, T2], zf[lf == 0, T2])
    row["AUC T1Gd, ET over NCR and ED"] = area_under_curve(
        zf[lf == 3, T1GD], zf[(lf == 1) | (lf == 2), T1GD]
    )
    row["AUC T1Gd, ET over normal"] = area_under_curve(zf[lf == 3, T1GD], zf[lf == 0, T1GD])
    row["AUC T1, ED over NCR"] = area_under_curve(zf[lf == 2, T1], zf[lf == 1, T1])
    row["AUC T2, NCR over ED"] = area_under_curve(zf[lf == 1, T2], zf[lf == 2, T2])
    volume = (case.images - mean) / sd * brain[..., None]
    row["R2 of FLAIR from T1, T1Gd"] = explained_flair(volume, brain, rng)
    tumour = case.labels > 0
    row["R2 of FLAIR from T1, T1Gd in tumour"] = explained_flair(volume, tumour, rng)
    return row


def summarise(
    cases: Iterable[Case], regression: LeaveOneOutRegression
) -> tuple[dict[str, tuple[float, float]], float]:
    """(mean and standard deviation of each statistic over cases, seconds to read a case).

    Adds every case to `regression`.
    """
    rows, spent, clock = [], 0.0, time.perf_counter()
    for case in cases:
        spent += time.perf_counter() - clock
        rows.append(statistics(case, np.random.default_rng(0)))
        regression.add_case(case)
        clock = time.perf_counter()
    table = {}
    for key in rows[0]:
        column = np.array([row[key] for row in rows])
        column = column[~np.isnan(column)]
        table[key] = (float(column.mean()), float(column.std())) if len(column) else (np.nan,) * 2
    return table, spent / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=16, help="phantom patients")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=Path, help="a folder of BraTS NIfTI cases")
    parser.add_argument("--store", type=Path, help="a store of real cases, normalised by volume")
    arguments = parser.parse_args()

    source = PhantomSource(arguments.patients, arguments.seed)
    regressions = {"phantom": LeaveOneOutRegression()}
    cases = (source.read(patient) for patient in source.patients())
    phantom, seconds = summarise(cases, regressions["phantom"])
    real: dict[str, tuple[float, float]] = {}
    if arguments.real:
        files = sorted(path for path in arguments.real.rglob("*") if path.is_file())
        folder = NiftiSource(arguments.real, files)
        regressions["real"] = LeaveOneOutRegression()
        cases = (folder.read(patient) for patient in folder.patients())
        real, _ = summarise(cases, regressions["real"])
    if arguments.store:
        regressions["store"] = LeaveOneOutRegression()
        regressions["store"].add_store(Store.open(arguments.store))
    print(
        f"{arguments.patients} phantom patients, seed {arguments.seed}, generated in "
        f"{seconds:.1f} s each"
    )
    print(f"{'mean over cases (sd over cases)':<42}{'phantom':>18}{'real' if real else '':>18}")
    for key, (mean, sd) in phantom.items():
        column = f"{real[key][0]:9.2f} ({real[key][1]:6.2f})" if real else ""
        print(f"{key:<42}{mean:9.2f} ({sd:6.2f}){column:>19}")
    print("\nFLAIR of unseen patients by nine numbers per voxel, over the brain, by volume")
    for which in ("tumour", "all"):
        for name, one in regressions.items():
            regression, mean = one.scores(which)
            print(
                f"  {name + ', ' + which + ' slices':<24} MSE {regression:.3f}, of the mean "
                f"{mean:.3f}: {1 - regression / mean:.0%} of the variance explained"
            )
    print(f"  {measure.where()}")


if __name__ == "__main__":
    main()
