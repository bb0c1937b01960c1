"""A run folder to predict with or export, as a training leaves it, and cases. Not tests."""

import contextlib
import runpy
from pathlib import Path
from types import SimpleNamespace

import jax
import nibabel as nib
import numpy as np
import pytest
from ml_collections import ConfigDict

from brats_jax import models
from brats_jax.data.modalities import Synthesis
from brats_jax.data.planes import PLANES
from brats_jax.data.splits import load_or_make_splits
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.experiments.config import parse, pretraining, segmentation, split_options
from brats_jax.experiments.continuation import describe_store, versions
from brats_jax.inference import cases
from brats_jax.inference.inputs import find_cases
from brats_jax.inference.output_names import OutputOptions
from brats_jax.inference.synthesis import Synthesiser
from brats_jax.models import resnet
from brats_jax.runs.checkpoints import CheckpointMeta, Checkpoints
from brats_jax.runs.documents import RunConfig, StageResult, TrainingFacts
from brats_jax.runs.folder import RunFolder, StageFolder

SHAPE = (40, 32, 6)  # no axis is like another; the first and the last slice are blank
CASES = ("BraTS2021_00001", "BraTS2021_00002", "BraTS2021_00003")
INPUTS = ("t1", "t1gd", "t2", "flair")
SEGMENT_INPUTS = ("t1gd", "flair", "t2")  # a position is looked up, never assumed


@contextlib.contextmanager
def shallow():
    """One block a stage instead of 3, 4, 6, 3: compiling is what takes the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "BLOCKS", (1, 1, 1, 1))
        yield


def write_cases(brats_files, folder: Path, **options) -> dict[str, dict[str, np.ndarray]]:
    """Writes all cases as NIfTI; returns their volumes [x, y, z] by name."""
    made = {}
    for seed, name in enumerate(CASES):
        made[name] = brats_files.make_case(seed, SHAPE)
        brats_files.write_nifti_case(folder, name, made[name], **options)
    return made


def make_run(brats_files, folder: Path, normalisation: str) -> Path:
    """FOLDER/{cases,store,run}, the run with two folds of random weights; returns FOLDER.

    Random weights tell classes apart at random, which few steps of training would not.
    """
    write_cases(brats_files, folder / "cases")
    prepare(str(folder / "cases"), folder / "store", normalisation=normalisation, workers=1)
    write_run(folder / "run", Store.open(folder / "store"))
    return folder


def make_plane_runs(brats_files, folder: Path) -> Path:
    """FOLDER/cases, and of each plane FOLDER/store_PLANE and the run FOLDER/PLANE.

    A run has one fold of a cross-validation, with random weights of its own.
    """
    write_cases(brats_files, folder / "cases")
    for number, plane in enumerate(PLANES, start=10):
        path, cases = folder / f"store_{plane}", str(folder / "cases")
        prepare(cases, path, normalisation="volume", plane=plane, workers=1)
        fold = {"data__test_fraction": 0.0, "folds": (0,)}
        write_run(folder / plane, Store.open(path), weights=number, **fold)
    return folder


def write_run(run: Path, store: Store, *, weights: int = 0, **changes) -> Path:
    """The run folder alone; returns it. Without patients in the store there are no splits.

    `changes` of the settings: segment__outputs="regions" and so on. Runs with other `weights`
    have others.
    """
    config = tiny_config(store)
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    settings = parse(config)
    document = RunConfig(dict(settings.document), describe_store(store), versions())
    document.write(RunFolder(run).config_json)
    if hasattr(store, "patients"):
        load_or_make_splits(run / "splits.json", store, **split_options(settings))
    for fold in config.folds:
        for stage, task in (
            ("pretrain", pretraining(settings)),
            ("segment", segmentation(settings)),
        ):
            save(RunFolder(run).fold(fold).stage(stage), task, seed=weights + fold, store=store)
    return run


def tiny_config(store: Store) -> ConfigDict:
    """The settings of the run."""
    with shallow():
        config = runpy.run_path(str(Path(__file__).with_name("tiny_config.py")))["get_config"]()
    config.data.store = str(store.path)
    config.data.num_folds = 2
    config.folds = (0, 1)
    config.segment.inputs = SEGMENT_INPUTS
    return config


def network(task, seed: int):
    """(graph, params, stats) of random weights, statistics among them."""
    graph, params, stats = models.split(task.build(seed))
    rng = np.random.default_rng(seed)
    stats = jax.tree.map_with_path(
        lambda path, s: s + (rng.normal(0, 0.1, s.shape) if "mean" in str(path) else 0.5), stats
    )
    return graph, params, stats


def save(stage: StageFolder, task, *, seed: int, store: Store, complete: bool = True) -> None:
    """Saves a stage's best checkpoint like an experiment."""
    _, params, stats = network(task, seed)
    meta = CheckpointMeta(
        model=task.describe(),
        step=7,
        epoch=1,
        value=0.5,
        record=TrainingFacts(
            split_by="patient",
            leaks=False,
            normalisation=store.manifest.normalisation,
            slice_shape=tuple(store.slice_shape),
            store=store.fingerprint,
            version="0.1.0",
            plane=getattr(store, "plane", "axial"),
        ),
    )
    with contextlib.closing(Checkpoints(stage.best)) as saved:
        saved.save(7, {"params": params, "stats": stats}, meta)
    if complete:
        StageResult(task.metric, 0.5, best_step=7, steps=7, seconds=1.0).write(stage.complete_json)


def run_on(model, source, target, **options):
    """(outcome, {case: labels image}) of all cases in a folder."""
    target.mkdir(exist_ok=True)
    resampled = options.pop("resampled", False)
    outcome = cases.predict_cases(
        model, find_cases(source), target, OutputOptions(**options), resampled=resampled
    )
    return outcome, {name: nib.load(path) for name, path in outcome.written.items()}


def lps(image):
    """Voxels of a nibabel image in LPS axes, by nibabel's own means."""
    ras = nib.as_closest_canonical(image)
    return np.asarray(ras.dataobj)[::-1, ::-1]


def synthesiser(predicted=None) -> Synthesiser:
    """A synthesiser of FLAIR from T1 and T1Gd, which predicts the array `predicted`."""
    ensemble = SimpleNamespace(reconstruct=lambda images, progress=None: predicted)
    return Synthesiser(ensemble, Synthesis(("t1", "t1gd"), ("flair",)), "0123456789abcdef")
