"""Exported weights, opened for inference like a run. Nothing is unpickled."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from brats_jax.data.folds import fold_title
from brats_jax.data.normalise import NORMALISATIONS
from brats_jax.errors import BratsError
from brats_jax.inference import safetensors_file
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.inference.trained_run import EnsembleMember, TrainedRun
from brats_jax.models import torch_weights
from brats_jax.runs.checkpoints import CheckpointMeta
from brats_jax.runs.documents import RunConfig
from brats_jax.runs.documents.weights import SavedFold, WeightsDocument, WeightsFolder
from brats_jax.runs.folder import STAGE_OF_TASK, fold_name
from brats_jax.runs.store_facts import StoreFacts
from brats_jax.runtime import devices
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import read_regular, sha256_of, unreadable
from brats_jax.tasks import task_of

_REMEDY = WeightsDocument.REMEDY
# [width, modalities, 7, 7]: of the encoder, of a shared one, or of each modality.
_STEM = re.compile(r"((shared|(own|stems)\.\w+)\.)?conv1\.weight")
_POINTER = b"version https://git-lfs"  # what a clone without Git LFS has in place of a large file


def open_weights(
    path: Path, task_name: str, mesh: Mesh, *, calibrated: bool = False, dtype: str | None = None
) -> TrainedRun:
    """Opens exported weights; arguments as in `trained_run.open_run`.

    Raises:
      BratsError: a file is missing, damaged, or was edited; no network for the task; `calibrated`
        without temperatures.
    """
    folder = WeightsFolder(path)
    document = read_document(folder.config_json, WeightsDocument)
    networks = document.tasks.get(task_name)
    if networks is None:
        raise BratsError(
            f"{path} holds no network for --task={task_name}, only for "
            f"{', '.join(sorted(document.tasks))}"
        )
    if networks.model.get("task") != STAGE_OF_TASK[task_name]:
        raise _not_of(folder, f"{task_name} is of another stage")
    if calibrated and any(fold.temperature is None for fold in networks.folds):
        raise BratsError(
            f"{document.name or path} holds no temperatures: leave --calibrated out, or calibrate "
            "the run and export it again"
        )
    arrays = arrays_of(folder, document)
    config = RunConfig(networks.config, StoreFacts("", {}, ""))
    try:
        settings = config.settings
        task = task_of(networks.model, devices.compute_dtype(dtype or settings.dtype))
    except ValueError as error:
        raise BratsError(f"{folder.config_json}: {error}; {_REMEDY}") from None
    except BratsError as error:
        raise BratsError(f"{folder.config_json}: {error}") from None
    members = []
    for fold in networks.folds:
        own = arrays_below(arrays, task_name, fold.fold)
        stems = [array for name, array in own.items() if _STEM.fullmatch(name)]
        # Before a network of a wrong size takes all memory.
        if not stems or {stem.shape[0] for stem in stems} != {task.width}:
            raise _not_of(folder, f"{fold_title(fold.fold)}: 'conv1.weight'")
        source = _SavedFold(folder, fold, own)
        network = RestoredNetwork(task, source, mesh)
        temperature = fold.temperature if calibrated and fold.temperature else 1.0
        members.append(EnsembleMember(fold.fold, network, fold.hash, temperature))
    record = networks.folds[0].record
    if {fold.record.normalisation for fold in networks.folds} - {record.normalisation} or (
        record.normalisation not in NORMALISATIONS
    ):
        raise _not_of(folder, "no normalisation, or several")
    return TrainedRun(
        path, task_name, tuple(members), config, record, frozenset(), networks.notes, document
    )


def arrays_of(folder: WeightsFolder, document: WeightsDocument) -> dict[str, np.ndarray]:
    """All arrays of exported weights by the names in the file.

    Raises:
      BratsError: the file is missing, or is not the one that `document` describes.
    """
    path = folder.weights
    if not path.exists():
        raise BratsError(f"{path} is missing, which {folder.config_json} describes; {_REMEDY}")
    try:
        content = read_regular(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error, _REMEDY) from None
    if content.startswith(_POINTER):
        raise BratsError(
            f"{path} is a pointer of Git LFS, not the weights: fetch the file, e.g. with "
            "'git lfs pull'"
        )
    if hashlib.sha256(content).hexdigest() != document.weights_sha256:
        raise _changed(path, folder)
    try:
        return safetensors_file.decoded(content)
    except ValueError as error:
        raise unreadable(path, error, _REMEDY) from None


def arrays_below(arrays: Mapping[str, np.ndarray], task: str, *fold: int) -> dict[str, np.ndarray]:
    """The arrays of a task, or of one fold of it, without the prefix TASK. or TASK.FOLD."""
    start = ".".join([task, *(fold_name(number) for number in fold), ""])
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}


def verify(folder: WeightsFolder) -> list[Path]:
    """Compares the files of exported weights with the sums in config.json.

    Returns:
      The files that were compared.

    Raises:
      BratsError: a file is missing or another one.
    """
    document = read_document(folder.config_json, WeightsDocument)
    compared = []
    for name, expected in document.sha256.items():
        path = folder.path / Path(name).name
        if not path.is_file():
            raise BratsError(f"{path} is missing, which {folder.config_json} describes; {_REMEDY}")
        if sha256_of(path) != expected:
            raise _changed(path, folder)
        compared.append(path)
    return compared


@dataclass(frozen=True)
class _SavedFold:
    """The weights of one fold, as a `restored_network.WeightSource`."""

    folder: WeightsFolder
    fold: SavedFold
    arrays: Mapping[str, np.ndarray]

    def read(self, template: Any, model: dict[str, Any]) -> tuple[Any, CheckpointMeta]:
        """See `restored_network.WeightSource`."""
        fold = self.fold
        try:
            params, stats = torch_weights.from_torch_state(
                self.arrays, template["params"], template["stats"]
            )
        except ValueError as error:
            raise _not_of(self.folder, f"{fold_title(fold.fold)}: {error}") from None
        shardings = jax.tree.map(lambda shape: shape.sharding, template)
        placed = jax.device_put({"params": params, "stats": stats}, shardings)
        meta = CheckpointMeta(
            model=model, step=fold.step, epoch=fold.epoch, value=fold.value, record=fold.record
        )
        return placed, meta


def _changed(path: Path, folder: WeightsFolder) -> BratsError:
    return BratsError(
        f"{path} is not the file that {folder.config_json.name} describes (its SHA-256 differs): "
        f"it was damaged, cut short or edited; {_REMEDY}"
    )


def _not_of(folder: WeightsFolder, reason: str) -> BratsError:
    return BratsError(f"{folder.path}: {folder.config_json.name} does not fit its weights "
                      f"({reason}); {_REMEDY}")  # fmt: skip
