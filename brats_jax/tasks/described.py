"""The task of a checkpoint, from the description in it."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from brats_jax.data.modalities import MODALITIES
from brats_jax.errors import BratsError
from brats_jax.tasks.base import Task
from brats_jax.tasks.pretraining import Pretraining
from brats_jax.tasks.segmentation import Segmentation

TASKS: dict[str, type[Task]] = {task.name: task for task in (Pretraining, Segmentation)}


def task_of(description: Mapping[str, Any], dtype: DTypeLike = jnp.float32) -> Task:
    """The task whose `describe` gave `description`: builds the network of a checkpoint.

    Loss and augmentation, which a description leaves out, have their defaults.

    Args:
      description: 'task', 'inputs', 'outputs' and 'width', as in a checkpoint's `model`.
      dtype: compute type of the network.

    Raises:
      BratsError: the description is of no network of this version.
    """
    try:
        task = TASKS[description["task"]].described_by(description, dtype)
        names = {*task.stem, *task.inputs}
        known = (
            task.describe() == description
            and names <= {*MODALITIES}
            and bool(task.inputs and task.outputs)
            and description.get("context", 0) in (0, 1, 2)
            and all(_is_share(description.get(name, 0)) for name in ("slope", "modality_dropout"))
        )
    except (LookupError, TypeError, BratsError):
        known = False
    if not known:
        raise BratsError(
            f"checkpoint of an unknown network ({description}); use the version of this program "
            "that wrote it, or train again"
        )
    return task


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1
