"""Stores what the BraTS 2023 script says about volumes with several lesions: lesions.npz.

Run in an environment of its own, which the test suite does not need, with a copy of
https://github.com/rachitsaluja/BraTS-2023-Metrics (its eval.py alone is used); the real cases
are those under BRATS_REAL_DATA, of which numbers alone are kept:

    python3.11 -m venv golden && golden/bin/pip install numpy==1.26.4 scipy==1.11.4 \
        pandas==1.5.3 connected-components-3d==3.12.4 surface-distance==0.1 nibabel
    BRATS_REAL_DATA=DIR golden/bin/python tests/golden/make_lesions.py BraTS-2023-Metrics
"""

import os
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import surface_distance
from real_cases import pairs

SPACINGS_MM = ((1.0, 1.0, 1.0), (0.5, 1.0, 2.0))
COLUMNS = (
    "LesionWise_Score_Dice",
    "LesionWise_Score_HD95",
    "Num_TP",
    "Num_FN",
    "Num_FP",
    "Legacy_Dice",
    "Legacy_HD95",
    "Sensitivity",
    "Specificity",
)


def label_volumes() -> tuple[np.ndarray, np.ndarray]:
    """Five pairs [40, 44, 36] of scattered ellipsoids: found, missed, invented, too small."""
    rng = np.random.default_rng(5)
    grid = np.moveaxis(np.mgrid[:40, :44, :36], 0, -1)
    maps = np.zeros((2, 5, *grid.shape[:3]), np.uint8)
    for prediction, target in np.moveaxis(maps, 1, 0):
        for _ in range(7):
            centre, axes = rng.uniform(2, 36, 3), rng.uniform(1.0, 6.0, 3)
            shift, scale, where = rng.normal(0, 1.2, 3), rng.uniform(0.7, 1.3), rng.random()
            for labels, c, a, drawn in (
                (target, centre, axes, where > 0.2),
                (prediction, centre + shift, axes * scale, where < 0.75),
            ):
                if drawn:
                    r = np.sqrt((((grid - c) / a) ** 2).sum(-1))
                    for label, size in ((2, 1.0), (3, 0.75), (1, 0.45)):
                        labels[r < size] = label
    maps[0, 2][maps[0, 2] == 3] = 1  # a missed ET
    maps[1, 3][maps[1, 3] == 3] = 2  # an invented one
    maps[:, 4][maps[:, 4] == 3] = 2  # none in either
    return maps[0], maps[1]


def main(script: str) -> None:
    sys.path.insert(0, script)
    original = surface_distance.compute_surface_distances
    # The released package insists on the type that the script does not have.
    surface_distance.compute_surface_distances = lambda gt, pred, spacing: original(
        gt.astype(bool), pred.astype(bool), spacing
    )
    import eval as brats

    found = brats.get_LesionWiseScores

    def with_plain_ids(*args: object, **kwargs: object) -> list:
        # pandas 1.5 does not compare the arrays of component numbers in its cells.
        result = list(found(*args, **kwargs))
        result[4] = [(tuple(ids), *rest) for ids, *rest in result[4]]
        return result

    brats.get_LesionWiseScores = with_plain_ids

    def scores(
        prediction: np.ndarray, target: np.ndarray, spacing: tuple[float, ...]
    ) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for name, labels in (("prediction", prediction), ("target", target)):
                paths.append(f"{folder}/{name}.nii.gz")
                nibabel.save(nibabel.Nifti1Image(labels, np.diag([*spacing, 1.0])), paths[-1])
            table = brats.get_LesionWiseResults(*paths, "BraTS-GLI").set_index("Labels")
        return table.loc[["WT", "TC", "ET"], list(COLUMNS)].to_numpy(float)

    prediction, target = label_volumes()
    out = {"prediction": prediction, "target": target, "spacings_mm": np.array(SPACINGS_MM)}
    out["columns"] = np.array(COLUMNS)
    out["values"] = np.array(
        [[scores(p, t, s) for p, t in zip(prediction, target, strict=True)] for s in SPACINGS_MM]
    )  # [spacing, pair, region, column]
    cases = []
    for case, p, t in pairs(os.environ["BRATS_REAL_DATA"]):
        cases.append(case)
        out[f"values_{case}"] = scores(p, t, (1.0, 1.0, 1.0))
        print(case, out[f"values_{case}"][:, :5].round(3).tolist(), flush=True)
    out["cases"] = np.array(cases)
    np.savez_compressed(Path(__file__).with_name("lesions.npz"), **out)


if __name__ == "__main__":
    main(sys.argv[1])
