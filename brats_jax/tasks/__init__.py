"""The two training stages: their modalities, network, loss and validation score.

All that differs between the stages is here; one training loop serves both. The task of the first
stage is a pretext, a file in `pretexts/`.
"""

from brats_jax.tasks.base import Batch, Task
from brats_jax.tasks.described import TASKS, task_of
from brats_jax.tasks.pretraining import Pretraining, Weighted
from brats_jax.tasks.segmentation import Segmentation

__all__ = ["TASKS", "Batch", "Pretraining", "Segmentation", "Task", "Weighted", "task_of"]
