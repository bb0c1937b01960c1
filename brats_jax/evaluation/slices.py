"""Whole slices of a store: batches of them on the devices, predictions, patients and spacing."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from brats_jax.data.brain import brain_mask
from brats_jax.data.planes import spacing_along
from brats_jax.data.slice_facts import SliceFacts
from brats_jax.data.store.reader import Store
from brats_jax.data.whole_slices import whole_slice_batches
from brats_jax.evaluation.over_planes import OverPlanes
from brats_jax.evaluation.tallies import Slices
from brats_jax.inference.flips import OverFlips
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.inference.several_runs import chosen_planes
from brats_jax.models import Weights
from brats_jax.pretexts import Example
from brats_jax.runtime import devices
from brats_jax.tasks import Batch, Pretraining, Task

ProgressCallback = Callable[[int], Any]  # takes the number of slices done since the last call


def no_progress(slices: int) -> None:
    """A `ProgressCallback` that shows nothing."""


def facts_of(task: Task, store: Store) -> SliceFacts:
    """The facts of whole slices that a task's evaluation needs besides image and label."""
    return SliceFacts(store, task.slice_facts & {"seed"}, context=task.context)


def device_batches(
    mesh: Mesh,
    store: Store,
    indices: np.ndarray,
    batch_size: int,
    facts: SliceFacts | None = None,
) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
    """Batches of whole slices in the order of `indices`.

    Args:
      mesh: the devices.
      store, indices: the slices.
      batch_size: slices at a time.
      facts: what the batches need besides image and label; None: nothing.

    Yields:
      (batch, valid): image float16[B, H, W, 4] and label uint8[B, H, W] on the devices, and
      bool[B], False for the slices that fill up the end of the last batch.
    """
    for batch in whole_slice_batches(store, indices, batch_size, facts=facts):
        valid, _ = batch.pop("valid"), batch.pop("index")
        yield devices.put_batch(batch, mesh), valid


def predicted_labels(
    network: RestoredNetwork,
    store: Store,
    indices: np.ndarray,
    batch_size: int,
    *,
    tta: bool = False,
    planes: str = "",
) -> Iterator[tuple[jax.Array | np.ndarray, jax.Array | np.ndarray, np.ndarray]]:
    """A segmentation's labels of whole slices, in the order of `indices`.

    Args:
      network: a segmentation.
      store, indices: the slices.
      batch_size: slices at a time, a multiple of the number of devices.
      tta: average over flips (see `inference.flips`).
      planes: average over slices of these planes, as in config.evaluation.

    Yields:
      (prediction, truth, valid): uint8[B, H, W] twice, and bool[B] as in `device_batches`.

    Raises:
      BratsError: planes that the network was not trained on, or a volume that lacks slices.
    """
    record = network.meta.record
    if chosen := chosen_planes(record.planes, planes, "config.evaluation.planes: the network"):
        yield from OverPlanes(network, chosen, tta=tta).labels(store, indices, batch_size)
        return

    @jax.jit
    def predict(params: Weights, stats: Weights, batch: Batch) -> jax.Array:
        x = network.task.test_input(batch)
        return network.prediction(network.output(params, stats, x))

    flips, read = OverFlips(network), jax.jit(network.task.test_input)
    weights = (network.params, network.stats)
    facts = facts_of(network.task, store)
    for batch, valid in device_batches(network.mesh, store, indices, batch_size, facts):
        labels = flips.labels(read(batch)) if tta else predict(*weights, batch)
        yield labels, batch["label"], valid


def predict_slices(
    network: RestoredNetwork,
    store: Store,
    indices: np.ndarray,
    *,
    tta: bool = False,
    planes: str = "",
) -> np.ndarray:
    """Predicts a few slices in one batch, averaged as with `predicted_labels`.

    Returns:
      Labels uint8[N, H, W] of a segmentation. Of a pretraining the tested modalities: float32
      [N, H, W] of one, [N, H, W, K] of several. If its pretext hides pixels, all others are those
      of the slice (`completed`).
    """
    batch_size, task = devices.round_up(len(indices), network.mesh), network.task
    if not isinstance(task, Pretraining):
        ((labels, _, valid),) = predicted_labels(
            network, store, indices, batch_size, tta=tta, planes=planes
        )
        return np.asarray(labels)[valid]

    @jax.jit
    def step(params: Weights, stats: Weights, batch: Batch) -> jax.Array:
        example = task.test_example(batch)
        output = network.output(params, stats, example.input)
        return network.prediction(completed(task, output, example))

    def over_flips(batch: Batch) -> jax.Array:
        example = jax.jit(task.test_example)(batch)
        output = OverFlips(network).images(example.input)
        return network.prediction(completed(task, output, example))

    facts = facts_of(task, store)
    ((batch, valid),) = device_batches(network.mesh, store, indices, batch_size, facts)
    predicted = over_flips(batch) if tta else step(network.params, network.stats, batch)
    return np.asarray(predicted)[valid]


def completed(task: Pretraining, output: jax.Array, example: Example) -> jax.Array:
    """The network's output where pixels were hidden from it, and the real image elsewhere.

    For a pretext that hides no pixels: the output.
    """
    if not task.pretext.hides or example.weight is None:
        return output
    return jnp.where(example.weight > 0, output, example.target)


def network_inputs(task: Pretraining, store: Store, indices: np.ndarray) -> np.ndarray:
    """The network's input float32[N, H, W, I] of slices, in the order of its `stem_channels`."""
    facts = facts_of(task, store).of_whole(indices)
    arrays = {"image": store.read(indices)[0], **facts}
    batch = {name: jnp.asarray(array) for name, array in arrays.items()}
    return np.asarray(task.test_example(batch).input)


def describe_slices(store: Store, indices: np.ndarray, over: str = "all") -> Slices:
    """Patient and number of the slices at `indices`, int64[N] global indices.

    Args:
      store: the store.
      indices: of the slices.
      over: 'all' or 'tumour'. Volumes that lack slices are left out of scores over all slices.
    """
    numbers, patient = np.unique(store.patient_of[indices], return_inverse=True)
    names = [store.patients[p] for p in numbers]
    held = np.bincount(patient, minlength=len(names))
    return Slices(
        index=np.asarray(indices, np.int64),
        patient=patient.astype(np.int32),
        number=np.asarray(store.slice_number[indices], np.int32),
        patients=np.array(names),
        whole=(held == [len(store.slices_of(name)) for name in names]) & store.whole[numbers],
        tumour=store.has_tumour[indices],
        holes=~store.whole[numbers] if over == "all" else np.zeros(len(names), bool),
    )


def air_in(store: Store, indices: np.ndarray, images: np.ndarray) -> np.ndarray:
    """bool[slices, H, W]: where every modality has the value of air.

    Args:
      store: the store.
      indices: the slices.
      images: float16[slices, H, W, 4], their images.
    """
    return ~np.asarray(brain_mask(images, store.background[indices]))


def voxel_spacing_mm(store: Store, patient: str) -> tuple[float, float, float]:
    """Voxel size along height, width and slices; 1 mm where the source has none (BraTS)."""
    spacing = store.case(patient).spacing_mm
    return spacing_along(spacing, store.plane) if spacing else (1.0, 1.0, 1.0)
