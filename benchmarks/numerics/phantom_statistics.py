"""Compares phantom with real cases: intensities per tissue, contrasts, sizes, difficulty.

    python benchmarks/numerics/phantom_statistics.py --patients=16 --real=DIR

Prints one table of aggregate numbers; without --real it has the phantom's column only. Takes about
5 s per patient on one core.
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


def summarise(cases: Iterable[Case]) -> tuple[dict[str, tuple[float, float]], float]:
    """(mean and standard deviation of each statistic over cases, seconds to read a case)."""
    rows, spent, clock = [], 0.0, time.perf_counter()
    for case in cases:
        spent += time.perf_counter() - clock
        rows.append(statistics(case, np.random.default_rng(0)))
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
    arguments = parser.parse_args()

    source = PhantomSource(arguments.patients, arguments.seed)
    phantom, seconds = summarise(source.read(patient) for patient in source.patients())
    real: dict[str, tuple[float, float]] = {}
    if arguments.real:
        files = sorted(path for path in arguments.real.rglob("*") if path.is_file())
        folder = NiftiSource(arguments.real, files)
        real, _ = summarise(folder.read(patient) for patient in folder.patients())
    print(
        f"{arguments.patients} phantom patients, seed {arguments.seed}, generated in "
        f"{seconds:.1f} s each"
    )
    print(f"{'mean over cases (sd over cases)':<42}{'phantom':>18}{'real' if real else '':>18}")
    for key, (mean, sd) in phantom.items():
        column = f"{real[key][0]:9.2f} ({real[key][1]:6.2f})" if real else ""
        print(f"{key:<42}{mean:9.2f} ({sd:6.2f}){column:>19}")
    print(f"  {measure.where()}")


if __name__ == "__main__":
    main()
