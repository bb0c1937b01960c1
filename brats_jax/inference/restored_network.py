"""The network of one stage of one fold, with the weights of its best checkpoint."""

from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from brats_jax import models
from brats_jax.models import Weights
from brats_jax.runs import checkpoints
from brats_jax.runs.folder import StageFolder
from brats_jax.runtime import devices
from brats_jax.tasks import Segmentation, Task
from brats_jax.tasks.segmentation_outputs import SegmentationOutputs


class WeightSource(Protocol):
    """Where the weights of a network come from, if not from a checkpoint."""

    def read(self, template: Any, model: dict[str, Any]) -> tuple[Any, checkpoints.CheckpointMeta]:
        """As `checkpoints.read` without the folder."""
        ...


class RestoredNetwork:
    """A network on the devices, ready for inference.

    Args:
      task: the stage; a checkpoint of another model is refused.
      source: the stage's folder, or exported weights.
      mesh: the devices; the weights are replicated over them.

    Attributes:
      params, stats: the weights and the running statistics of the normalisation layers.
      meta: the checkpoint's description (step, epoch, and the value that chose it).

    Raises:
      BratsError: no checkpoint, one that cannot be read, or one of another model.
    """

    def __init__(self, task: Task, source: StageFolder | WeightSource, mesh: Mesh) -> None:
        self.task, self.source, self.mesh = task, source, mesh
        self.graph, params, stats = models.abstract(lambda: task.build(0))
        placed = devices.replicated_sharding(mesh)
        template = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=placed),
            {"params": params, "stats": stats},
        )
        if isinstance(source, StageFolder):
            state, self.meta = checkpoints.read(source.best, template, task.describe())
        else:
            state, self.meta = source.read(template, task.describe())
        self.params: Weights = state["params"]
        self.stats: Weights = state["stats"]

    @property
    def segments(self) -> bool:
        """Whether the output is logits of classes or regions; otherwise it is one modality."""
        return isinstance(self.task, Segmentation)

    @property
    def channels(self) -> SegmentationOutputs:
        """What the channels of the output mean; of a segmentation."""
        assert isinstance(self.task, Segmentation)
        return self.task.channels

    def output(self, params: Weights, stats: Weights, x: jax.Array) -> jax.Array:
        """The network's output for x float32[B, H, W, C]; for use inside a compiled function."""
        return models.apply(self.graph, params, stats, x, train=False)[0]

    def prediction(self, output: jax.Array) -> jax.Array:
        """What the task predicts: labels uint8[B, H, W] of logits, or images (`Task.result`)."""
        return self.task.result(output)
