"""Whole slices of a store, in batches on the devices, and what a network predicts for them."""

from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from brats_jax.data.store.reader import Store
from brats_jax.data.whole_slices import whole_slice_batches
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.models import Weights
from brats_jax.runtime import devices
from brats_jax.tasks import Batch


def device_batches(
    mesh: Mesh, store: Store, indices: np.ndarray, batch_size: int
) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
    """Batches of whole slices in the order of `indices`.

    Yields:
      (batch, valid): image float16[B, H, W, 4] and label uint8[B, H, W] on the devices, and
      bool[B], False for the slices that fill up the end of the last batch.
    """
    for batch in whole_slice_batches(store, indices, batch_size):
        valid, _ = batch.pop("valid"), batch.pop("index")
        yield devices.put_batch(batch, mesh), valid


def predict_slices(network: RestoredNetwork, store: Store, indices: np.ndarray) -> np.ndarray:
    """Predicts a few slices in one batch: labels uint8[N, H, W], or a modality float32[N, H, W]."""
    # A multiple of the number of devices: the batch is divided among them.
    batch_size = -(-len(indices) // network.mesh.size) * network.mesh.size

    @jax.jit
    def step(params: Weights, stats: Weights, batch: Batch) -> jax.Array:
        x, _ = network.task.prepare(batch, training=False)
        return network.prediction(network.output(params, stats, x))

    for batch, valid in device_batches(network.mesh, store, indices, batch_size):
        return np.asarray(step(network.params, network.stats, batch))[valid]
    raise ValueError("no slices")
