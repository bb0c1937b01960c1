"""Validation at the end of an epoch, on whole slices."""

from collections.abc import Callable

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from brats_jax.data.slice_facts import SliceFacts
from brats_jax.data.store.reader import Store
from brats_jax.data.whole_slices import whole_slice_batches
from brats_jax.models import Weights
from brats_jax.runtime import devices
from brats_jax.tasks import Task
from brats_jax.training.steps import make_validation_step

IN_FLIGHT = 2  # batches on the devices at once


class Validation:
    """Loss and scores of a network over the validation slices.

    Args:
      task, graph: the task and its network.
      store: the data.
      slices: int[n] global indices of the validation slices.
      batch_size: slices in a batch, over all devices; fillers make it a multiple of their number.
      mesh: the devices.
      facts: data of a slice besides image and label that the task needs; None: no such data.
    """

    def __init__(
        self,
        task: Task,
        graph: nnx.GraphDef,
        store: Store,
        slices: np.ndarray,
        batch_size: int,
        mesh: Mesh,
        facts: SliceFacts | None = None,
    ) -> None:
        self._facts = facts
        self._task, self._mesh = task, mesh
        self._store, self._slices, self._batch_size = store, slices, batch_size
        self._filled_to = devices.round_up(batch_size, mesh)
        self._step = make_validation_step(task, graph, mesh, batch_size)

    def run(
        self, params: Weights, stats: Weights, between_batches: Callable[[], None]
    ) -> dict[str, float]:
        """Validates one state of the network.

        Args:
          params, stats: its parameters and BatchNorm statistics.
          between_batches: called before each batch; may raise to end the validation.

        Returns:
          'loss', the mean over batches weighted by their slices, and `Task.summarise`.
        """
        results: list[dict[str, jax.Array]] = []
        valid: list[np.ndarray] = []
        patients: list[np.ndarray] = []
        rows = devices.local_rows(self._filled_to, self._mesh)
        for batch in whole_slice_batches(
            self._store, self._slices, self._batch_size, rows, self._filled_to, self._facts
        ):
            between_batches()
            valid.append(batch.pop("valid"))
            patients.append(self._store.patient_of[batch.pop("index")])
            results.append(self._step(params, stats, devices.put_batch(batch, self._mesh)))
            if len(results) > IN_FLIGHT:
                jax.block_until_ready(results[-1 - IN_FLIGHT])
        host = jax.device_get(results)
        weights = np.array([v.sum() for v in valid], np.float64)
        keep = np.concatenate(valid)
        statistics = {
            name: np.concatenate([r[name] for r in host])[keep]
            for name in host[0]
            if name != "loss"
        }
        statistics["patient"] = np.concatenate(patients)[keep]
        loss = float(np.average([r["loss"] for r in host], weights=weights))
        return {"loss": loss, **self._task.summarise(statistics)}
