"""The files of an exported run: writes them together, describes and verifies them.

    DIR/TASK.stablehlo, DIR/TASK.onnx    the program: see `stablehlo` and `onnx_program`
    DIR/TASK.json, DIR/TASK.onnx.json    names, shapes, orientation, normalisation, hashes, versions
    DIR/TASK_fold_K.safetensors          beside TASK.stablehlo, the weights of each fold

TASK is 'segment' or 'reconstruct'. One folder may hold exports of both kinds and tasks; an export
replaces only its own files.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import flax
import jax

from brats_jax import about
from brats_jax.data.modalities import CLASSES, MODALITIES
from brats_jax.data.planes import axes_in_words
from brats_jax.errors import BratsError
from brats_jax.inference import safetensors_file
from brats_jax.inference.trained_run import EnsembleMember, TrainedRun
from brats_jax.models import torch_weights
from brats_jax.runs.documents.export import (
    ExportDocument,
    ExportedFold,
    ExportedInput,
    ExportedModel,
    ExportedOutput,
)
from brats_jax.runs.export_folder import PROGRAMS, ExportFolder
from brats_jax.runs.folder import STAGE_OF_TASK, fold_name
from brats_jax.runs.settings_comparison import without_paths
from brats_jax.runtime.document import read_if_there, read_own_if_there
from brats_jax.runtime.files import atomic_group, json_text, make_folder, sha256_of
from brats_jax.runtime.own_files import OwnFiles, check_replaceable
from brats_jax.tasks import Task

DEFAULT_SLICE_SHAPE = (240, 240)  # of BraTS, for checkpoints that do not state one


@dataclass(frozen=True)
class Program:
    """A program to write.

    Attributes:
      content: of its file.
      platforms: that it runs on.
      compute_dtype: its compute type.
      versions: of further packages that made it.
    """

    content: bytes
    platforms: tuple[str, ...]
    compute_dtype: str
    versions: Mapping[str, str] = field(default_factory=dict)


def describe(
    trained: TrainedRun,
    slice_shape: tuple[int, int],
    program: Program,
    sums: Mapping[int, tuple[str, str]],
) -> ExportDocument:
    """The description of a program.

    Args:
      trained: the exported run.
      slice_shape: H and W of the program's slices.
      program: the program.
      sums: by fold, the name of its file of weights and the SHA-256 of that file; empty where the
        program holds the weights.
    """
    task, segments = trained.task, trained.segments
    shape = ("n", *slice_shape)
    # `inputs` and `outputs` say what goes in and comes out.
    network = {n: value for n, value in task.describe().items() if n not in ("from", "predicts")}
    return ExportDocument(
        research_use_only=about.RESEARCH_USE_ONLY,
        inputs=_inputs(task, shape),
        outputs=(_output(trained, shape),),
        orientation=axes_in_words(trained.record.plane)
        + ("; all slices of one scan, in this order" if task.context else ""),
        labels={str(i): name for i, name in enumerate(CLASSES)} if segments else None,
        normalisation=trained.normalisation,
        normalisation_note=_normalisation_note(trained.normalisation),
        platforms=program.platforms,
        model=ExportedModel(
            **network,
            hash=trained.hash,
            compute_dtype=program.compute_dtype,
            ensemble="mean of probabilities" if segments and len(trained.members) > 1 else None,
            folds=tuple(
                _describe_fold(member, *sums.get(member.fold, ("", "")))
                for member in trained.members
            ),
            decision=trained.members[0].network.channels.decision if segments else "",
        ),
        config=without_paths(trained.document.config),
        versions={
            "brats_jax": about.__version__,
            "jax": jax.__version__,
            "flax": flax.__version__,
            "python": platform.python_version(),
            **program.versions,
        },
        sha256=hashlib.sha256(program.content).hexdigest(),
    )


def _inputs(task: Task, shape: tuple[str | int, ...]) -> tuple[ExportedInput, ...]:
    """The arrays that a program for slices of this shape takes."""
    images = ExportedInput(
        name="images",
        dtype="float32",
        shape=(*shape, len(MODALITIES)),
        modalities=tuple(MODALITIES),
        used=task.inputs,
        intensities="raw, skull-stripped, background 0, 1 mm pixels",
    )
    if not task.takes_missing:
        return (images,)
    present = ExportedInput(
        name="present",
        dtype="bool",
        shape=(len(MODALITIES),),
        modalities=tuple(MODALITIES),
        used=task.inputs,
        intensities="true for the modalities of the case; at least one of those used",
    )
    return images, present


def _output(trained: TrainedRun, shape: tuple[str | int, ...]) -> ExportedOutput:
    """The array that a program for slices of this shape returns."""
    if trained.segments:
        return ExportedOutput("labels", "uint8", shape)
    targets = trained.targets
    several = (*shape, len(targets)) if len(targets) > 1 else shape
    return ExportedOutput(
        ",".join(targets), "float32", several, f"z-score ({trained.normalisation})"
    )


def _normalisation_note(normalisation: str) -> str:
    over = "the brain of all slices given"
    if normalisation == "slice":
        over = "each slice, over all its pixels"
    how = "z-scored"
    if normalisation == "robust":
        how = "scaled by median and interquartile range"
    return f"inside the program: clipped and {how} over {over}"


def _describe_fold(member: EnsembleMember, weights: str, sha256: str) -> ExportedFold:
    meta = member.network.meta
    return ExportedFold(
        name=fold_name(member.fold),
        weights=weights,
        sha256=sha256,
        hash=member.hash,
        step=meta.step,
        epoch=meta.epoch,
        value=meta.value,
        record=meta.record,
    )


def weights_file(member: EnsembleMember) -> bytes:
    """A fold's weights as the content of a safetensors file, under torch's names.

    Equal weights give equal bytes.
    """
    network = member.network
    state = torch_weights.torch_state(network.params, network.stats)
    facts = {
        "format": "pt",
        "modalities": ",".join(network.task.stem_channels),
        "model": json.dumps(network.meta.model),
        "normalisation": str(network.meta.record.normalisation),
        "hash": member.hash,
        "brats_jax": about.__version__,
        "research_use_only": about.RESEARCH_USE_ONLY,
    }
    return safetensors_file.encoded(state, facts)


def write(
    trained: TrainedRun,
    folder: ExportFolder,
    make: Callable[[tuple[int, int]], Program],
    *,
    slice_shape: tuple[int, int] | None = None,
) -> list[Path]:
    """Exports a run, or one fold of it, into a folder.

    Args:
      trained: the run.
      folder: the folder; the files of an earlier export are replaced, as they were written.
      make: the program for slices of H x W.
      slice_shape: H and W of the program's slices; None for those of the training data.

    Returns:
      The written files.

    Raises:
      BratsError: a slice shape whose normalisation differs from the training's; a folder that
        cannot be made; a file in it that this program did not write or that has changed since.
    """
    trained_on = trained.slice_shape
    if slice_shape is None:
        slice_shape = trained_on or DEFAULT_SLICE_SHAPE
    elif trained_on and trained.in_plane not in (None, slice_shape):
        raise BratsError(
            f"{trained.place}: trained on slices of {trained_on[0]} x {trained_on[1]}, each "
            f"normalised over all its pixels; {slice_shape[0]} x {slice_shape[1]} would change the "
            "statistics; leave out the shape"
        )
    make_folder(folder.path, "--output")
    name = trained.task_name
    description = folder.description_json(name)
    earlier = read_own_if_there(description, ExportDocument, "kept; give another --output")
    program = make(slice_shape)
    contents = {folder.program(name): program.content}
    sums = {}
    for member in trained.members if folder.has_weights else ():
        path, data = folder.weights(name, member.fold), weights_file(member)
        contents[path] = data
        sums[member.fold] = path.name, hashlib.sha256(data).hexdigest()
    document = describe(trained, slice_shape, program, sums)
    contents[description] = json_text(document.sealed().to_json()).encode()
    own = _own_files(folder, name, earlier)
    if earlier is None:  # removed: what is there and would be the same again may stay
        own.adopt_equal({path.name: data for path, data in contents.items()})
    check_replaceable(own, [path.name for path in contents], "give another --output")
    own.begin({path.name: data for path, data in contents.items()})
    # A kill leaves the earlier export, this one, or no description: never the description of one
    # beside the program of the other.
    with atomic_group(description) as open_file:
        for path, data in contents.items():
            open_file(path).write(data)
    # The weights of folds that this export does not have.
    own.remove(name for name in own.names if folder.path / name not in contents)
    own.discard_ledger()
    return list(contents)


def _own_files(folder: ExportFolder, task: str, earlier: ExportDocument | None) -> OwnFiles:
    """The files that an earlier export of this task wrote into the folder."""
    own = OwnFiles(folder.path, folder.ledger_json(task))
    if earlier is None:
        return own
    own.adopt(folder.description_json(task).name)
    hashes = _weights_of(earlier)
    hashes[folder.program(task).name] = earlier.sha256
    for file, known in hashes.items():
        path = folder.path / Path(file).name
        if path.is_file():
            # 0.1.0 has no hash of the program.
            own.adopt(path.name, unchanged=known in ("", sha256_of(path)))
    return own


def _weights_of(document: ExportDocument) -> dict[str, str]:
    """The hashes of the files beside a program, by name."""
    return {fold.weights: fold.sha256 for fold in document.model.folds if fold.weights}


def has_export(path: Path) -> bool:
    """Whether a program was exported into a folder."""
    return any(folder.description_json(task).exists() for folder, task in _possible_exports(path))


def _possible_exports(path: Path) -> Iterator[tuple[ExportFolder, str]]:
    """(export folder, task) of every kind of program and every task."""
    for kind in PROGRAMS:
        for task in STAGE_OF_TASK:
            yield ExportFolder(path, kind), task


def verify(path: Path) -> list[Path]:
    """Compares the files of every export in a folder with the sums in its description.

    Returns:
      The files that were compared.

    Raises:
      BratsError: no description there, or a file that is missing or another one.
    """
    compared = []
    for folder, task in _possible_exports(path):
        description = folder.description_json(task)
        document = read_if_there(description, ExportDocument)
        if document is None:
            continue
        files = {folder.program(task): document.sha256}
        files |= {path / Path(name).name: sha for name, sha in _weights_of(document).items()}
        for file, expected in files.items():
            if not file.is_file():
                raise BratsError(
                    f"{file} is missing, which {description} describes: export the run again"
                )
            if expected and sha256_of(file) != expected:
                raise BratsError(
                    f"{file} is not the file of {description}: export the run again, into "
                    "another folder"
                )
            compared.append(file)
    if not compared:
        raise BratsError(
            f"{path}: no export there, or one that was not finished: export the run again"
        )
    return compared
