"""Parses a ConfigDict into `runs.settings.Settings`, and settings into tasks and options."""

import json
from typing import Any

from ml_collections import ConfigDict

from brats_jax.experiments.augmentation_settings import augmentation_of
from brats_jax.pretexts import Options
from brats_jax.runs.settings import Settings
from brats_jax.runtime import devices
from brats_jax.tasks import Pretraining, Segmentation, Task
from brats_jax.training.options import TrainOptions

# They keep the random numbers of the two stages apart.
PURPOSES = {"pretrain": 1, "segment": 2}


def parse(config: ConfigDict) -> Settings:
    """The settings of an experiment; `checks.check_settings` refuses invalid values.

    Raises:
      BratsError: a setting is missing or of another type.
    """
    return Settings.from_json(json.loads(config.to_json_best_effort()))


def pretraining(settings: Settings) -> Pretraining:
    """The first stage."""
    pretrain = settings.pretrain
    return Pretraining(
        inputs=pretrain.inputs,
        context=pretrain.context,
        targets=pretrain.targets,
        pretext_name=pretrain.task,
        options=Options(
            pretrain.mask_ratio, pretrain.mask_block, pretrain.mask_together, pretrain.noise
        ),
        decoder=pretrain.decoder,
        loss_name=pretrain.loss,
        width=settings.model.width,
        slope=settings.model.slope,
        fusion_name=settings.model.fusion,
        fusion_weights=settings.model.fusion_weights,
        dtype=devices.compute_dtype(settings.dtype),
        augmentation=augmentation_of("pretrain", settings.pretrain.augmentation),
    )


def segmentation(settings: Settings) -> Segmentation:
    """The second stage."""
    return Segmentation(
        inputs=settings.segment.inputs,
        context=settings.segment.context,
        outputs_name=settings.segment.outputs,
        loss_name=settings.loss,
        focal_gamma=settings.focal_gamma,
        focal_alpha=settings.focal_alpha or None,
        label_smoothing=settings.segment.label_smoothing,
        dice_present=settings.segment.dice_present,
        selection_metric=settings.segment.selection_metric,
        deep_supervision=settings.segment.deep_supervision,
        modality_dropout=settings.segment.modality_dropout,
        width=settings.model.width,
        slope=settings.model.slope,
        fusion_name=settings.model.fusion,
        fusion_weights=settings.model.fusion_weights,
        dtype=devices.compute_dtype(settings.dtype),
        augmentation=augmentation_of("segment", settings.segment.augmentation),
    )


def task(settings: Settings, stage: str) -> Task:
    """The stage 'pretrain' or 'segment'."""
    return pretraining(settings) if stage == "pretrain" else segmentation(settings)


def stages_of(settings: Settings, mode: str = "train") -> tuple[str, ...]:
    """The stages that a run trains and evaluates, in order.

    Without 'pretrain' if no encoder is pretrained, or if it is that of another run.

    Args:
      settings: of the run.
      mode: 'train' and 'evaluate': both stages; 'pretrain': the first alone.
    """
    pretrains = settings.ssl and not settings.pretrain.run
    return ("pretrain",) * pretrains + ("segment",) * (mode != "pretrain")


def split_options(settings: Settings) -> dict[str, Any]:
    """The arguments of `splits.make_splits`."""
    if settings.trains_on_all:
        return {"all_train": True, "seed": settings.data.split_seed}
    return {
        "split_by": settings.data.split_by,
        "test_fraction": settings.data.test_fraction,
        "num_folds": settings.data.num_folds,
        "seed": settings.data.split_seed,
        "training_only": tuple(filter(None, settings.data.training_only.split(","))),
    }


def train_options(settings: Settings, stage: str, fold: int) -> TrainOptions:
    """The options of the stage 'pretrain' or 'segment' of one fold."""
    own, data, train, optim = settings.stage(stage), settings.data, settings.train, settings.optim
    return TrainOptions(
        epochs=own.epochs,
        steps_per_epoch=own.steps_per_epoch,
        batch_size=train.batch_size,
        learning_rate=own.learning_rate or optim.learning_rate,
        decay_factor=optim.decay_factor,
        decay_every_epochs=optim.decay_every_epochs,
        schedule=optim.schedule,
        optimizer=optim.optimizer,
        weight_decay=optim.weight_decay,
        warmup_epochs=optim.warmup_epochs,
        clip_norm=optim.clip_norm,
        patch_size=data.patch_size,
        tumour_probability=own.tumour_probability,
        validation_batch_size=train.validation_batch_size,
        save_every_steps=train.save_every_steps,
        log_every_steps=train.log_every_steps,
        seed=settings.seed,
        purpose=PURPOSES[stage],
        fold=fold,
        workers=data.workers,
        threads=data.threads,
        placement=data.placement,
        steps_per_dispatch=train.steps_per_dispatch,
        deterministic=train.deterministic,
        float32_epochs=train.float32_epochs,
        ema=train.ema,
        norm_group=train.norm_group,
        gradient_sum=train.gradient_sum_dtype,
        **(_segment_options(settings) if stage == "segment" else {}),
    )


def _segment_options(settings: Settings) -> dict[str, Any]:
    transfer = settings.transfer
    return {
        "sampling": settings.segment.sampling,
        "freeze_epochs": transfer.freeze_epochs,
        "transferred_factor": transfer.learning_rate_factor,
    }
