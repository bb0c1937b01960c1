"""Exports a trained run, or one fold of it, as a folder of weights that is used like a run."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from brats_jax import about
from brats_jax.inference import model_card, safetensors_file
from brats_jax.inference.trained_run import (
    EnsembleMember,
    TrainedRun,
    combined_hash,
    read_temperature,
)
from brats_jax.inference.weights_reader import arrays_below, arrays_of
from brats_jax.models import torch_weights
from brats_jax.runs.documents import StageTraining
from brats_jax.runs.documents.cleaning import FittedSizes
from brats_jax.runs.documents.weights import (
    CardOptions,
    SavedFold,
    SavedNetworks,
    StatedScores,
    WeightsDocument,
    WeightsFolder,
)
from brats_jax.runs.folder import RunFolder, StageFolder, fold_name
from brats_jax.runs.seen_persons import hashed_persons
from brats_jax.runs.settings_comparison import without_paths
from brats_jax.runtime.document import read_if_readable, read_own_if_there
from brats_jax.runtime.files import atomic_group, json_text, make_folder
from brats_jax.runtime.own_files import OwnFiles, check_replaceable
from brats_jax.runtime.text import without_folders

DTYPES = ("bfloat16", "float32")
_NAMES_OF_PERSONS = "training_only"  # the setting of `data` that names persons


@dataclass(frozen=True)
class WeightsOptions:
    """What is written.

    Attributes:
      dtype: 'bfloat16' or 'float32', of the kernels; all other arrays are float32.
      card: also write the card of the model, in the layout of a model hub.
      name: of the model; '' keeps the name of an earlier export; without one, the folder names it.
      about: texts of the card; empty ones keep those of an earlier export, or of the exported
        weights that are written again.
      scores: see `SavedNetworks`; None keeps those of exported weights.
      cleanings: fitted sizes, one for each average over flips and planes, the default one first;
        () keeps those of exported weights.
    """

    dtype: str = DTYPES[0]
    card: bool = False
    name: str = ""
    about: CardOptions = CardOptions()  # noqa: RUF009, immutable
    scores: StatedScores | None = None
    cleanings: tuple[FittedSizes, ...] = ()


def write(trained: TrainedRun, output: Path, options: WeightsOptions) -> list[Path]:
    """Writes a folder of weights; networks of the other task that are there stay.

    Equal weights and options give equal bytes.

    Args:
      trained: a run, or exported weights.
      output: the folder; the files of an earlier export are replaced as a whole.
      options: what is written.

    Returns:
      The written files.

    Raises:
      BratsError: a folder that cannot be made; a file in it that this program did not write or
        that has changed since.
    """
    make_folder(output, "--output")
    folder, task = WeightsFolder(output), trained.task_name
    earlier = read_own_if_there(folder.config_json, WeightsDocument, "kept; give another --output")
    arrays: dict[str, np.ndarray] = {}
    tasks: dict[str, SavedNetworks] = {}
    if earlier is not None and set(earlier.tasks) - {task}:
        before = arrays_of(folder, earlier)
        for other in set(earlier.tasks) - {task}:
            tasks[other] = earlier.tasks[other]
            arrays |= {f"{other}.{n}": array for n, array in arrays_below(before, other).items()}
    states = {m.fold: _rounded(_state_of(m.network), options.dtype) for m in trained.members}
    for fold, state in states.items():
        arrays |= {f"{task}.{fold_name(fold)}.{name}": array for name, array in state.items()}
    tasks[task] = _describe(trained, states, options)
    facts = {"brats_jax": about.__version__, "research_use_only": about.RESEARCH_USE_ONLY}
    files = {folder.weights.name: safetensors_file.encoded(arrays, facts)}
    document = WeightsDocument(
        library_name="brats_jax",
        model_type="brats_jax",
        research_use_only=about.RESEARCH_USE_ONLY,
        tasks=dict(sorted(tasks.items(), reverse=True)),  # the segmentation first
        sha256={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        brats_jax=about.__version__,
        name=options.name or (earlier.name if earlier else ""),
        card=options.about.over(_texts_before(earlier, trained)),
    )
    if options.card:
        files[folder.card.name] = model_card.card(document, output.absolute().name).encode()
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        document = dataclasses.replace(document, sha256=sums)
    files[folder.config_json.name] = json_text(document.sealed().to_json()).encode()
    _write_files(folder, earlier, files)
    return [output / name for name in files]


def _texts_before(earlier: WeightsDocument | None, trained: TrainedRun) -> CardOptions:
    """The texts of a card that are there: of an earlier export, else of exported weights."""
    own = trained.weights.card if trained.weights else CardOptions()
    return earlier.card.over(own) if earlier else own


def _describe(
    trained: TrainedRun, states: Mapping[int, Mapping[str, np.ndarray]], options: WeightsOptions
) -> SavedNetworks:
    """The description of the networks of one task.

    Args:
      trained: the run, or exported weights that are written again.
      states: by fold, the arrays as they are written.
      options: what is written.
    """
    hashes = {
        fold: torch_weights.digest({n: a.astype(np.float32) for n, a in state.items()})
        for fold, state in states.items()
    }
    before = trained.weights.tasks[trained.task_name] if trained.weights else None
    exported_from = before.exported_from if before else trained.hash
    temperatures = _temperatures(trained)
    cleanings = options.cleanings or (before.cleanings if before else ())
    folds = tuple(
        SavedFold(
            fold=member.fold,
            hash=hashes[member.fold],
            step=member.network.meta.step,
            epoch=member.network.meta.epoch,
            value=member.network.meta.value,
            record=member.network.meta.record,
            temperature=temperatures.get(member.fold),
            **_training_of(trained, member),
        )
        for member in trained.members
    )
    return SavedNetworks(
        model=dict(trained.task.describe()),
        dtype=options.dtype,
        hash=combined_hash([fold.hash for fold in folds]),
        exported_from=exported_from,
        folds=folds,
        config=before.config if before else _without_names(trained.document.config),
        sources=before.sources if before else _kinds(trained.document.store.source),
        seen=before.seen if before else hashed_persons(trained.seen, exported_from),
        notes=tuple(without_folders(note.replace(f"{trained.run}/", "")) for note in trained.notes),
        scores=options.scores or (before.scores if before else None),
        cleaning=next(iter(cleanings), None),
        other_cleanings=cleanings[1:],
    )


def _training_of(trained: TrainedRun, member: EnsembleMember) -> dict[str, int | None]:
    """Patients, slices and steps of a fold's training."""
    found: SavedFold | StageTraining | None
    if trained.weights is not None:
        folds = trained.weights.tasks[trained.task_name].folds
        found = next(fold for fold in folds if fold.fold == member.fold)
    else:
        assert isinstance(member.network.source, StageFolder)
        found = read_if_readable(member.network.source.training_json, StageTraining)
    if found is None:
        return {}
    return {name: getattr(found, name) for name in ("patients", "slices", "steps")}


def _kinds(source: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of the data sets of a store."""
    sources = source.get("sources", [source])
    return tuple(dict.fromkeys(str(one.get("kind", "")) for one in sources))


def _temperatures(trained: TrainedRun) -> dict[int, float]:
    """The temperatures of the folds that `brats_jax.calibrate` was run for.

    Raises:
      BratsError: one was fitted to other weights, or cannot be read.
    """
    if trained.weights is not None:
        folds = trained.weights.tasks[trained.task_name].folds
        return {fold.fold: fold.temperature for fold in folds if fold.temperature is not None}
    if not trained.segments:
        return {}
    run = RunFolder(trained.run)
    return {
        member.fold: read_temperature(run.fold(member.fold), member.hash)
        for member in trained.members
        if run.fold(member.fold).calibration_json.exists()
    }


def _without_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are passed on: without folders and persons."""
    found = without_paths(config)
    if _NAMES_OF_PERSONS in found.get("data", {}):
        found["data"] = {**found["data"], _NAMES_OF_PERSONS: ""}
    return found


def _state_of(network: Any) -> dict[str, np.ndarray]:
    return torch_weights.torch_state(network.params, network.stats)


def _rounded(state: Mapping[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """Kernels in bfloat16, rounded to nearest; vectors, a hundredth of all numbers, in float32."""
    if dtype == "float32":
        return dict(state)
    kinds = {True: np.dtype(jnp.bfloat16), False: np.dtype(np.float32)}
    return {name: array.astype(kinds[array.ndim > 1]) for name, array in state.items()}


def _write_files(
    folder: WeightsFolder, earlier: WeightsDocument | None, files: Mapping[str, bytes]
) -> None:
    known = dict(earlier.sha256) if earlier else {}
    own = OwnFiles(folder.path, folder.ledger_json, known)
    if earlier is not None:
        own.adopt(folder.config_json.name)
    else:  # what is there and would be the same again may stay
        own.adopt_equal(files)
    check_replaceable(own, files, "give another --output")
    own.begin(files)
    # A kill leaves the earlier export, this one, or no description.
    with atomic_group(folder.config_json) as open_file:
        for name, data in files.items():
            open_file(folder.path / name).write(data)
    own.remove(name for name in own.names if name not in files)
    own.discard_ledger()
