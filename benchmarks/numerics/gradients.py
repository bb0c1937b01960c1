"""Compares the error of bfloat16 gradients with the noise from the choice of patches.

    python benchmarks/numerics/gradients.py                     # minutes on two cores
    python benchmarks/numerics/gradients.py --width=64 --batch=16
    python benchmarks/numerics/gradients.py --forms=all         # the effect of each rounding

Trains a network in float32. After the numbers of steps in --after it computes, from the same
weights and the same n batches, the gradients g in float32 and h in other forms. With |.| the norm
over all weights, it prints

    noise   sqrt(mean |g - mean g|^2) / sqrt(mean |g|^2)    variation between batches
    error   sqrt(mean |h - g|^2) / sqrt(mean |g|^2)         error of a form in one batch
    bias    |mean (h - g)| / |mean g|                       error that does not average out
    chance  the bias expected from n independent errors of mean 0

The forms are bfloat16, and

    images      float32 with the images rounded to bfloat16: the sensitivity to any rounding
    kernels     float32 with the kernels rounded to bfloat16
    stem, encoder, decoder, last two
                bfloat16 with this part of the network in float32: the effect of roundings there

A training in bfloat16 behaves as one in float32 if the error is small relative to the noise and
the bias is small or no larger than chance.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh
from jax.typing import DTypeLike

from benchmarks import measure
from brats_jax import models
from brats_jax.data.patches import PatchPlan, cut
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.runtime import devices
from brats_jax.tasks import Pretraining, Segmentation
from brats_jax.training.optim import adam, step_schedule
from brats_jax.training.steps import TrainState, make_train_step

STAGES = {"pretrain": Pretraining, "segment": Segmentation}
COLUMNS = ("error", "noise", "bias", "chance", "images")
GRADIENTS = measure.Record("gradients * *", **dict.fromkeys(COLUMNS, float), text=str)


class Form(NamedTuple):
    """Where a gradient is rounded to bfloat16.

    Attributes:
      dtype: compute type of the network except its head.
      parts: dotted names of the parts of the network that compute in float32.
      images: round the images to bfloat16.
      kernels: round the kernels to bfloat16.
    """

    dtype: DTypeLike = jnp.float32
    parts: tuple[str, ...] = ()
    images: bool = False
    kernels: bool = False


FORMS = {
    "bfloat16": Form(jnp.bfloat16),
    "images": Form(images=True),
    "kernels": Form(kernels=True),
    "stem": Form(jnp.bfloat16, ("encoder.conv1", "encoder.bn1")),
    "encoder": Form(jnp.bfloat16, ("encoder",)),
    "decoder": Form(jnp.bfloat16, ("decoder",)),
    "last two": Form(jnp.bfloat16, ("decoder.stages.3", "decoder.stages.4")),
}
USUAL = ("bfloat16", "images")


def gradient_of(
    stage: str, width: int, form: Form
) -> Callable[[models.Weights, models.Weights, dict], jax.Array]:
    """A function that computes the gradient of a batch in one form, as one vector."""
    task = STAGES[stage](width=width, dtype=form.dtype)
    model = task.build(0)
    for path, module in nnx.iter_modules(model):
        name = ".".join(map(str, path)) + "."
        if any(name.startswith(f"{part}.") for part in form.parts) and hasattr(module, "dtype"):
            module.dtype = jnp.float32
    graph, _, _ = models.split(model)

    @jax.jit
    def gradient(params: models.Weights, stats: models.Weights, batch: dict) -> jax.Array:
        x, target = task.prepare(batch, training=True)
        x = _rounded(x) if form.images else x

        def loss_of(params: models.Weights) -> jax.Array:
            return task.loss(models.apply(graph, params, stats, x, train=True)[0], target)

        if form.kernels:
            params = jax.tree.map(lambda leaf: _rounded(leaf) if leaf.ndim == 4 else leaf, params)
        found = jax.tree.leaves(jax.grad(loss_of)(params))
        return jnp.concatenate([leaf.astype(jnp.float32).ravel() for leaf in found])

    return gradient


def _rounded(x: jax.Array) -> jax.Array:
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


class Compared(NamedTuple):
    """Noise of the float32 gradients; error, bias and chance of each form (see the module)."""

    noise: float
    forms: dict[str, dict[str, float]]


def compare(batches: Iterable[tuple[jax.Array, dict[str, jax.Array]]]) -> Compared:
    """Noise, error, bias and chance over batches.

    Accumulates sums instead of storing gradients: those of 32 batches take 12 GB at width 64.

    Args:
      batches: for each batch the gradient in float32 and, by form, in the other forms, all
        float32[weights].
    """
    n, total, squares = 0, 0.0, 0.0
    shifts: dict[str, jax.Array] = {}
    errors: dict[str, float] = {}
    for plain, others in batches:
        n, total, squares = n + 1, total + plain, squares + _square(plain)
        for name, other in others.items():
            shifts[name] = shifts.get(name, 0.0) + (other - plain)
            errors[name] = errors.get(name, 0.0) + _square(other - plain)
    size, mean = np.sqrt(squares / n), np.sqrt(_square(jnp.asarray(total))) / n
    forms = {}
    for name, shift in shifts.items():
        error = np.sqrt(errors[name] / n)
        forms[name] = {
            "error": error / size,
            "bias": np.sqrt(_square(shift)) / n / mean,
            "chance": error / np.sqrt(n) / mean,
        }
    return Compared(np.sqrt(max(0.0, 1 - (mean / size) ** 2)), forms)


def _square(x: jax.Array) -> float:
    return float(jnp.sum(jnp.square(x)))


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=32)
    parser.add_argument(
        "--after", default="0,100,500,1500", help="training steps before each comparison"
    )
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--shape", default="32,64,64", help="slices,H,W of a patient")
    parser.add_argument("--forms", choices=("usual", "all"), default="usual")
    return parser


def compare_stage(
    stage: str, arguments: argparse.Namespace, batch: Callable[[int], dict], mesh: Mesh
) -> None:
    """Trains a stage in float32; compares its gradients after each number of steps in --after.

    Args:
      stage: 'pretrain' or 'segment'.
      arguments: of the command.
      batch: returns the batch of a number.
      mesh: one device.
    """
    task = STAGES[stage](width=arguments.width)
    graph, params, stats = models.split(task.build(0))
    schedule = step_schedule(
        arguments.learning_rate, factor=1.0, every_epochs=1, steps_per_epoch=10**6
    )
    optimizer = adam(schedule)
    step = make_train_step(task, graph, optimizer, mesh)
    state = TrainState(
        *(params, stats, optimizer.init(params), jnp.zeros((), jnp.int32)),
        *(jnp.zeros(()), jnp.full((), -1, jnp.int32)),
    )
    plain = gradient_of(stage, arguments.width, Form())
    names = FORMS if arguments.forms == "all" else USUAL
    others = {n: gradient_of(stage, arguments.width, FORMS[n]) for n in names}
    done = 0  # training steps
    for mark in (int(text) for text in arguments.after.split(",")):
        while done < mark:
            state, _ = step(state, batch(done))
            done += 1
        # Patches other than those of the preceding training steps.
        batches = (batch(10**5 + k) for k in range(arguments.batches))
        found = compare(
            (
                plain(state.params, state.stats, b),
                {n: grad(state.params, state.stats, b) for n, grad in others.items()},
            )
            for b in batches
        )
        report(stage, mark, found)


def report(stage: str, steps: int, found: Compared) -> None:
    """Prints and records the comparison after a number of training steps."""
    print(f"{stage:<9} after {steps:5d} steps   noise {found.noise:.4f}")
    for name, values in found.forms.items():
        text = "   ".join(f"{key} {value:.4f}" for key, value in values.items())
        print(f"    {name:<10} {text}")
    half, images = found.forms["bfloat16"], found.forms["images"]["error"]
    text = (
        f"error {half['error']:.3f}, noise {found.noise:.3f}, bias {half['bias']:.3f} "
        f"(chance {half['chance']:.3f})"
    )
    GRADIENTS.keep(
        f"gradients {stage} {steps}", **half, noise=found.noise, images=images, text=text
    )


def main() -> None:
    arguments = parser().parse_args()
    devices.keep_freed_memory()
    mesh = measure.one_device_mesh()
    with tempfile.TemporaryDirectory() as folder:
        shape = [int(size) for size in arguments.shape.split(",")]
        options = {"normalisation": "volume", "patients": arguments.patients, "shape": shape}
        prepare("phantom", Path(folder) / "store", seed=0, **options)
        store = Store.open(Path(folder) / "store")
        plan = PatchPlan(
            store,
            np.flatnonzero(store.has_tumour),
            patch_size=arguments.patch,
            tumour_probability=0.5,
            seed=0,
        )

        def batch(number: int) -> dict:
            drawn = plan.examples(number * arguments.batch, arguments.batch)
            return devices.put_batch(cut(store, drawn, arguments.patch), mesh)

        for stage in STAGES:
            compare_stage(stage, arguments, batch, mesh)
    print(
        f"  {arguments.batches} batches of {arguments.batch}, width {arguments.width}, "
        f"{arguments.patch} x {arguments.patch}; {measure.where()}"
    )


if __name__ == "__main__":
    main()
