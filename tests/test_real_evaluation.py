"""What the evaluation of a trained model writes of real patients, against plain SciPy and NumPy.

The run is whole: prepared, trained for a moment, restored, evaluated. The predictions of its own
test patient are made once more, those of the other cases noted as they go to be scored; they are
put back into their volumes here, and scored by references that share no code with the program.
"""

import csv
import math
import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import prediction_examples as examples
import pytest
from scipy import ndimage, spatial

from brats_jax import evaluate, experiment, results, scoring, settings
from brats_jax.data.preparation import prepare
from brats_jax.data.store import Store
from brats_jax.devices import data_mesh

REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
DIAGONAL_MM = math.sqrt(240**2 + 240**2 + 155**2)

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="no real cases"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory, compiled_programs) -> Iterator[tuple[evaluate.Restored, Store, Path]]:
    """The best model of a run that trains on four of the six cases, their store, the fold."""
    with examples.shallow():
        folder = tmp_path_factory.mktemp("real")
        prepare(os.environ["BRATS_REAL_DATA"], folder / "store")
        config = runpy.run_path(str(Path(__file__).with_name("tiny_config.py")))["get_config"]()
        config.ssl = False
        config.data.store = str(folder / "store")
        config.compilation_cache = str(compiled_programs)
        config.data.num_folds = 5
        config.data.split_seed = 8  # trains on the case with most ET
        config.folds = (2,)
        config.data.patch_size = 64
        config.optim.decay_every_epochs = 1
        config.train.save_every_steps = 1000
        config.segment.epochs = 2
        config.segment.steps_per_epoch = 150
        for name in config.segment.augmentation:
            config.segment.augmentation[name] = False
        config.segment.tumour_probability = 1.0
        config.evaluation.panels = 0
        experiment.run(config, folder / "run")
        task = settings.segmentation(config)
        fold = folder / "run" / "fold_2"
        restored = evaluate.Restored(task, fold / "segment", data_mesh())
        yield restored, Store.open(folder / "store"), fold


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


def test_patients_are_scored_as_by_independent_references(model, tmp_path, monkeypatch) -> None:
    """WT, TC and ET of all six cases to 1e-3, those without ET among them."""
    restored, store, fold = model
    written = written_patients(fold)  # the run's own test patient, and now the others
    (own,) = written
    predicted = np.zeros((store.num_slices, 240, 240), np.uint8)
    predicted[store.slices_of(own)] = evaluate.predict_slices(
        restored, store, np.array(store.slices_of(own))
    )
    slices = np.concatenate([store.slices_of(p) for p in store.patients if p != own])
    tally_segmentation = scoring.tally_segmentation

    def noting(batches, *arguments):
        def noted():
            done = 0
            for labels, truth, valid in batches:
                rows = slices[done : done + int(valid.sum())]
                predicted[rows] = np.asarray(labels)[valid]
                done += len(rows)
                yield labels, truth, valid

        return tally_segmentation(noted(), *arguments)

    monkeypatch.setattr(scoring, "tally_segmentation", noting)
    tally, _ = scoring.score(restored, store, slices, 32, 1.0, "the other cases")
    results.write_unit_tables(tmp_path, "segment", tally)
    written |= written_patients(tmp_path)
    assert len(written) == 6
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
