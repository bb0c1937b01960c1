"""A trained run as a program of `jax.export`, from raw slices to labels or a modality.

The program is lowered for CPU and CUDA and takes any number of slices; it has been tested on CPU
only. It contains normalisation, padding, network and the decision on labels; for several folds all
networks, and the mean of their probabilities. It does not contain the temperatures of
`brats_jax.calibrate`.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax

from brats_jax.data import normalise_jax
from brats_jax.data.modalities import MODALITIES
from brats_jax.data.neighbours import offsets, stacked
from brats_jax.inference import export_files
from brats_jax.inference.trained_run import TrainedRun
from brats_jax.runs.export_folder import ExportFolder
from brats_jax.runtime import forms

PLATFORMS = ("cpu", "cuda")
SLICES_AT_ONCE = 8  # bounds the memory

Program = Callable[..., jax.Array]


def program(trained: TrainedRun) -> Program:
    """The function from raw slices float32[n, H, W, 4] to labels uint8[n, H, W] or a modality.

    Several modalities are float32[n, H, W, K]. If the networks take missing modalities, it has a
    second argument, bool[4]: the modalities that count. The result does not depend on the others.

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


def write(
    trained: TrainedRun, output: Path, *, slice_shape: tuple[int, int] | None = None
) -> list[Path]:
    """Exports a run, or one fold of it, into a folder; returns the written files.

    Args:
      trained: from `open_run`, whose `dtype` is the compute type of the program.
      output, slice_shape: see `export_files.write`, which also says what is refused.
    """

    def make(shape: tuple[int, int]) -> export_files.Program:
        dtype = jnp.dtype(trained.task.dtype).name
        return export_files.Program(stablehlo(trained, shape), PLATFORMS, dtype)

    return export_files.write(trained, ExportFolder(output), make, slice_shape=slice_shape)
