"""Parses a ConfigDict into `runs.settings.Settings`, and settings into tasks and options."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from ml_collections import ConfigDict

from brats_jax import about
from brats_jax.data.folds import is_all
from brats_jax.data.patches import SAMPLINGS
from brats_jax.data.store.reader import Store
from brats_jax.data.store.summary import count_kinds
from brats_jax.errors import BratsError
from brats_jax.experiments.augmentation_settings import augmentation_of
from brats_jax.experiments.modality_checks import check_fusion, check_modality_dropout
from brats_jax.experiments.shared_batch import check_groups
from brats_jax.losses import get_segmentation_loss
from brats_jax.models.unet import AUXILIARY_STRIDES
from brats_jax.pretexts import PRETEXTS, Options
from brats_jax.runs.documents import GridConfig, RunConfig
from brats_jax.runs.settings import BEFORE, IF_ABSENT, Settings, differences
from brats_jax.runs.store_facts import StoreFacts
from brats_jax.runtime import devices
from brats_jax.runtime.console import print_line
from brats_jax.runtime.document import read_document
from brats_jax.tasks import Pretraining, Segmentation, Task
from brats_jax.tasks.segmentation import SELECTION_METRICS, VOLUME_DICE
from brats_jax.tasks.segmentation_outputs import OUTPUTS
from brats_jax.training.options import TrainOptions

# They keep the random numbers of the two stages apart.
PURPOSES = {"pretrain": 1, "segment": 2}

Started = TypeVar("Started", RunConfig, GridConfig)


def parse(config: ConfigDict) -> Settings:
    """The settings of an experiment; `check` refuses invalid values.

    Raises:
      BratsError: a setting is missing or of another type.
    """
    return Settings.from_json(json.loads(config.to_json_best_effort()))


def check(settings: Settings) -> None:
    """Refuses values that no experiment can have.

    Raises:
      BratsError: names the setting, its value and the valid ones.
    """
    settings.check()
    _check_folds(settings)
    _check_loss(settings)
    _check_stages(settings)
    for stage in PURPOSES:
        augmentation_of(stage, settings.stage(stage).augmentation)
    check_modality_dropout(settings)
    check_fusion(settings)
    _check_encoder_init(settings.encoder_init)
    _check_transfer(settings)
    _check_labels(settings)
    _check_selection(settings)
    _check_optimiser(settings)
    _check_evaluation(settings)
    check_groups(settings)
    if not settings.data.store:
        raise BratsError(
            "no data: give --config.data.store=STORE, a folder that "
            "`python -m brats_jax.prepare --source=DIR --store=STORE` has written"
        )


def _check_folds(settings: Settings) -> None:
    folds, count = settings.folds, settings.data.num_folds
    if is_all(settings.document.get("folds")):
        return
    if not folds or any(not 0 <= fold < count for fold in folds):
        raise BratsError(
            f"config.folds={folds}: valid are 0 to {count - 1} (config.data.num_folds={count}), "
            "for example --config.folds=0,1; or 'all', to train on all patients"
        )
    if len(set(folds)) != len(folds):
        raise BratsError(f"config.folds={folds}: name each fold once")


def _check_loss(settings: Settings) -> None:
    channels = OUTPUTS[settings.segment.outputs].channels
    if len(settings.focal_alpha) not in (0, len(channels)):
        raise BratsError(
            f"config.focal_alpha has {len(settings.focal_alpha)} weights; give one for each of "
            f"{', '.join(channels)} (config.segment.outputs={settings.segment.outputs}), or none"
        )
    if settings.segment.dice_present and settings.loss == "focal":
        raise BratsError(
            "config.segment.dice_present=True has no effect with config.loss=focal, which has no "
            "Dice loss; give --config.loss=dice_ce or dice_focal, or leave it out"
        )
    stride = AUXILIARY_STRIDES[-1]
    if settings.segment.deep_supervision and settings.data.patch_size < stride:
        raise BratsError(
            f"config.segment.deep_supervision with config.data.patch_size="
            f"{settings.data.patch_size}: the coarsest map has a pixel for {stride} x {stride}; "
            f"give patches of at least {stride}"
        )
    get_segmentation_loss(
        settings.loss, alpha=settings.focal_alpha or None, gamma=settings.focal_gamma
    )


def _check_stages(settings: Settings) -> None:
    pretrain = settings.pretrain
    if pretrain.run and not settings.ssl:
        raise BratsError(
            f"config.pretrain.run={pretrain.run} without pretraining (config.ssl=False); "
            "leave out one of them"
        )
    segment = settings.segment
    if segment.sampling != SAMPLINGS[0] and not segment.tumour_probability:
        raise BratsError(
            f"config.segment.sampling={segment.sampling} has no effect with "
            "config.segment.tumour_probability=0; give a probability above 0, or leave it out"
        )
    pretext = PRETEXTS[pretrain.task]
    both = [name for name in pretrain.targets if name in pretrain.inputs]
    if pretext.synthesises and both:
        raise BratsError(
            f"config.pretrain.target={both[0]} is among config.pretrain.inputs; "
            "predict a modality that is not an input"
        )
    if pretrain.task == "masked" and pretrain.mask_block > settings.data.patch_size // 2:
        raise BratsError(
            f"config.pretrain.mask_block={pretrain.mask_block} is more than half of "
            f"config.data.patch_size={settings.data.patch_size}; give smaller blocks"
        )


def _check_encoder_init(encoder_init: str) -> None:
    if encoder_init == "random":
        return
    if not Path(encoder_init).is_file():
        raise BratsError(
            f"config.encoder_init={encoder_init}: no such file; give 'random' or a "
            ".safetensors file of ResNet-50 weights"
        )
    if Path(encoder_init).suffix != ".safetensors":
        raise BratsError(
            f"config.encoder_init={encoder_init}: only .safetensors files are read, pickled "
            'ones never; convert it with safetensors.torch.save_file(state_dict, "x.safetensors")'
        )


def _check_transfer(settings: Settings) -> None:
    transfer, decoder = settings.transfer, settings.pretrain.decoder
    name = f"config.transfer.parts={transfer.parts}"
    if not settings.ssl:
        return
    if transfer.parts == "encoder_decoder" and decoder != "unet":
        raise BratsError(
            f"{name} with config.pretrain.decoder={decoder}: the segmentation's decoder is a "
            "U-Net; pretrain with --config.pretrain.decoder=unet, or transfer other parts"
        )
    if transfer.parts == "batch_norm_statistics" and transfer.slows_down:
        raise BratsError(
            f"{name} transfers no parameter that config.transfer.freeze_epochs or "
            "config.transfer.learning_rate_factor could concern; leave them at 0 and 1"
        )
    if transfer.other_stem == "encoder_init" and settings.encoder_init == "random":
        raise BratsError(
            "config.transfer.other_stem=encoder_init without a weight file; give "
            "--config.encoder_init=FILE.safetensors, or other_stem=random"
        )


def _check_labels(settings: Settings) -> None:
    data = settings.data
    if not data.label_patients:
        return
    if data.label_fraction != 1:
        raise BratsError(
            f"config.data.label_patients={data.label_patients} and "
            f"config.data.label_fraction={data.label_fraction}: give one of them"
        )
    if data.split_by != "patient":
        raise BratsError(
            f"config.data.label_patients={data.label_patients} with config.data.split_by=slice, "
            "which splits slices and not patients; give config.data.label_fraction"
        )


def _check_selection(settings: Settings) -> None:
    metric, data = settings.segment.selection_metric, settings.data
    if metric == VOLUME_DICE and data.split_by != "patient" and not settings.trains_on_all:
        raise BratsError(
            f"config.segment.selection_metric={metric} with config.data.split_by={data.split_by}, "
            "which leaves no whole volume in a validation set; give split_by=patient, or "
            f"selection_metric={SELECTION_METRICS[0]}"
        )


def _check_evaluation(settings: Settings) -> None:
    evaluation, data = settings.evaluation, settings.data
    name = f"config.evaluation.subsets={evaluation.subsets}"
    if not evaluation.subsets:
        return
    if evaluation.slices != "all":
        raise BratsError(
            f"{name} with config.evaluation.slices={evaluation.slices}: the Dice in 3D needs all "
            "slices; give --config.evaluation.slices=all"
        )
    if data.split_by != "patient" and not settings.trains_on_all:
        raise BratsError(
            f"{name} with config.data.split_by={data.split_by}, which leaves no whole volume in "
            "the test set; give split_by=patient, or leave subsets out"
        )


def _check_optimiser(settings: Settings) -> None:
    optim, default = settings.optim, IF_ABSENT["optim.weight_decay"]
    if optim.optimizer != "adamw" and optim.weight_decay != default:
        raise BratsError(
            f"config.optim.weight_decay={optim.weight_decay} has no effect with "
            f"config.optim.optimizer={optim.optimizer}; give --config.optim.optimizer=adamw, or "
            f"leave weight_decay at {default}"
        )
    pretrains = settings.ssl and not settings.pretrain.run
    for name in ["pretrain"] * pretrains + ["segment"]:
        epochs = settings.stage(name).epochs
        if optim.warmup_epochs >= epochs:
            raise BratsError(
                f"config.optim.warmup_epochs={optim.warmup_epochs}: give less than "
                f"config.{name}.epochs={epochs}, or 0 for no warm-up"
            )


def check_workdir(settings: Settings, workdir: Path) -> None:
    """Refuses to put a run or a grid into its store (BratsError)."""
    store, folder = Path(settings.data.store).resolve(), workdir.resolve()
    if folder.is_relative_to(store):
        where = "is the store" if folder == store else f"lies in the store {store}"
        raise BratsError(f"{workdir} {where}, which holds nothing else: choose another --workdir")


def check_patches(settings: Settings, store: Store) -> None:
    """Refuses patches that do not fit the store's slices (BratsError)."""
    height, width = store.slice_shape
    size = settings.data.patch_size
    if size > min(height, width):
        raise BratsError(
            f"config.data.patch_size={size} does not fit slices of {height} x {width} "
            f"({store.path}); give at most {min(height, width)}"
        )


def check_labels(store: Store, mode: str) -> None:
    """Refuses to segment without any labels of the classes (BratsError)."""
    if mode != "pretrain" and not store.labelled.any():
        raise BratsError(
            f"no patient of {store.path} has labels of the classes: give --mode=pretrain to train "
            "the first stage alone, or add labelled cases to the store"
        )


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


def describe_store(store: Store) -> StoreFacts:
    """The store, as config.json and grid.json have it."""
    return StoreFacts(
        fingerprint=store.fingerprint,
        source=store.manifest.source,
        normalisation=store.manifest.normalisation,
        patients=count_kinds(store.manifest),
        plane=store.manifest.plane,
    )


def versions() -> dict[str, str]:
    """The versions of this program and its libraries."""
    return {
        "brats_jax": about.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def as_begun(settings: Settings, recorded: Mapping[str, Any] | None) -> Settings:
    """Settings with which a run or grid of an earlier version goes on as it was begun.

    Args:
      settings: now.
      recorded: in config.json or grid.json; None for what is new.
    """
    for name, before in BEFORE.items():
        group, own = name.split(".")
        if recorded is None or own in recorded.get(group, {}):
            continue
        if settings.value(name) != before and settings.uses_few_labels:
            print_line(
                f"begun by an earlier version: goes on with config.{name}={before}, which chooses "
                "checkpoints by labels outside of the budget"
            )
        settings = settings.with_value(group, own, before)
    return settings


def read_unchanged(
    path: Path,
    kind: type[Started],
    document: Mapping[str, Any],
    store: Store,
    *,
    free: Sequence[str] = (),
) -> Started:
    """Reads what a folder was started with; refuses to continue it with anything else.

    Args:
      path: config.json or grid.json.
      kind: its class.
      document: the settings now, as JSON has them.
      store: the data now.
      free: beginnings of names that may differ, besides those that never change a result.

    Raises:
      BratsError: names every setting that differs; or the file cannot be read.
    """
    started = read_document(path, kind)
    changed = differences(started.config, document)
    changed = [line for line in changed if not line.startswith(tuple(free))]
    if changed:
        raise BratsError(
            f"{path.parent} was started with other settings ({'; '.join(changed)}); give another "
            "--workdir, or the settings it was started with"
        )
    if started.store.fingerprint != store.fingerprint:
        raise BratsError(
            f"{path.parent} was started on another store than {store.path}; give another "
            "--workdir, or the store it was started with"
        )
    return started
