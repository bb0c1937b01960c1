"""Exports a trained run as files that work without this package.

    DIR/TASK.stablehlo            program of `jax.export`: from raw slices to labels or a modality
    DIR/TASK.json                 names, shapes, orientation, normalisation, hashes, versions
    DIR/TASK_fold_K.safetensors   weights of each fold under torch's names (see `torch_weights`)

TASK is 'segment' or 'reconstruct'. The program is lowered for CPU and CUDA and takes any number of
slices; it has been tested on CPU only. It contains normalisation, padding, network and the decision
on labels; for several folds all networks, and the mean of their probabilities. It does not contain
the temperatures of `brats_jax.calibrate`.
"""

import contextlib
import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax

from brats_jax import about
from brats_jax.data import normalise_jax
from brats_jax.data.modalities import CLASSES, MODALITIES
from brats_jax.data.neighbours import offsets, stacked
from brats_jax.errors import BratsError
from brats_jax.inference import safetensors_file
from brats_jax.inference.trained_run import EnsembleMember, TrainedRun
from brats_jax.models import torch_weights
from brats_jax.runs.export_document import (
    ExportDocument,
    ExportedFold,
    ExportedInput,
    ExportedModel,
    ExportedOutput,
)
from brats_jax.runs.folder import STAGE_OF_TASK, ExportFolder, fold_name
from brats_jax.runs.settings import without_places
from brats_jax.runtime import forms
from brats_jax.runtime.document import is_of, read_if_there
from brats_jax.runtime.files import atomic_group, json_text, make_folder, sha256_of
from brats_jax.runtime.own_files import OwnFiles, check_replaceable

PLATFORMS = ("cpu", "cuda")
DEFAULT_SLICE_SHAPE = (240, 240)  # of BraTS, for checkpoints that do not state one
SLICES_AT_ONCE = 8  # bounds the memory

Program = Callable[..., jax.Array]


def program(trained: TrainedRun) -> Program:
    """The function from raw slices float32[n, H, W, 4] to labels uint8[n, H, W] or a modality.

    Several modalities are float32[n, H, W, K]. Of networks that take missing modalities it has a
    second argument, bool[4]: which modalities count. The result does not depend on the others.

    Trace it under `jax.enable_x64(True)`, which the normalisation needs; the networks compute in
    their own types.
    """
    normalisation = trained.normalisation
    segments = trained.segments
    task = trained.task
    networks = [member.network for member in trained.members]
    # As NumPy arrays they become constants of the program.
    weights = [jax.tree.map(np.asarray, (n.params, n.stats)) for n in networks]

    def predict(x: jax.Array) -> jax.Array:
        outputs = [n.output(p, s, x) for n, (p, s) in zip(networks, weights, strict=True)]
        if segments and len(outputs) > 1:
            channels = networks[0].channels
            mean = jnp.stack([channels.probabilities(y) for y in outputs]).mean(0)
            return channels.labels(mean).astype(jnp.uint8)
        mean = outputs[0] if len(outputs) == 1 else jnp.stack(outputs).mean(0)
        return networks[0].prediction(mean)

    def run(images: jax.Array, present: jax.Array | None = None) -> jax.Array:
        count = images.shape[0]
        if present is not None:  # before the normalisation, whose brain is that of all modalities
            images = jnp.where(present, images, jnp.zeros((), images.dtype))
        batch = {"image": normalise_jax.normalise(images, normalisation)}
        if present is not None:
            batch["present"] = jnp.broadcast_to(present, (count, len(MODALITIES)))
        if task.context:
            wanted = jnp.arange(count)[:, None] + jnp.array(offsets(task.context))
            batch["neighbours"] = stacked(batch["image"], jnp.clip(wanted, 0, count - 1))
        x = task.test_input(batch)
        # A few slices at a time; zeros fill up the last batch.
        times = (count + SLICES_AT_ONCE - 1) // SLICES_AT_ONCE
        filling = jnp.zeros((times * SLICES_AT_ONCE - count, *x.shape[1:]), x.dtype)
        batches = jnp.concatenate([x, filling]).reshape(times, SLICES_AT_ONCE, *x.shape[1:])
        y = lax.map(predict, batches)
        return y.reshape(times * SLICES_AT_ONCE, *y.shape[2:])[:count]

    return run


def stablehlo(trained: TrainedRun, slice_shape: tuple[int, int]) -> bytes:
    """The program for CPU and CUDA and any number of slices of one shape, serialised.

    Equal weights give equal bytes: without the files and lines of the source, which would tell of
    the machine.
    """
    with jax.enable_x64(True), forms.traced_for(forms.EVERY), _without_source_lines():
        shape = export.symbolic_shape(f"n, {slice_shape[0]}, {slice_shape[1]}, {len(MODALITIES)}")
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32)]
        if trained.task.takes_missing:
            arguments.append(jax.ShapeDtypeStruct((len(MODALITIES),), jnp.bool_))
        exported = export.export(jax.jit(program(trained)), platforms=PLATFORMS)(*arguments)
    return bytes(exported.serialize())


@contextlib.contextmanager
def _without_source_lines() -> Iterator[None]:
    wanted = {
        "jax_traceback_in_locations_limit": 0,
        "jax_hlo_source_file_canonicalization_regex": ".*",
    }
    before = {name: getattr(jax.config, name) for name in wanted}
    try:
        for name, value in wanted.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def describe(
    trained: TrainedRun, slice_shape: tuple[int, int], sums: Mapping[str, str]
) -> ExportDocument:
    """The description of the program.

    Args:
      trained: the exported run.
      slice_shape: H and W of the program's slices.
      sums: SHA-256 of the program and of the weights, by file name.
    """
    program_file = ExportFolder(Path()).program(trained.task_name).name
    task, segments = trained.task, trained.segments
    normalisation = trained.normalisation
    over = (
        "each slice, over all its pixels"
        if normalisation == "slice"
        else "the brain of all slices given"
    )
    how = "z-scored"
    if normalisation == "robust":
        how = "scaled by median and interquartile range"
    shape = ("n", *slice_shape)
    # What goes in and comes out stands in inputs and outputs.
    network = {n: value for n, value in task.describe().items() if n not in ("from", "predicts")}
    if segments:
        output = ExportedOutput("labels", "uint8", shape)
    else:
        unit = f"z-score ({normalisation})"
        targets = trained.targets
        several = (*shape, len(targets)) if len(targets) > 1 else shape
        output = ExportedOutput(",".join(targets), "float32", several, unit)
    inputs = [
        ExportedInput(
            name="images",
            dtype="float32",
            shape=(*shape, len(MODALITIES)),
            modalities=tuple(MODALITIES),
            used=task.inputs,
            intensities="raw, skull-stripped, background 0, 1 mm pixels",
        )
    ]
    if task.takes_missing:
        inputs.append(
            ExportedInput(
                name="present",
                dtype="bool",
                shape=(len(MODALITIES),),
                modalities=tuple(MODALITIES),
                used=task.inputs,
                intensities="true for the modalities of the case; at least one of those used",
            )
        )
    return ExportDocument(
        research_use_only=about.RESEARCH_USE_ONLY,
        inputs=tuple(inputs),
        outputs=(output,),
        orientation="LPS: H runs to the patient's Left, W to Posterior, slices to Superior"
        + ("; all slices of one scan, in this order" if task.context else ""),
        labels={str(i): name for i, name in enumerate(CLASSES)} if segments else None,
        normalisation=normalisation,
        normalisation_note=f"inside the program: clipped and {how} over {over}",
        platforms=PLATFORMS,
        model=ExportedModel(
            **network,
            hash=trained.hash,
            compute_dtype=jnp.dtype(task.dtype).name,
            ensemble="mean of probabilities" if segments and len(trained.members) > 1 else None,
            folds=tuple(_describe_fold(trained, member, sums) for member in trained.members),
            decision=trained.members[0].network.channels.decision if segments else "",
        ),
        config=without_places(trained.document.config),
        versions={
            "brats_jax": about.__version__,
            "jax": jax.__version__,
            "flax": flax.__version__,
            "python": platform.python_version(),
        },
        sha256=sums[program_file],
    )


def _describe_fold(
    trained: TrainedRun, member: EnsembleMember, sums: Mapping[str, str]
) -> ExportedFold:
    weights = ExportFolder(Path()).weights(trained.task_name, member.fold).name
    meta = member.network.meta
    return ExportedFold(
        name=fold_name(member.fold),
        weights=weights,
        sha256=sums[weights],
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
    trained: TrainedRun, output: Path, *, slice_shape: tuple[int, int] | None = None
) -> list[Path]:
    """Exports a run, or one fold of it, into a folder.

    Args:
      trained: from `open_run`, whose `dtype` is the compute type of the program.
      output: the folder; the files of an earlier export are replaced, as they were written.
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
            f"{trained.run}: trained on slices of {trained_on[0]} x {trained_on[1]}, each "
            f"normalised over all its pixels; {slice_shape[0]} x {slice_shape[1]} would change the "
            "statistics; leave out the shape"
        )
    make_folder(output, "--output")
    folder, name = ExportFolder(output), trained.task_name
    description = folder.description_json(name)
    earlier = _earlier(description)
    contents = {folder.program(name): stablehlo(trained, slice_shape)}
    weights = [folder.weights(name, member.fold) for member in trained.members]
    contents |= dict(zip(weights, map(weights_file, trained.members), strict=True))
    sums = {path.name: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    document = describe(trained, slice_shape, sums)
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
    own.remove(name for name in own.names if output / name not in contents)
    own.discard_ledger()
    return list(contents)


def _earlier(description: Path) -> ExportDocument | None:
    """The description of the export that is there; None if there is none of this program.

    Raises:
      BratsError: it was edited or damaged, so that nothing tells whether its files were.
    """
    try:
        return read_if_there(description, ExportDocument, "kept; give another --output")
    except BratsError:
        if is_of(description, ExportDocument):
            raise
        return None


def _own_files(folder: ExportFolder, task: str, earlier: ExportDocument | None) -> OwnFiles:
    """The files that an earlier export of this task wrote into the folder."""
    own = OwnFiles(folder.path, folder.ledger_json(task))
    if earlier is None:
        return own
    own.adopt(folder.description_json(task).name)
    hashes = {fold.weights: fold.sha256 for fold in earlier.model.folds}
    hashes[folder.program(task).name] = earlier.sha256
    for file, known in hashes.items():
        path = folder.path / Path(file).name
        if path.is_file():
            # 0.1.0 has no hash of the program.
            own.adopt(path.name, unchanged=known in ("", sha256_of(path)))
    return own


def is_there(folder: Path) -> bool:
    """Whether a program was exported into a folder."""
    return any(ExportFolder(folder).description_json(task).exists() for task in STAGE_OF_TASK)


def verify(folder: Path) -> list[Path]:
    """Compares the files of every export in a folder with the sums in its description.

    Returns:
      The files that were compared.

    Raises:
      BratsError: no description there, or a file that is missing or another one.
    """
    compared = []
    for task in STAGE_OF_TASK:
        description = ExportFolder(folder).description_json(task)
        document = read_if_there(description, ExportDocument)
        if document is None:
            continue
        files = {ExportFolder(folder).program(task): document.sha256}
        files |= {folder / Path(f.weights).name: f.sha256 for f in document.model.folds}
        for path, expected in files.items():
            if not path.is_file():
                raise BratsError(
                    f"{path} is missing, which {description} describes: export the run again"
                )
            if expected and sha256_of(path) != expected:
                raise BratsError(
                    f"{path} is not the file of {description}: export the run again, into "
                    "another folder"
                )
            compared.append(path)
    if not compared:
        raise BratsError(
            f"{folder}: no export there, or one that was not finished: export the run again"
        )
    return compared
