"""What the evaluation of a trained model writes of real patients, against plain SciPy and NumPy.

The run is whole: prepared, trained for a moment, restored, evaluated. The predictions of its own
test patient are made once more, those of the other cases noted as they go to be scored; they are
put back into their volumes here, and scored by references that share no code with the program.
"""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from processes import ROOT
from scipy import ndimage, spatial

from brats_jax.data.store.reader import Store

REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
DIAGONAL_MM = math.sqrt(240**2 + 240**2 + 155**2)

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="no real cases"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, compiled_programs) -> Path:
    """What real_run.py leaves: a run that trains on four of the six cases."""
    folder = tmp_path_factory.mktemp("real")
    done = subprocess.run(
        [sys.executable, "-m", "tests.real_run", folder, compiled_programs],
        cwd=ROOT, env={**os.environ, "XLA_FLAGS": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def reference(p: np.ndarray, t: np.ndarray) -> tuple[float, float, float]:
    """(Dice, HD95, ASD) of two masks, 1 mm voxels: BraTS 2020's where a mask is empty."""
    if not p.any() or not t.any():
        alike = p.any() == t.any()
        return float(alike), 0.0 if alike else DIAGONAL_MM, math.nan
    # Erosion takes what is beyond the array for outside, as it is here around the tumour.
    box = ndimage.find_objects((p | t).astype(np.int8))[0]
    p, t = p[box], t[box]
    edges = [np.argwhere(m & ~ndimage.binary_erosion(m)) for m in (p, t)]
    far = [spatial.cKDTree(b).query(a)[0] for a, b in (edges, edges[::-1])]
    both = np.concatenate(far)
    dice = 2 * np.count_nonzero(p & t) / (np.count_nonzero(p) + np.count_nonzero(t))
    return dice, float(np.percentile(both, 95)), float(both.mean())


def written_patients(folder: Path) -> dict[str, dict[str, str]]:
    """The rows that an evaluation has written of patients, by name."""
    with (folder / "evaluation_segment_patients.csv").open() as file:
        return {row["patient"]: row for row in csv.DictReader(file)}


def test_patients_are_scored_as_by_independent_references(folder) -> None:
    """WT, TC and ET of all six cases to 1e-3, those without ET among them."""
    own = written_patients(folder / "run" / "fold_2")
    written = own | written_patients(folder / "other")
    assert len(own) == 1 and len(written) == 6
    store, predicted = Store.open(folder / "store"), np.load(folder / "predicted.npy")
    kinds = set()
    for patient, row in written.items():
        prediction = np.moveaxis(predicted[store.slices_of(patient)], 0, -1)
        path = next(Path(os.environ["BRATS_REAL_DATA"]).rglob(f"{patient}_seg.nii.gz"))
        truth = np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
        truth[truth == 4] = 3
        for name, labels in REGIONS.items():
            p, t = np.isin(prediction, labels), np.isin(truth, labels)
            expected = reference(p, t)
            columns = ("dice (brats2020)", "hd95_mm (brats2020)", "asd_mm")
            told = [float(row[f"{name} {column}"] or "nan") for column in columns]
            np.testing.assert_allclose(told, expected, atol=1e-3, rtol=0, err_msg=patient)
            kinds.add((name, bool(p.any()), bool(t.any()), bool(0.3 < expected[0] < 1)))
    # So short a training finds parts of every region: there are distances to compare.
    assert {("WT", True, True, True), ("TC", True, True, True)} <= kinds
    assert any(kind[:3] == ("ET", True, True) for kind in kinds)
    assert any(name == "ET" and not there for name, _, there, _ in kinds)
