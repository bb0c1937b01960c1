"""The layout of run, grid, report and prediction folders: a property for every path.

`export_folder` and `documents.weights` have the layouts of exports.

    RUN/config.json                      the settings, the store and the versions at the start
    RUN/splits.json                      the patients of training, validation and test; frozen
    RUN/summary.json, summary.csv        scores over the folds
    RUN/subsets.json, subsets.csv        scores from every subset of the modalities, over the folds
    RUN/written.json                     hashes of these four files
    RUN/cleaning.json                    sizes of the cleaning of labels, fitted on patients
    RUN/cleaning_PLANES[_flips].json     the same for another average over planes and flips
    RUN/lock                             held while summaries over the folds are written
    RUN/fold_K/lock                      held while a process works on the fold
    RUN/fold_K/audit.json                overlap between the three sets of the fold
    RUN/fold_K/pretraining.json          the origin of an encoder from another run
    RUN/fold_K/STAGE/                    STAGE is pretrain or segment:
        best/, last/                     checkpoints
        training.json                    numbers of patients, slices and steps
        metrics.jsonl, tensorboard/      the log
        tracking.json                    the id of the stage in experiment trackers, if one is on
        complete.json                    the result, once the stage is trained to the end
    RUN/fold_K/tally_STAGE.npz           statistics of every test slice and volume
    RUN/fold_K/evaluation.json           scores on the test set
    RUN/fold_K/evaluation_STAGE.csv, evaluation_STAGE_patients.csv
    RUN/fold_K/subsets.json, subsets.csv scores from every subset of the modalities (an option)
    RUN/fold_K/panels/                   pictures of test slices
    RUN/fold_K/written.json              hashes of the tables and pictures
    RUN/fold_K/calibration.json          the temperature of the segmentation

    GRID/grid.json                       settings, store and versions at the start; the axes
    GRID/lock                            held while grid.json is changed
    GRID/pretraining/seed_S/             a run folder with the first stage of every fold
    GRID/runs/NAME/                      a run folder of each loss, start, share of labels and seed
    GRID/cells/CELL.json                 attempts, seconds, and how the last attempt ended
    GRID/cells/CELL.lock                 held while a process of the grid works on the cell
    GRID/logs/CELL.log                   the output of the cell's process

With config.folds=all a run has the folder fold_all instead of folds, without an evaluation.
A report stands in a run, a grid or a folder of runs as report.html, with its tables in report/.
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from brats_jax.data.folds import ALL, ALL_NAME
from brats_jax.data.planes import PLANES
from brats_jax.runs.documents import StageResult
from brats_jax.runs.documents.weights import WeightsFolder
from brats_jax.runtime.document import read_if_readable

STAGES = ("pretrain", "segment")  # in the order in which they run
# The stage whose network a user asks for by --task.
STAGE_OF_TASK = {"segment": "segment", "reconstruct": "pretrain"}

_FOLD = "fold_"
_TABLE_FILES, _FIGURE_FILES = ("csv", "md", "tex"), ("svg", "jpg", "png")  # of a report
_PRETRAINING, _RUNS = "pretraining", "runs"  # folders of a grid


@dataclass(frozen=True)
class StageFolder:
    """The folder of one training stage of a fold."""

    path: Path

    @property
    def name(self) -> str:
        """'pretrain' or 'segment'."""
        return self.path.name

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation score: weights alone."""
        return self.path / "best"

    @property
    def last(self) -> Path:
        """The newest checkpoint: the whole training state."""
        return self.path / "last"

    @property
    def training_json(self) -> Path:
        return self.path / "training.json"

    @property
    def complete_json(self) -> Path:
        return self.path / "complete.json"

    @property
    def metrics_jsonl(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def tracking_json(self) -> Path:
        return self.path / "tracking.json"

    @property
    def is_complete(self) -> bool:
        """Whether the stage is trained to the end: an empty complete.json does not count."""
        return read_if_readable(self.complete_json, StageResult) is not None


@dataclass(frozen=True)
class FoldFolder:
    """The folder of one fold of a run."""

    path: Path

    @property
    def number(self) -> int:
        number = fold_number(self.path.name)
        assert number is not None, self.path
        return number

    @property
    def run(self) -> "RunFolder":
        """The run that the fold belongs to."""
        return RunFolder(self.path.parent)

    def stage(self, name: str) -> StageFolder:
        """The folder of the stage 'pretrain' or 'segment'."""
        return StageFolder(self.path / name)

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def audit_json(self) -> Path:
        return self.path / "audit.json"

    @property
    def pretraining_json(self) -> Path:
        return self.path / "pretraining.json"

    @property
    def evaluation_json(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def calibration_json(self) -> Path:
        return self.path / "calibration.json"

    def tally(self, stage: str) -> Path:
        """The statistics of every test slice and volume."""
        return self.path / f"tally_{stage}.npz"

    def slices_csv(self, stage: str) -> Path:
        """The scores of every test slice."""
        return self.path / f"evaluation_{stage}.csv"

    def patients_csv(self, stage: str) -> Path:
        """The scores of every test volume."""
        return self.path / f"evaluation_{stage}_patients.csv"

    @property
    def panels(self) -> Path:
        """The folder of the pictures of test slices."""
        return self.path / "panels"

    @property
    def ledger_json(self) -> Path:
        """The hashes of the tables and pictures of the evaluation."""
        return self.path / "written.json"

    @property
    def reconstruction_png(self) -> Path:
        return self.panels / "reconstruction.png"

    @property
    def segmentation_png(self) -> Path:
        return self.panels / "segmentation.png"

    @property
    def segmentation_npz(self) -> Path:
        """The slices of segmentation.png as arrays."""
        return self.panels / "segmentation.npz"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run."""

    path: Path

    @property
    def config_json(self) -> Path:
        return self.path / "config.json"

    @property
    def splits_json(self) -> Path:
        return self.path / "splits.json"

    @property
    def summary_json(self) -> Path:
        return self.path / "summary.json"

    @property
    def summary_csv(self) -> Path:
        return self.path / "summary.csv"

    @property
    def lock(self) -> Path:
        """Held while the summary is written."""
        return self.path / "lock"

    @property
    def ledger_json(self) -> Path:
        """The hashes of the summary."""
        return self.path / "written.json"

    @property
    def cleaning_json(self) -> Path:
        """The sizes of the cleaning of labels that were fitted on held-out patients."""
        return self.path / "cleaning.json"

    def cleaning_of(self, planes: Collection[str], *, tta: bool) -> Path:
        """The file of sizes for another average than that of `config.evaluation`.

        Args:
          planes: of the slices that are averaged over, at least one.
          tta: whether predictions are averaged over flips.
        """
        words = [name for name in PLANES if name in planes] + ["flips"] * tta
        return self.path / f"cleaning_{'_'.join(words)}.json"

    def cleanings(self) -> list[Path]:
        """The files of fitted sizes that are there, `cleaning_json` first."""
        paths = [self.cleaning_json] + [
            self.cleaning_of(planes, tta=tta)
            for count in range(1, len(PLANES) + 1)
            for planes in itertools.combinations(PLANES, count)
            for tta in (False, True)
        ]
        return [path for path in paths if path.exists()]

    @property
    def exists(self) -> bool:
        """Whether a run was started in this folder; exported weights have a config.json, too."""
        return self.config_json.is_file() and not WeightsFolder(self.path).exists

    @property
    def is_pretraining_of_a_grid(self) -> bool:
        """Whether the folder holds the first stage that runs of a grid share."""
        return self.path.parent.name == _PRETRAINING

    def fold(self, number: int) -> FoldFolder:
        """The folder of a fold, whether it is there or not."""
        return FoldFolder(self.path / fold_name(number))

    def folds(self) -> list[FoldFolder]:
        """The folds that have a folder, in ascending order."""
        found = [FoldFolder(path) for path in self.path.glob(f"{_FOLD}*") if path.is_dir()]
        return sorted(
            (fold for fold in found if fold_number(fold.path.name) is not None),
            key=lambda fold: fold.number,
        )


@dataclass(frozen=True)
class GridFolder:
    """The folder of a grid."""

    path: Path

    @property
    def grid_json(self) -> Path:
        return self.path / "grid.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def exists(self) -> bool:
        """Whether a grid was started in this folder."""
        return self.grid_json.is_file()

    def run(self, name: str | Path) -> RunFolder:
        """A run of the grid by its path within the grid."""
        return RunFolder(self.path / name)

    @property
    def cells(self) -> Path:
        """The folder of the records of all cells."""
        return self.path / "cells"

    def cell_json(self, cell: str) -> Path:
        """The record of a cell's attempts."""
        return self.cells / f"{cell}.json"

    def cell_lock(self, cell: str) -> Path:
        """Held while a process of the grid works on the cell, from before the cell starts."""
        return self.cells / f"{cell}.lock"

    def cell_log(self, cell: str) -> Path:
        """The output of the cell's process."""
        return self.path / "logs" / f"{cell}.log"


@dataclass(frozen=True)
class ReportFolder:
    """The report of the run, grid or folder of runs at `path`."""

    path: Path

    @property
    def report_html(self) -> Path:
        return self.path / "report.html"

    @property
    def tables(self) -> Path:
        """The folder of the tables as CSV, Markdown and LaTeX, and of the figures."""
        return self.path / "report"

    @property
    def figures(self) -> Path:
        """The figures, within the folder of the tables."""
        return self.tables / "figures"

    @property
    def ledger_json(self) -> Path:
        """The hashes of the files that a report wrote."""
        return self.tables / "written.json"

    def written(self) -> Iterator[Path]:
        """The tables and figures that are there, by the endings of their names.

        Files of the user's own with the same endings are among them.
        """
        for folder, endings in ((self.tables, _TABLE_FILES), (self.figures, _FIGURE_FILES)):
            for ending in endings:
                yield from folder.glob(f"*.{ending}")


@dataclass(frozen=True)
class PredictionFolder:
    """The folder of predicted cases."""

    path: Path

    @property
    def volumes_csv(self) -> Path:
        """The volumes of all segmented cases."""
        return self.path / "volumes.csv"

    def segmentation(self, case: str) -> Path:
        return self.path / f"{case}_seg.nii.gz"

    def segmentation_json(self, case: str) -> Path:
        return self.path / f"{case}_seg.json"

    def ledger_json(self, sidecar: Path) -> Path:
        """The hashes of the files of a case while they are being written, before the sidecar."""
        return sidecar.with_name(f"{sidecar.stem}.writing.json")

    def segmentation_jsons(self) -> list[Path]:
        """The sidecars of all segmented cases, in the order of their names."""
        return sorted(self.path.glob("*_seg.json"))

    def picture(self, case: str) -> Path:
        return self.path / f"{case}_seg.png"

    def page(self, case: str) -> Path:
        return self.path / f"{case}_seg.html"

    def probability(self, case: str, region: str) -> Path:
        return self.path / f"{case}_prob_{region}.nii.gz"

    def entropy(self, case: str) -> Path:
        return self.path / f"{case}_entropy.nii.gz"

    def synthetic(self, case: str, target: str) -> Path:
        return self.path / f"{case}_{target}_synthetic.nii.gz"

    def synthetic_json(self, case: str, target: str) -> Path:
        return self.path / f"{case}_{target}_synthetic.json"

    def synthetic_error(self, case: str, target: str) -> Path:
        """The difference between the synthetic and the real modality."""
        return self.path / f"{case}_{target}_error.nii.gz"


def pretraining_in_grid(name: str) -> Path:
    """The path within a grid of the run folder of a first stage."""
    return Path(_PRETRAINING) / name


def run_in_grid(name: str) -> Path:
    """The path within a grid of the run folder of segmentations."""
    return Path(_RUNS) / name


def fold_name(number: int) -> str:
    """The name of a fold's folder."""
    return f"{_FOLD}{ALL_NAME if number == ALL else number}"


def fold_number(name: str) -> int | None:
    """K of a folder called 'fold_K', ALL of 'fold_all'; None for any other name."""
    if name == fold_name(ALL):
        return ALL
    digits = name.removeprefix(_FOLD)
    return int(digits) if name.startswith(_FOLD) and digits.isdecimal() else None


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of the whole checkpoints in a folder of checkpoints; any order."""
    return [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]


def find_runs(folder: Path, depth: int = 3) -> Iterator[RunFolder]:
    """The runs at most `depth` folders below `folder`, in the order of their names.

    Does not enter the folders that runs, grids, reports and hidden files use themselves.
    """
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child.name.startswith((".", _FOLD)):
            continue
        if child.name in ("cells", ReportFolder(folder).tables.name):
            continue
        if RunFolder(child).exists:
            yield RunFolder(child)
        elif depth > 1:
            yield from find_runs(child, depth - 1)


def locate_fold(path: Path) -> tuple[RunFolder, int | None] | None:
    """Splits RUN or RUN/fold_K into the run and the fold.

    Returns:
      (run, K), (run, None) for the run folder itself, or None where neither is a run.
    """
    if RunFolder(path).exists:
        return RunFolder(path), None
    number = fold_number(path.name)
    if number is not None and RunFolder(path.parent).exists:
        return RunFolder(path.parent), number
    return None
