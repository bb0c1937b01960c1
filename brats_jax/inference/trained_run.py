"""What a run folder holds to predict with: its models, and all that says what they expect."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from brats_jax.errors import BratsError
from brats_jax.evaluation import calibration
from brats_jax.experiments import config as settings
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.models import torch_weights
from brats_jax.tasks import Task

STAGES = {"segment": "segment", "reconstruct": "pretrain"}  # --task -> folder of the stage


@dataclass(frozen=True)
class EnsembleMember:
    """The model of one fold.

    Attributes:
      fold: which.
      network: its weights, on the devices.
      hash: `torch_names.digest` of them, which whoever has exported them can compute again.
      temperature: its logits are divided by this; 1 unless calibrated.
    """

    fold: int
    network: RestoredNetwork
    hash: str
    temperature: float = 1.0


@dataclass(frozen=True)
class TrainedRun:
    """One stage of a run, in one or several folds.

    Attributes:
      run: the run folder.
      task_name: 'segment' or 'reconstruct', as `--task` and exported files spell it.
      members: at least one.
      config: the run's settings, as config.json has them.
      record: what its data were: normalisation, slice_shape, store, split_by, version.
      seen: the subjects that it was trained or chosen on.
      notes: what a user should know, one line each.
    """

    run: Path
    task_name: str
    members: tuple[EnsembleMember, ...]
    config: dict[str, Any]
    record: dict[str, Any]
    seen: frozenset[str]
    notes: tuple[str, ...]

    @property
    def task(self) -> Task:
        """The stage's task."""
        return self.members[0].network.task

    @property
    def normalisation(self) -> str:
        """'slice' or 'volume'."""
        return str(self.record["normalisation"])

    @property
    def in_plane(self) -> tuple[int, int] | None:
        """The slice size it must see: where air counts in the statistics of a slice."""
        shape = self.record.get("slice_shape")
        return (int(shape[0]), int(shape[1])) if shape and self.normalisation == "slice" else None

    @property
    def hash(self) -> str:
        """The member's, or the hash of all members' hashes."""
        if len(self.members) == 1:
            return self.members[0].hash
        return hashlib.sha256("".join(m.hash for m in self.members).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """JSON-able: which model this is, to stand beside whatever it made."""
        return {
            "hash": self.hash,
            "run": str(self.run),
            "folds": [
                {
                    "fold": member.fold,
                    "hash": member.hash,
                    "step": member.network.meta["step"],
                    "temperature": member.temperature,
                }
                for member in self.members
            ],
            "record": self.record,
            "config": self.config,
        }


def open_run(
    path: Path, task: str, mesh: Mesh, *, calibrated: bool = False, dtype: str | None = None
) -> TrainedRun:
    """Restores what there is to predict with.

    Args:
      path: RUN, all its complete folds, or RUN/fold_K, that fold alone.
      task: 'segment' or 'reconstruct'.
      mesh: the devices.
      calibrated: divide the logits by the temperatures that `brats_jax.calibrate` found.
      dtype: what activations are computed in, 'float32' or 'bfloat16'; None: as configured.

    Raises:
      BratsError: no such run, nothing complete in it, or a checkpoint that cannot be used.
    """
    run, only = _run_of(path)
    document = _read_json(run / "config.json")
    try:
        config = document["config"]
        configured = ConfigDict(config)
        if dtype is not None:
            configured.dtype = dtype
        stage = (settings.segmentation if task == "segment" else settings.reconstruction)(
            configured
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BratsError(f"{run / 'config.json'}: not the settings of a run ({error})") from None
    folds, notes = _folds(run, only, STAGES[task])
    members = []
    for fold, directory in folds:
        restored = RestoredNetwork(stage, directory, mesh)
        digest = torch_weights.digest(torch_weights.torch_state(restored.params, restored.stats))
        temperature = 1.0
        if calibrated:
            temperature = calibration.read_temperature(run / f"fold_{fold}", digest)
        members.append(EnsembleMember(fold, restored, digest, temperature))
    records = [member.network.meta.get("record", {}) for member in members]
    record = {name: value for name, value in records[0].items() if name != "leaks"}
    if any(other.get("normalisation") not in ("slice", "volume") for other in records):
        raise BratsError(
            f"{run}: its checkpoints do not say how their data were normalised; train anew"
        )
    if any(other.get("normalisation") != record["normalisation"] for other in records):
        raise BratsError(f"{run}: its folds were trained on data normalised in different ways")
    if "slice_shape" not in record and record["normalisation"] == "slice":
        notes.append("the checkpoint does not say which slice size it knows; 240 x 240 is BraTS's")
    return TrainedRun(run, task, tuple(members), config, record, _seen(run), tuple(notes))


def _run_of(path: Path) -> tuple[Path, int | None]:
    """(run folder, fold or None for all)."""
    if (path / "config.json").is_file():
        return path, None
    name = path.name
    if name.startswith("fold_") and name[5:].isdigit() and (path.parent / "config.json").is_file():
        return path.parent, int(name[5:])
    raise BratsError(
        f"--checkpoint={path}: no run there; give the --workdir of a training, or RUN/fold_K"
    )


def _folds(run: Path, only: int | None, stage: str) -> tuple[list[tuple[int, Path]], list[str]]:
    """(fold, folder of the stage) of every fold to use, and notes on those left out."""
    notes: list[str] = []
    if only is not None:
        directory = _stage_folder(run / f"fold_{only}", stage)
        if not (directory / "complete.json").exists():
            notes.append(f"{directory} is not trained to the end: this is its best so far")
        return [(only, directory)], notes
    found = []
    for number in sorted(int(p.name[5:]) for p in run.glob("fold_*") if p.name[5:].isdigit()):
        directory = _stage_folder(run / f"fold_{number}", stage)
        if (directory / "complete.json").exists():
            found.append((number, directory))
        elif directory.exists():
            notes.append(f"fold {number} is not trained to the end and left out")
    if not found:
        raise BratsError(
            f"{run}: no fold whose {stage} stage is trained to the end; train one, or give "
            f"{run}/fold_K to use its best so far"
        )
    return found, notes


def _stage_folder(fold: Path, stage: str) -> Path:
    """Where a stage of a fold lies: in another run, if its pretraining was taken from there."""
    if stage == "pretrain" and (fold / "pretraining.json").exists():
        return Path(_read_json(fold / "pretraining.json").get("run", "")) / fold.name / stage
    return fold / stage


def _seen(run: Path) -> frozenset[str]:
    """Whoever trained or validated a fold: any but the test set."""
    if not (run / "splits.json").exists():
        return frozenset()
    splits = _read_json(run / "splits.json")
    # Every fold trains on all folds but its own, on which it is validated. Slices are named
    # CASE/number where they were split.
    return frozenset(name.split("/")[0] for names in splits.get("folds", []) for name in names)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BratsError(f"{path}: cannot be read ({error})") from None
    if not isinstance(document, dict):
        raise BratsError(f"{path}: not a file of this program")
    return document
