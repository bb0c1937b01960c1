"""A trained run, opened for inference: the networks of its folds and the facts about them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from brats_jax.errors import BratsError
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.models import torch_weights
from brats_jax.runs import checkpoints
from brats_jax.runtime import devices
from brats_jax.tasks import Task, task_of

STAGES = {"segment": "segment", "reconstruct": "pretrain"}  # --task -> the stage's folder

CALIBRATION_FILE = "calibration.json"
CALIBRATION_SCHEMA = "brats_jax.calibration"
CALIBRATION_VERSION = 1


@dataclass(frozen=True)
class EnsembleMember:
    """The network of one fold.

    Attributes:
      fold: number of the fold.
      network: the restored network.
      hash: `torch_weights.digest` of its weights, which can be recomputed from an export.
      temperature: divides the logits; 1 unless calibrated.
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
      record: facts on the training data: normalisation, slice_shape, store, split_by, version.
      seen: the subjects in the training and validation sets.
      notes: warnings for the user, one line each.
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
    def segments(self) -> bool:
        """Whether the networks predict labels; otherwise they predict a modality."""
        return self.members[0].network.segments

    @property
    def normalisation(self) -> str:
        """'slice' or 'volume'."""
        return str(self.record["normalisation"])

    @property
    def in_plane(self) -> tuple[int, int] | None:
        """The slice size that the input must have, where air counts in a slice's statistics."""
        shape = self.record.get("slice_shape")
        return (int(shape[0]), int(shape[1])) if shape and self.normalisation == "slice" else None

    @property
    def hash(self) -> str:
        """The hash of the only member, or the SHA-256 of all members' hashes."""
        if len(self.members) == 1:
            return self.members[0].hash
        return hashlib.sha256("".join(m.hash for m in self.members).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """JSON-able identity of the model, written beside every prediction."""
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
    path: Path, task_name: str, mesh: Mesh, *, calibrated: bool = False, dtype: str | None = None
) -> TrainedRun:
    """Restores the networks of one stage of a run.

    Args:
      path: RUN for all its complete folds, or RUN/fold_K for one fold.
      task_name: 'segment' or 'reconstruct'.
      mesh: the devices.
      calibrated: divide the logits by the temperatures that `brats_jax.calibrate` fitted.
      dtype: compute type, 'float32' or 'bfloat16'; None for the configured one.

    Raises:
      BratsError: no such run, no complete fold in it, or a checkpoint that cannot be used.
    """
    run, only = _run_of(path)
    config = _settings_of(run)
    stage = STAGES[task_name]
    folds, notes = _folds(run, only, stage)
    compute_dtype = devices.compute_dtype(dtype or config["dtype"])
    # Every fold must hold the model that the first one describes.
    task = _task_of(folds[0][1], stage, compute_dtype)
    members = []
    for fold, directory in folds:
        network = RestoredNetwork(task, directory, mesh)
        digest = torch_weights.digest(torch_weights.torch_state(network.params, network.stats))
        temperature = read_temperature(run / f"fold_{fold}", digest) if calibrated else 1.0
        members.append(EnsembleMember(fold, network, digest, temperature))
    records = [member.network.meta.get("record", {}) for member in members]
    record = {name: value for name, value in records[0].items() if name != "leaks"}
    if any(other.get("normalisation") not in ("slice", "volume") for other in records):
        raise BratsError(
            f"{run}: its checkpoints do not say how their data were normalised; train anew"
        )
    if any(other.get("normalisation") != record["normalisation"] for other in records):
        raise BratsError(f"{run}: its folds were trained on data normalised in different ways")
    if "slice_shape" not in record and record["normalisation"] == "slice":
        notes.append(
            "the checkpoint does not say the slice size it was trained on; BraTS has 240 x 240"
        )
    return TrainedRun(run, task_name, tuple(members), config, record, _seen(run), tuple(notes))


def read_temperature(fold: Path, model_hash: str) -> float:
    """The temperature in a fold's calibration.json.

    Raises:
      BratsError: there is none, or it was fitted to other weights.
    """
    path, remedy = (
        fold / CALIBRATION_FILE,
        f"run python -m brats_jax.calibrate --checkpoint={fold.parent}",
    )
    try:
        document = json.loads(path.read_text())
        schema, version = document["schema"], document["version"]
        temperature, model = float(document["temperature"]), document["model"]
    except FileNotFoundError:
        raise BratsError(f"{fold} is not calibrated: {remedy}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BratsError(f"{path} cannot be read ({error}): {remedy}") from None
    if (schema, version) != (CALIBRATION_SCHEMA, CALIBRATION_VERSION) or not temperature > 0:
        raise BratsError(f"{path} is not of this version: {remedy}")
    if model != model_hash:
        raise BratsError(f"{path} was fitted to other weights than the fold has now: {remedy}")
    return temperature


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


def _settings_of(run: Path) -> dict[str, Any]:
    config = _read_json(run / "config.json").get("config")
    if not isinstance(config, dict) or config.get("dtype") not in devices.DTYPES:
        raise BratsError(f"{run / 'config.json'}: not the settings of a run")
    return config


def _task_of(directory: Path, stage: str, dtype: jnp.dtype) -> Task:
    """The task that the checkpoint in a stage's folder describes."""
    task = task_of(checkpoints.read_meta(directory / "best")["model"], dtype)
    if task.name != stage:
        raise BratsError(f"{directory}: holds a checkpoint of the {task.name} stage; copy it again")
    return task


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
    """The folder of a fold's stage; in another run if the pretraining was taken from there."""
    if stage == "pretrain" and (fold / "pretraining.json").exists():
        return Path(_read_json(fold / "pretraining.json").get("run", "")) / fold.name / stage
    return fold / stage


def _seen(run: Path) -> frozenset[str]:
    """The subjects that any fold trained or validated on: all but the test set."""
    if not (run / "splits.json").exists():
        return frozenset()
    splits = _read_json(run / "splits.json")
    # Every fold trains on all folds but its own, on which it is validated. A split by slice
    # names slices CASE/number.
    return frozenset(name.split("/")[0] for names in splits.get("folds", []) for name in names)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BratsError(f"{path}: cannot be read ({error})") from None
    if not isinstance(document, dict):
        raise BratsError(f"{path}: not a file of this program")
    return document
