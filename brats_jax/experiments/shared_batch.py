"""Checks how devices can share the training batch of an experiment."""

from jax.sharding import Mesh

from brats_jax.errors import BratsError
from brats_jax.runs.settings import Settings
from brats_jax.runtime import devices
from brats_jax.training.forward import check_gradient_sum


def check_groups(settings: Settings) -> None:
    """Refuses groups of BatchNorm that do not make up the batch (BratsError)."""
    size, batch = settings.train.norm_group, settings.train.batch_size
    model, dropout = settings.model, settings.segment.modality_dropout
    own = model.fusion != "early" and model.fusion_weights == "own"
    by_modality = model.fusion == "stem" or own
    if by_modality and dropout:
        # A module that reads one modality is given the images of other patients of the batch in
        # place of missing ones (`fusion.base.stand_ins_of_batch`): of other groups and devices.
        for name, off in (("norm_group", 0), ("gradient_sum_dtype", devices.GRADIENT_SUMS[0])):
            value = getattr(settings.train, name)
            if value != off:
                raise BratsError(
                    f"config.train.{name}={value} does not go with config.segment.modality_dropout="
                    f"{dropout} and own weights of each modality (model.fusion={model.fusion}): "
                    "patients of other groups stand in for missing images; leave one of them out, "
                    "or give fusion=encoders or attention with shared weights"
                )
    if size and batch % size:
        raise BratsError(
            f"config.train.norm_group={size}: does not divide config.train.batch_size={batch}; "
            "give a divisor of it, or 0 for the whole batch"
        )


def check_batches(settings: Settings, mesh: Mesh) -> None:
    """Refuses a training batch that the devices cannot share (BratsError); others are filled up."""
    train = settings.train
    devices.check_batch_size(train.batch_size, mesh, "config.train.batch_size")
    check_gradient_sum(train.batch_size, train.norm_group, mesh.size, train.gradient_sum_dtype)
