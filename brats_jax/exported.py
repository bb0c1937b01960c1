"""A trained network as files that need nothing of this package.

    DIR/TASK.stablehlo      raw slices in, labels (or a predicted modality) out: `jax.export`
    DIR/TASK.json           names, shapes, orientation, normalisation, hashes, versions
    DIR/fold_K.safetensors  weights of each fold under torch's names (see `torch_names`)

One program runs on CPU and CUDA and takes any number of slices. It holds normalisation, padding,
network and arg-max; of several folds it holds them all, and the mean of their probabilities.
"""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export, lax
from jax.typing import DTypeLike

import brats_jax
from brats_jax import checkpoints, devices, torch_names
from brats_jax.data import normalise_device
from brats_jax.data.modalities import CLASSES, MODALITIES, channel_indices
from brats_jax.errors import BratsError
from brats_jax.evaluate import Restored
from brats_jax.files import atomic_open, write_json
from brats_jax.tasks import Reconstruction, Segmentation, Task

SCHEMA = "brats_jax.exported"
VERSION = 1
STAGES = {"segment": "segment", "reconstruct": "pretrain"}  # --task -> folder of the stage
PLATFORMS = ("cpu", "cuda")
DEFAULT_SLICE_SHAPE = (240, 240)  # of BraTS, where a checkpoint does not say
SLICES_AT_ONCE = 8  # bounds the memory, whatever the number of slices

Program = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class Fold:
    """One trained network: the best of its stage, and what its checkpoint says of it."""

    name: str
    network: Restored
    digest: str

    @property
    def record(self) -> Mapping[str, Any]:
        """What the training noted: normalisation, store, split_by, version."""
        return self.network.meta["record"]


def read_folds(path: Path, task: str, dtype: DTypeLike = jnp.float32) -> list[Fold]:
    """Restores the networks of a run, or of one of its folds.

    Args:
      path: RUN (all folds that have one) or RUN/fold_K.
      task: 'segment' or 'reconstruct'.
      dtype: what activations are computed in.

    Raises:
      BratsError: nothing trained there, or folds that do not belong together.
    """
    stage = STAGES[task]
    if path.name.startswith("fold_"):
        candidates = [path]
    else:
        candidates = sorted(path.glob("fold_*"), key=lambda p: (len(p.name), p.name))
    directories = [p for p in candidates if (p / stage / "best").is_dir()]
    if not directories:
        raise BratsError(
            f"{path}: no trained {stage} stage there; give --checkpoint=RUN or RUN/fold_K of a "
            "run folder that brats_jax.main has written"
        )
    mesh = devices.data_mesh()
    folds = []
    for directory in directories:
        meta = checkpoints.read_meta(directory / stage / "best")
        network = Restored(_task(meta, dtype), directory / stage, mesh)
        state = torch_names.torch_state(network.params, network.stats)
        folds.append(Fold(directory.name, network, torch_names.digest(state)))
    for fold in folds[1:]:
        for what in ("normalisation", "store"):
            if fold.record[what] != folds[0].record[what]:
                raise BratsError(
                    f"{path}: {fold.name} was trained with {what} {fold.record[what]}, "
                    f"{folds[0].name} with {folds[0].record[what]}; export them one by one"
                )
        if fold.network.meta["model"] != folds[0].network.meta["model"]:
            raise BratsError(f"{path}: {fold.name} is another network; export them one by one")
    return folds


def _task(meta: Mapping[str, Any], dtype: DTypeLike) -> Task:
    model = meta["model"]
    inputs = tuple(model["inputs"])
    if model["task"] == "segment":
        return Segmentation(inputs=inputs, width=model["width"], dtype=dtype)
    (target,) = model["outputs"]
    return Reconstruction(inputs=inputs, target=target, width=model["width"], dtype=dtype)


def program(folds: Sequence[Fold]) -> Program:
    """real float32[n, H, W, 4] -> uint8[n, H, W] labels, or the predicted modality in float32.

    To be traced under `jax.enable_x64(True)`, which the normalisation needs; the networks
    compute in their own types.
    """
    first = folds[0].network.task
    how = folds[0].record["normalisation"]
    segments = isinstance(first, Segmentation)
    channels = np.array(channel_indices(first.inputs))
    # As NumPy arrays they become constants of the program.
    weights = [jax.tree.map(np.asarray, (f.network.params, f.network.stats)) for f in folds]

    def outcome(x: jax.Array) -> jax.Array:
        outputs = [f.network.output(p, s, x) for f, (p, s) in zip(folds, weights, strict=True)]
        if segments and len(outputs) > 1:
            outputs = [jax.nn.softmax(y, axis=-1) for y in outputs]
        mean = outputs[0] if len(outputs) == 1 else jnp.stack(outputs).mean(0)
        return jnp.argmax(mean, axis=-1).astype(jnp.uint8) if segments else mean[..., 0]

    def run(images: jax.Array) -> jax.Array:
        count, *shape = images.shape
        x = normalise_device.normalise(images, how)[..., channels]
        # A few slices at a time, the last few filled up.
        times = (count + SLICES_AT_ONCE - 1) // SLICES_AT_ONCE
        filling = jnp.zeros((times * SLICES_AT_ONCE - count, *x.shape[1:]), x.dtype)
        batches = jnp.concatenate([x, filling]).reshape(times, SLICES_AT_ONCE, *x.shape[1:])
        y = lax.map(outcome, batches)
        return y.reshape(times * SLICES_AT_ONCE, *shape[:-1])[:count]

    return run


def stablehlo(folds: Sequence[Fold], slice_shape: tuple[int, int]) -> bytes:
    """The program for CPU and CUDA and any number of slices of one shape, serialised."""
    with jax.enable_x64(True):
        shape = export.symbolic_shape(f"n, {slice_shape[0]}, {slice_shape[1]}, {len(MODALITIES)}")
        exported = export.export(jax.jit(program(folds)), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(shape, jnp.float32)
        )
    return bytes(exported.serialize())


def describe(folds: Sequence[Fold], run: Path, slice_shape: tuple[int, int]) -> dict[str, Any]:
    """What whoever runs the program has to know (JSON-able)."""
    network = folds[0].network
    how = folds[0].record["normalisation"]
    over = "each slice, over all its pixels" if how == "slice" else "the brain of all slices given"
    segments = isinstance(network.task, Segmentation)
    shape = ["n", *slice_shape]
    output: dict[str, Any] = {"name": "labels", "dtype": "uint8", "shape": shape}
    if not segments:
        (target,) = network.meta["model"]["outputs"]
        output = {"name": target, "dtype": "float32", "shape": shape, "unit": f"z-score ({how})"}
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "research_use_only": brats_jax.RESEARCH_USE_ONLY,
        "inputs": [
            {
                "name": "images",
                "dtype": "float32",
                "shape": [*shape, len(MODALITIES)],
                "modalities": list(MODALITIES),
                "used": list(network.task.inputs),
                "intensities": "raw, skull-stripped, background 0, 1 mm pixels",
            }
        ],
        "outputs": [output],
        "orientation": "LPS: H runs to the patient's Left, W to Posterior, slices to Superior",
        "labels": {str(i): name for i, name in enumerate(CLASSES)} if segments else None,
        "normalisation": how,
        "normalisation_note": f"inside the program: clipped and z-scored over {over}",
        "platforms": list(PLATFORMS),
        "model": {
            **network.meta["model"],
            "compute_dtype": jnp.dtype(network.task.dtype).name,  # type: ignore[attr-defined]
            "ensemble": "mean of probabilities" if segments and len(folds) > 1 else None,
            "folds": [
                {
                    "name": fold.name,
                    "weights": f"{fold.name}.safetensors",
                    "sha256": fold.digest,
                    **{k: fold.network.meta[k] for k in ("step", "epoch", "value")},
                    **fold.record,
                }
                for fold in folds
            ],
        },
        "config": _config_of(run),
        "versions": {
            "brats_jax": brats_jax.__version__,
            "jax": jax.__version__,
            "flax": flax.__version__,
            "python": platform.python_version(),
        },
    }


def _config_of(run: Path) -> dict[str, Any] | None:
    path = run / "config.json"
    if not path.exists():  # a fold's folder alone is enough to export
        return None
    try:
        return json.loads(path.read_text())["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise BratsError(f"{path}: cannot be read ({error}); fetch the run folder again") from None


def write_weights(path: Path, fold: Fold) -> None:
    """Writes a fold's weights as safetensors under torch's names, whole or not at all."""
    network = fold.network
    state = torch_names.torch_state(network.params, network.stats)
    facts = {
        "format": "pt",
        "modalities": ",".join(network.task.inputs),
        "model": json.dumps(network.meta["model"]),
        "normalisation": str(fold.record["normalisation"]),
        "sha256": fold.digest,
        "brats_jax": brats_jax.__version__,
        "research_use_only": brats_jax.RESEARCH_USE_ONLY,
    }
    with atomic_open(path, "wb") as file:
        file.write(safetensors.numpy.save(state, facts))


def write(
    checkpoint: Path,
    output: Path,
    *,
    task: str = "segment",
    slice_shape: tuple[int, int] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> list[Path]:
    """Exports a run, or one fold of it, into a folder; see the top of this file.

    Args:
      checkpoint: RUN or RUN/fold_K.
      output: the folder; files of an earlier export are replaced.
      task: 'segment', or 'reconstruct' for the pretext network.
      slice_shape: H and W of the slices that the program will take; None: those of the training.
      dtype: what activations are computed in, on every platform.

    Returns:
      What was written.

    Raises:
      BratsError: nothing trained there, folds that do not belong together, or other slices than
        those whose statistics the network knows.
    """
    folds = read_folds(checkpoint, task, dtype)
    trained = folds[0].record.get("slice_shape")
    if slice_shape is None:
        slice_shape = tuple(trained) if trained else DEFAULT_SLICE_SHAPE
    elif trained and list(slice_shape) != trained and folds[0].record["normalisation"] == "slice":
        raise BratsError(
            f"{checkpoint}: trained on slices of {trained[0]} x {trained[1]}, each normalised over "
            f"all its pixels, which {slice_shape[0]} x {slice_shape[1]} would change; leave out "
            "the shape"
        )
    run = checkpoint.parent if checkpoint.name.startswith("fold_") else checkpoint
    document = describe(folds, run, slice_shape)
    program_path = output / f"{task}.stablehlo"
    serialised = stablehlo(folds, slice_shape)
    with atomic_open(program_path, "wb") as file:
        file.write(serialised)
    weights = [output / f"{fold.name}.safetensors" for fold in folds]
    for path, fold in zip(weights, folds, strict=True):
        write_weights(path, fold)
    write_json(output / f"{task}.json", document)
    return [program_path, *weights, output / f"{task}.json"]
