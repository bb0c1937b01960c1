"""The readers that `fuzz.py` tries, and the folders that they read."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import brats_files  # noqa: E402
import document_examples  # noqa: E402
import prediction_examples  # noqa: E402
from report_examples import write_run  # noqa: E402

from brats_jax.data.audit import Audit  # noqa: E402
from brats_jax.data.scans.case_files import group_by_case  # noqa: E402
from brats_jax.data.scans.scan import read_scan  # noqa: E402
from brats_jax.data.scans.truth import read_truth  # noqa: E402
from brats_jax.data.sources.detect import open_source  # noqa: E402
from brats_jax.data.splits import Splits  # noqa: E402
from brats_jax.data.store.reader import Store, verify  # noqa: E402
from brats_jax.errors import BratsError  # noqa: E402
from brats_jax.evaluation.panel_slices import PanelSlices  # noqa: E402
from brats_jax.evaluation.tallies import PretrainingTally, SegmentationTally  # noqa: E402
from brats_jax.experiments.checks import check_settings  # noqa: E402
from brats_jax.reporting.read_runs import discover  # noqa: E402
from brats_jax.runs.axes import Axes  # noqa: E402
from brats_jax.runs.documents import (  # noqa: E402
    CellRecord,
    Evaluation,
    GridConfig,
    RunConfig,
    StageResult,
)
from brats_jax.runs.metrics_jsonl import read_metrics  # noqa: E402
from brats_jax.runs.settings import Settings  # noqa: E402
from brats_jax.runtime.document import Sealed, read_document  # noqa: E402
from configs import base  # noqa: E402


@dataclass(frozen=True)
class Reader:
    """One reader of the program.

    Attributes:
      name: for the table.
      files: the files to mutate.
      read: reads them; returns a value that is compared.
      kind: of the edits, as in `mutations.BY_KIND`; '' for the file's ending.
      guarded: whether a checksum or a rule of the format tells damage of the bytes from data. In
        other files a changed digit or letter is a valid value, and no reader can tell.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[], Any]
    kind: str = ""
    guarded: bool = False


def make_readers(folder: Path, *, trained: bool = True) -> list[Reader]:
    """Writes the example files into `folder`; returns the readers of them.

    Args:
      folder: the folder.
      trained: also checkpoints, predictions and exports, which take ten seconds to make.
    """
    more = _readers_of_checkpoints(folder / "trained") if trained else []
    return [
        *_readers_of_sources(folder / "sources"),
        *_readers_of_stores(folder / "stores"),
        *_readers_of_runs(folder / "runs"),
        *_readers_of_settings(folder / "settings"),
        *more,
    ]


def _readers_of_sources(folder: Path) -> list[Reader]:
    shape = (24, 20, 8)
    volumes = brats_files.make_case(0, shape)
    paths = brats_files.write_nifti_case(folder / "nifti", "BraTS2021_00001", volumes)
    slices = brats_files.write_kaggle(folder / "kaggle", 1, volumes)
    table = brats_files.write_kaggle_tables(folder / "kaggle", {1: volumes})
    inner = tuple((folder / "kaggle" / "BraTS2020_training_data").rglob("*.csv"))
    case = next(iter(group_by_case(sorted(paths.values()), labels=False).values()))

    def scan() -> Any:
        read = read_scan(case, ("t1", "t1gd", "t2", "flair"))
        return read.images, read.grid.affine, read_truth(read)

    def source(root: Path) -> Any:
        opened = open_source(str(root))
        found = [opened.read(name) for name in opened.patients()]
        return [(c.images, c.labels, c.slice_numbers.tolist()) for c in found]

    nifti = tuple(paths.values())
    return [
        Reader("NIfTI images, predict", nifti, scan, guarded=True),
        Reader("NIfTI cases, prepare", nifti, partial(source, folder / "nifti"), guarded=True),
        Reader("Kaggle slices (HDF5)", tuple(slices), partial(source, folder / "kaggle")),
        Reader("Kaggle tables (CSV)", (table, *inner), partial(source, folder / "kaggle")),
        *_readers_of_data_sets(folder / "sets", volumes, source),
    ]


def _readers_of_data_sets(
    folder: Path, volumes: dict[str, np.ndarray], read: Callable[[Path], Any]
) -> list[Reader]:
    slices = brats_files.write_lgg(folder / "lgg", "TCGA_CS_4941_19960909")
    readers = [Reader("LGG slices (TIFF)", tuple(slices.values()), partial(read, folder / "lgg"))]
    for name, document in (("msd", brats_files.MSD_JSON), ("nnunet", brats_files.NNUNET_JSON)):
        root = folder / name
        described = brats_files.write_dataset_json(root, document)
        getattr(brats_files, f"write_{name}_case")(root, "A", volumes)
        files = tuple(path for path in root.rglob("*.nii.gz") if not path.name.startswith("."))
        readers += [
            Reader(f"{name}: images and labels", files, partial(read, root), guarded=True),
            Reader(f"{name}: dataset.json", (described,), partial(read, root)),
        ]
    return readers


def _readers_of_stores(folder: Path) -> list[Reader]:
    brats_files.write_nifti_case(folder / "in", "BraTS2021_00001", brats_files.make_case(0))
    brats_files.write_nifti_case(folder / "in", "BraTS2021_00002", brats_files.make_case(1))
    from brats_jax.data.store.prepare import prepare

    path = folder / "store"
    prepare(str(folder / "in"), path, workers=1)

    def read() -> Any:
        store = Store.open(path)
        found = store.read(range(store.num_slices))
        return found, store.patients, [store.case(p).spacing_mm for p in store.patients]

    def verified() -> Any:
        verify(path)
        return read()

    cases = tuple((path / "cases").iterdir())
    return [
        Reader("store: manifest.json", (path / "manifest.json",), read),
        Reader("store: index.npz", (path / "index.npz",), read, guarded=True),
        Reader("store: records of cases", tuple(p for p in cases if p.suffix == ".json"), read),
        Reader("store: arrays, --verify", cases, verified, guarded=True),
    ]


def _readers_of_runs(folder: Path) -> list[Reader]:
    run = write_run(folder / "run", folds=(0,))
    fold = run / "fold_0"
    grid = folder / "grid"
    document_examples.grid_of(Axes(folds=(0,))).write(grid / "grid.json")
    record = grid / "cells" / "cell.json"
    document_examples.record_of("cell").write(record)

    def document(path: Path, kind: Any) -> Reader:
        return Reader(path.name, (path,), partial(_sealed, path, kind), guarded=True)

    arrays = tuple(fold.glob("tally_*.npz"))
    panel = fold / "panels" / "segmentation.npz"
    log = fold / "segment" / "metrics.jsonl"

    def tally(path: Path) -> Any:
        kind = PretrainingTally if "pretrain" in path.name else SegmentationTally
        return kind.load(path)

    def panels() -> Any:
        found = PanelSlices.load(panel)
        return found.patients, found.numbers, dict(found.images), found.truth, found.prediction

    whole = tuple(p for p in run.rglob("*.json"))
    return [
        document(run / "config.json", RunConfig),
        document(run / "splits.json", Splits),
        document(fold / "evaluation.json", Evaluation),
        document(fold / "audit.json", Audit),
        document(fold / "segment" / "complete.json", StageResult),
        document(grid / "grid.json", GridConfig),
        document(record, CellRecord),
        *(Reader(path.name, (path,), partial(tally, path), guarded=True) for path in arrays),
        Reader("panels/segmentation.npz", (panel,), panels, guarded=True),
        Reader("metrics.jsonl", (log,), partial(read_metrics, log), "jsonl"),
        Reader("a run for the report", (*whole, log), partial(_study, run)),
    ]


def _sealed(path: Path, kind: type[Sealed]) -> dict[str, Any]:
    """The content of a document, without its digest."""
    content = read_document(path, kind).to_json()
    content.pop(kind.SEAL, None)
    return content


def _study(run: Path) -> Any:
    """What the report reads of a run; it prints the files that cannot be read."""
    study = discover(run)
    if study.problems:
        raise BratsError(study.problems[0])
    folds = {n: fold for r in study.runs for n, fold in r.folds.items()}
    curves = [s.curve("train") for f in folds.values() for s in f.stages.values()]
    return curves, [repr(f.evaluation) for f in folds.values()]


def _readers_of_checkpoints(folder: Path) -> list[Reader]:
    from brats_jax.inference.trained_run import open_run
    from brats_jax.runtime import devices

    with prediction_examples.shallow():
        prediction_examples.make_run(brats_files, folder, normalisation="volume")
    run = folder / "run"
    best = run / "fold_0" / "segment" / "best"

    def opened() -> Any:
        with prediction_examples.shallow():
            trained = open_run(run / "fold_0", "segment", devices.data_mesh())
        return trained.hash, trained.task.inputs

    files = tuple(sorted(p for p in best.rglob("*") if p.is_file()))
    meta = tuple(p for p in files if "meta" in p.parts)
    return [
        Reader("checkpoint: description", meta, opened, "json"),
        Reader("checkpoint: all files", files, opened, guarded=True),
        *_readers_of_outputs(folder),
    ]


def _readers_of_outputs(folder: Path) -> list[Reader]:
    from brats_jax import inference
    from brats_jax.inference.sidecars import table_of, write_table
    from brats_jax.inference.stablehlo import write as write_export
    from brats_jax.runs.documents.export import ExportDocument
    from brats_jax.runs.folder import PredictionFolder
    from brats_jax.runs.sidecars import SegmentationSidecar
    from brats_jax.training.encoder_weights import read_safetensors

    out, exported, name = folder / "out", folder / "exported", prediction_examples.CASES[0]
    with prediction_examples.shallow():
        model = inference.load(folder / "run" / "fold_0")
        prediction_examples.run_on(model, folder / "cases" / name, out)
        write_export(model.trained, exported, slice_shape=None)
    sidecar = out / f"{name}_seg.json"
    weights, program = exported / "segment_fold_0.safetensors", exported / "segment.json"
    described = partial(_sealed, sidecar, SegmentationSidecar)
    exported_as = partial(_sealed, program, ExportDocument)

    def table() -> Any:
        folder = PredictionFolder(out)
        if kept := write_table(folder):
            raise BratsError(kept)
        return table_of(folder)

    return [
        Reader("CASE_seg.json", (sidecar,), described, guarded=True),
        Reader("volumes.csv from CASE_seg.json", (sidecar,), table, guarded=True),
        Reader("exported segment.json", (program,), exported_as, guarded=True),
        Reader("weights (.safetensors)", (weights,), lambda: read_safetensors(weights)),
    ]


def _readers_of_settings(folder: Path) -> list[Reader]:
    folder.mkdir(parents=True)
    path = folder / "settings.json"
    config = base.get_config()
    config.data.store = "store"
    path.write_text(config.to_json_best_effort())

    def parsed() -> Any:
        settings = Settings.from_json(_document(path))
        check_settings(settings)
        return json.dumps(dict(settings.document), sort_keys=True)

    return [Reader("settings and overrides", (path,), parsed, "settings")]


def _document(path: Path) -> dict[str, Any]:
    from brats_jax.runtime.files import read_json

    return read_json(path, "give other settings")


def fingerprint(value: Any) -> Any:
    """A value in a form that `==` compares: arrays as bytes, objects by their fields."""
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, dict):
        return {key: fingerprint(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [fingerprint(item) for item in value]
    if isinstance(value, list | tuple):
        return [fingerprint(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: fingerprint(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, float) and value != value:
        return "nan"
    return value
