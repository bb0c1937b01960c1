"""A stage's best model, restored, and what it makes of slices."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from brats_jax import models
from brats_jax.data.pipeline import full_slices
from brats_jax.data.store.reader import Store
from brats_jax.models import Weights
from brats_jax.runs import checkpoints
from brats_jax.runtime import devices
from brats_jax.tasks import Batch, Segmentation, Task


class Restored:
    """The best model of a stage, ready to predict.

    Args:
      task: the stage, as configured; a checkpoint of another model is refused.
      directory: the stage's folder.
      mesh: the devices.

    Attributes:
      meta: the checkpoint's description (step, epoch, value by which it was chosen).
    """

    def __init__(self, task: Task, directory: Path, mesh: Mesh) -> None:
        self.task, self.mesh = task, mesh
        self.graph, params, stats = models.split(task.build(0))
        placed = devices.replicated(mesh)
        template = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=placed),
            {"params": params, "stats": stats},
        )
        state, self.meta = checkpoints.read(directory / "best", template, task.describe())
        self.params: Weights = state["params"]
        self.stats: Weights = state["stats"]

    def output(self, params: Weights, stats: Weights, x: jax.Array) -> jax.Array:
        """The network's output for x float32[B, H, W, C]; for use inside a compiled function."""
        return models.apply(self.graph, params, stats, x, train=False)[0]


def predict_slices(restored: Restored, store: Store, indices: np.ndarray) -> np.ndarray:
    """The network's output for a few slices: labels uint8[N, H, W], or images float32[N, H, W]."""
    # A whole multiple of the devices, so that every one of them has a share.
    batch_size = -(-len(indices) // restored.mesh.size) * restored.mesh.size

    @jax.jit
    def step(params: Weights, stats: Weights, batch: Batch) -> jax.Array:
        x, _ = restored.task.prepare(batch, training=False)
        output = restored.output(params, stats, x)
        if isinstance(restored.task, Segmentation):
            return jnp.argmax(output, axis=-1).astype(jnp.uint8)
        return output[..., 0]

    for batch, valid in batches(restored.mesh, store, indices, batch_size):
        return np.asarray(step(restored.params, restored.stats, batch))[valid]
    raise ValueError("no slices")


def brain_mask(images: jax.Array | np.ndarray) -> jax.Array:
    """bool[B, H, W]: pixels that differ, in any modality, from the slice's corner.

    The images are skull-stripped, so the corner is air; its stored value depends on the
    normalisation (the slice's minimum, or 0).
    """
    return (images != images[:, :1, :1, :]).any(axis=-1)  # type: ignore[return-value]


def batches(
    mesh: Mesh, store: Store, indices: np.ndarray, batch_size: int
) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
    """Whole slices on the devices, in order, and which of a batch count (bool[B]).

    The last batch is filled up with slices that do not count, at its end.
    """
    for batch in full_slices(store, indices, batch_size):
        valid, _ = batch.pop("valid"), batch.pop("index")
        yield devices.put_batch(batch, mesh), valid
