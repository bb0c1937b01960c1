"""Image quality of the test slices that a pretraining predicts, and of yardsticks beside it."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from brats_jax.data.brain import brain_mask
from brats_jax.data.modalities import channel_indices
from brats_jax.data.store.reader import Store
from brats_jax.evaluation.slices import (
    ProgressCallback,
    completed,
    describe_slices,
    device_batches,
    facts_of,
    no_progress,
)
from brats_jax.evaluation.tallies import (
    FIXED_RANGE,
    IMAGE_METRICS,
    YARDSTICK_METRICS,
    PretrainingTally,
)
from brats_jax.evaluation.yardsticks import Yardstick
from brats_jax.inference.flips import OverFlips
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.metrics import image
from brats_jax.models import Weights
from brats_jax.tasks import Batch, Pretraining


def score_pretraining(
    network: RestoredNetwork,
    store: Store,
    indices: np.ndarray,
    batch_size: int,
    done: ProgressCallback = no_progress,
    over: str = "all",
    yardsticks: Sequence[Yardstick] = (),
    tta: bool = False,
) -> PretrainingTally:
    """Image quality of every predicted slice: over the whole slice, the brain and the tumour.

    For a network that predicts several modalities, each number is given as the mean over them and
    for each. If blocks were hidden from the network, only the hidden pixels count.

    Arguments as for `scoring.score`; `done` reports the progress. The yardsticks predict
    `Task.tested`.
    """
    task = network.task
    assert isinstance(task, Pretraining)

    @jax.jit
    def step(
        params: Weights, stats: Weights, batch: Batch, averaged: jax.Array | None
    ) -> dict[str, jax.Array]:
        example, output = task.test_example(batch), averaged
        if output is None:
            output = network.output(params, stats, example.input)
        output = completed(task, output, example)
        places = [task.outputs.index(name) for name in task.tested]
        counted = None
        if example.weight is not None:
            counted = jnp.broadcast_to(example.weight, output.shape) > 0
        found = {
            name: _image_quality(
                output[..., k],
                example.target[..., k],
                _regions(batch),
                None if counted is None else counted[..., k],
            )
            for name, k in zip(task.tested, places, strict=True)
        }
        return {f"/{of}": value for of, value in over_modalities(found).items()}

    # A program of its own: the bits of the network's numbers do not depend on the yardsticks.
    beside = jax.jit(lambda batch: _yardstick_quality(yardsticks, batch))
    flips, read = OverFlips(network), jax.jit(lambda batch: task.test_example(batch).input)
    facts = facts_of(task, store)
    rows: list[dict[str, np.ndarray]] = []
    for batch, valid in device_batches(network.mesh, store, indices, batch_size, facts):
        averaged = flips.images(read(batch)) if tta else None
        values = jax.device_get(step(network.params, network.stats, batch, averaged))
        values |= jax.device_get(beside(batch))
        rows.append({name: value[valid] for name, value in values.items()})
        done(int(valid.sum()))
    joined: dict[str, dict[str, np.ndarray]] = {}
    for key in rows[0]:
        whose, _, name = key.partition("/")
        joined.setdefault(whose, {})[name] = np.concatenate([row[key] for row in rows])
    values = joined.pop("")
    return PretrainingTally(describe_slices(store, indices, over), values, joined)


def _yardstick_quality(yardsticks: Sequence[Yardstick], batch: Batch) -> dict[str, jax.Array]:
    """float32[B] of each 'yardstick/region/metric'."""
    images = batch["image"].astype(jnp.float32)
    values: dict[str, jax.Array] = {}
    for one in yardsticks:
        guess = one.predict(images)
        targets = images[..., jnp.array(channel_indices(one.targets))]
        found = {
            name: _image_quality(
                guess[..., k], targets[..., k], _regions(batch), None, YARDSTICK_METRICS
            )
            for k, name in enumerate(one.targets)
        }
        values |= {f"{one.name}/{of}": value for of, value in over_modalities(found).items()}
    return values


def _regions(batch: Batch) -> dict[str, jax.Array | None]:
    """bool[B, H, W] by name; None: the whole slice."""
    return {"slice": None, "brain": brain_mask(batch["image"]), "tumour": batch["label"] > 0}


def over_modalities(found: Mapping[str, Mapping[str, jax.Array]]) -> dict[str, jax.Array]:
    """The numbers of the only modality; of several their means, and 'modality number' of each."""
    first = next(iter(found.values()))
    if len(found) == 1:
        return dict(first)
    means = {of: jnp.nanmean(jnp.stack([each[of] for each in found.values()]), 0) for of in first}
    each = {f"{name} {of}": value for name, own in found.items() for of, value in own.items()}
    return {**means, **each}


def _image_quality(
    prediction: jax.Array,
    target: jax.Array,
    regions: Mapping[str, jax.Array | None],
    counted: jax.Array | None,
    metrics: Sequence[str] = IMAGE_METRICS,
) -> dict[str, jax.Array]:
    """float32[B] of each 'region/metric'; `counted` restricts every region."""
    data_range = image.data_range(target, "target")
    functions: dict[str, Callable[[jax.Array | None], jax.Array]] = dict(
        zip(
            IMAGE_METRICS,
            (
                lambda mask: image.mse(prediction, target, mask),
                lambda mask: image.psnr(prediction, target, data_range, mask),
                lambda mask: image.psnr(prediction, target, FIXED_RANGE, mask),
                lambda mask: image.ssim(prediction, target, data_range, mask),
                lambda mask: image.ssim(prediction, target, data_range, mask, window="gaussian11"),
            ),
            strict=True,
        )
    )
    values = {}
    for region, whole in regions.items():
        mask = whole if counted is None else (counted if whole is None else whole & counted)
        for metric in metrics:
            values[f"{region}/{metric}"] = functions[metric](mask)
    return values
