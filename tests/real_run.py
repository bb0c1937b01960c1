"""A whole run on the real cases, and its predictions: python -m tests.real_run FOLDER CACHE.

In a process of its own, so that XLA optimises as it does for a user: here running is what takes
the time. Leaves FOLDER/{store,run}, other/ with the tables of all cases but the run's own test
patient, and predicted.npy, uint8[slices of the store, 240, 240].
"""

import os
import runpy
import sys
from pathlib import Path

import numpy as np

from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.evaluation import rows, scoring
from brats_jax.evaluation.conventions import scores_of
from brats_jax.evaluation.slices import describe_slices, predict_slices, voxel_spacing_mm
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, segmentation
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.folder import FoldFolder
from brats_jax.runtime.devices import data_mesh


def main(folder: Path, cache: str) -> None:
    prepare(os.environ["BRATS_REAL_DATA"], folder / "store")
    # It makes the networks shallow, too.
    config = runpy.run_path(str(Path(__file__).with_name("tiny_config.py")))["get_config"]()
    config.ssl = False
    config.data.store = str(folder / "store")
    config.compilation_cache = cache
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

    store, fold = Store.open(folder / "store"), folder / "run" / "fold_2"
    network = RestoredNetwork(
        segmentation(parse(config)), FoldFolder(fold).stage("segment"), data_mesh()
    )
    tables = (fold / "evaluation_segment_patients.csv").read_text()
    (own,) = (patient for patient in store.patients if patient in tables)
    predicted = np.zeros((store.num_slices, 240, 240), np.uint8)
    for patient in store.patients:
        slices = np.array(store.slices_of(patient))
        predicted[slices] = predict_slices(network, store, slices)

    others = np.concatenate([store.slices_of(p) for p in store.patients if p != own])
    _, truth = store.read(others)
    described = describe_slices(store, others)
    spacing = np.float32([voxel_spacing_mm(store, p) for p in described.patients])
    batches = (
        (predicted[others[part]], truth[part], np.ones(len(part), bool))
        for part in np.array_split(np.arange(len(others)), len(others) // 31)
    )
    tally = scoring.tally_segmentation(batches, described, store.slice_shape, spacing, 1.0)
    (folder / "other").mkdir()
    rows.write_unit_tables(FoldFolder(folder / "other"), "segment", tally, scores_of(tally))
    np.save(folder / "predicted.npy", predicted)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
