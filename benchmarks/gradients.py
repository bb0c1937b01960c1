"""What bfloat16 does to a gradient, beside what the choice of the patches does to it.

    python benchmarks/gradients.py                     # minutes on two cores
    python benchmarks/gradients.py --width=64 --batch=16

A network is trained in float32, and now and then the gradients of the same patches are taken in
either type, from the same weights. With g the gradients in float32 and h those in bfloat16 of n
batches, |.| the norm over all weights, printed is

    error   sqrt(mean |h - g|^2) / sqrt(mean |g|^2)         of one batch
    noise   sqrt(mean |g - mean g|^2) / sqrt(mean |g|^2)    of one batch: what its patches add
    bias    |mean (h - g)| / |mean g|                       what many steps do not average out
    chance  error of the mean of n batches, if errors are independent: what a bias of 0 shows
    images  the error if nothing but the images is rounded to bfloat16, the rest being float32:
            how much the network makes of any rounding

Training goes as in float32 if the error is small beside the noise, which it has to live with
anyway, and the bias no more than chance, or small by itself.
"""

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import measure
import numpy as np

from brats_jax import devices, models
from brats_jax.data.patches import PatchPlan, cut
from brats_jax.data.preparation import prepare
from brats_jax.data.store import Store
from brats_jax.optim import adam, step_schedule
from brats_jax.steps import TrainState, make_train_step
from brats_jax.tasks import Reconstruction, Segmentation

STAGES = {"pretrain": Reconstruction, "segment": Segmentation}
TYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
COLUMNS = ("error", "noise", "bias", "chance", "images")
GRADIENTS = measure.Record("gradients * *", **dict.fromkeys(COLUMNS, float))


class Gradients:
    """The gradient of a batch in one type, as one vector."""

    def __init__(self, stage: str, width: int, dtype: str, rounded: bool = False) -> None:
        task = STAGES[stage](width=width, dtype=TYPES[dtype])
        graph, _, _ = models.split(task.build(0))

        @jax.jit
        def gradient(params: models.Weights, stats: models.Weights, batch: dict) -> jax.Array:
            x, target = task.prepare(batch, training=True)
            if rounded:
                x = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)

            def loss_of(params: models.Weights) -> jax.Array:
                return task.loss(models.apply(graph, params, stats, x, train=True)[0], target)

            found = jax.tree.leaves(jax.grad(loss_of)(params))
            return jnp.concatenate([leaf.astype(jnp.float32).ravel() for leaf in found])

        self.of = gradient


def compare(triples: Iterable[tuple[jax.Array, jax.Array, jax.Array]]) -> dict[str, float]:
    """error, noise, bias, chance and images (see above) of n triples of float32[weights].

    Sums are kept, not the gradients: those of 32 batches would be 12 GB at full width.
    """
    n, total, shift, squares = 0, 0.0, 0.0, np.zeros(3)
    for plain, half, images in triples:
        n += 1
        total, shift = total + plain, shift + (half - plain)
        norms = [jnp.sum(jnp.square(x)) for x in (plain, half - plain, images - plain)]
        squares += np.array(norms, np.float64)
    size, error, images_error = np.sqrt(squares / n)
    mean = float(jnp.linalg.norm(jnp.asarray(total))) / n
    return {
        "error": error / size,
        "noise": np.sqrt(max(0.0, 1 - (mean / size) ** 2)),
        "bias": float(jnp.linalg.norm(jnp.asarray(shift))) / n / mean,
        "chance": error / np.sqrt(n) / mean,
        "images": images_error / size,
    }


def parser() -> argparse.ArgumentParser:
    """Of its arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=32)
    parser.add_argument("--after", default="0,100,500,1500", help="steps of training")
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--shape", default="32,64,64", help="of a patient: slices,H,W")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    devices.keep_memory()
    mesh = jax.make_mesh(
        (1,), ("data",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,)
    )
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

        for stage, kind in STAGES.items():
            task = kind(width=arguments.width)
            graph, params, stats = models.split(task.build(0))
            optimizer = adam(
                step_schedule(
                    arguments.learning_rate, factor=1.0, every_epochs=1, steps_per_epoch=10**6
                )
            )
            step = make_train_step(task, graph, optimizer, mesh)
            state = TrainState(
                *(params, stats, optimizer.init(params), jnp.zeros((), jnp.int32)),
                *(jnp.zeros(()), jnp.full((), -1, jnp.int32)),
            )
            ways = [Gradients(stage, arguments.width, dtype) for dtype in TYPES]
            ways.append(Gradients(stage, arguments.width, "float32", rounded=True))
            done = 0
            for mark in (int(text) for text in arguments.after.split(",")):
                while done < mark:
                    state, _ = step(state, batch(done))
                    done += 1
                # Patches of their own, which it was not trained on just before.
                batches = (batch(10**5 + k) for k in range(arguments.batches))
                triples = (
                    tuple(way.of(state.params, state.stats, b) for way in ways) for b in batches
                )
                found = compare(triples)
                text = "   ".join(f"{name} {value:.4f}" for name, value in found.items())
                print(f"{stage:<9} after {mark:5d} steps   {text}")
                GRADIENTS.keep(f"gradients {stage} {mark}", **found)
    print(
        f"  {arguments.batches} batches of {arguments.batch}, width {arguments.width}, "
        f"{arguments.patch} x {arguments.patch}; {measure.where()}"
    )


if __name__ == "__main__":
    main()
