"""Checks the values of a configuration, and turns them into what the rooms below take."""

import math
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from brats_jax.data.augment import Augmentation
from brats_jax.data.device_store import PLACEMENTS
from brats_jax.data.modalities import CLASSES, MODALITIES
from brats_jax.data.splits import SPLIT_BY
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.fold import EvaluationOptions
from brats_jax.losses import SEGMENTATION_LOSSES, get_segmentation_loss
from brats_jax.runtime import devices
from brats_jax.tasks import Pretraining, Segmentation
from brats_jax.training.trainer import TrainOptions

SLICES = ("tumour", "all")

# Settings that runs of earlier versions do not know, which may go on and be evaluated.
ADDED = ("train.float32_epochs",)

# Settings that change how fast or how often, never the result: a run may be continued
# with other values of these.
FREE_TO_CHANGE = (
    "folds",
    "compilation_cache",
    "data.store",
    "data.workers",
    "data.threads",
    "data.placement",
    "train.log_every_steps",
    "train.save_every_steps",
    "train.steps_per_dispatch",
    "train.deterministic",
    "evaluation.panels",
    "evaluation.batch_size",
)

# A path, which may change when folders are moved: what is there is compared, not where it is.
PATHS = ("pretrain.run",)

# Random numbers of the two stages are kept apart by these.
PURPOSES = {"pretrain": 1, "segment": 2}


def check(config: ConfigDict) -> None:
    """Refuses values that no experiment can have.

    Raises:
      BratsError: names the setting, its value and the valid ones.
    """
    _one_of(config, "loss", tuple(SEGMENTATION_LOSSES))
    _one_of(config, "dtype", devices.DTYPES)
    _one_of(config, "data.split_by", SPLIT_BY)
    _one_of(config, "data.placement", PLACEMENTS)
    for name in ("pretrain.slices", "segment.slices", "evaluation.slices"):
        _one_of(config, name, SLICES)
    for name in (
        "train.batch_size",
        "train.validation_batch_size",
        "train.log_every_steps",
        "train.save_every_steps",
        "evaluation.batch_size",
        "model.width",
        "data.patch_size",
        "data.threads",
        "pretrain.epochs",
        "segment.epochs",
        "optim.decay_every_epochs",
    ):
        _at_least(config, name, 1)
    for name in (
        "seed",
        "data.split_seed",
        "data.workers",
        "train.steps_per_dispatch",
        "train.float32_epochs",
        "pretrain.steps_per_epoch",
        "segment.steps_per_epoch",
        "evaluation.panels",
        "focal_gamma",
    ):
        _at_least(config, name, 0)
    if config.model.width % 4:
        raise BratsError(f"config.model.width={config.model.width}: give a multiple of 4")
    for name in ("optim.learning_rate", "optim.decay_factor", "evaluation.tolerance_mm"):
        if not 0 < _value(config, name) < math.inf:
            raise BratsError(f"config.{name}={_value(config, name)}: must be positive and finite")
    for name in ("pretrain.tumour_probability", "segment.tumour_probability"):
        if not 0 <= _value(config, name) <= 1:
            raise BratsError(f"config.{name}={_value(config, name)}: give 0 to 1")
    if not 0 < config.data.test_fraction < 1:
        raise BratsError(f"config.data.test_fraction={config.data.test_fraction}: between 0 and 1")
    if not 0 < config.data.label_fraction <= 1:
        raise BratsError(
            f"config.data.label_fraction={config.data.label_fraction}: above 0, at most 1 (all)"
        )
    if config.pretrain.run and not config.ssl:
        raise BratsError(
            f"config.pretrain.run={config.pretrain.run} without pretraining (config.ssl=False); "
            "leave out one of them"
        )
    if len(config.focal_alpha) not in (0, len(CLASSES)):
        raise BratsError(
            f"config.focal_alpha has {len(config.focal_alpha)} weights; give one for each of "
            f"{', '.join(CLASSES)}, or none"
        )
    get_segmentation_loss(
        config.loss, alpha=tuple(config.focal_alpha) or None, gamma=config.focal_gamma
    )
    _modalities("pretrain.inputs", config.pretrain.inputs)
    _modalities("pretrain.target", (config.pretrain.target,))
    _modalities("segment.inputs", config.segment.inputs)
    if config.pretrain.target in config.pretrain.inputs:
        raise BratsError(
            f"config.pretrain.target={config.pretrain.target} is among config.pretrain.inputs; "
            "predicting what is given teaches nothing"
        )
    _folds(config)
    if not config.data.store:
        raise BratsError(
            "no data: give --config.data.store=STORE, a folder that "
            "`python -m brats_jax.prepare --source=DIR --store=STORE` has written"
        )
    if config.encoder_init != "random" and not Path(config.encoder_init).is_file():
        raise BratsError(
            f"config.encoder_init={config.encoder_init}: no such file; give 'random' or a "
            ".safetensors file of ResNet-50 weights"
        )
    if config.encoder_init != "random" and Path(config.encoder_init).suffix != ".safetensors":
        raise BratsError(
            f"config.encoder_init={config.encoder_init}: only .safetensors files are read, pickled "
            'ones never; convert it with safetensors.torch.save_file(state_dict, "x.safetensors")'
        )


def check_workdir(config: ConfigDict, workdir: Path) -> None:
    """Refuses to put a run or a grid into its store (BratsError)."""
    store, folder = Path(config.data.store).resolve(), workdir.resolve()
    if folder.is_relative_to(store):
        where = "is the store" if folder == store else f"lies in the store {store}"
        raise BratsError(f"{workdir} {where}, which holds nothing else: choose another --workdir")


def check_fit(config: ConfigDict, store: Store, mesh: Mesh) -> None:
    """Refuses settings that the data or the devices cannot serve, before anything is written.

    Raises:
      BratsError: a batch that the devices cannot share, a patch that does not fit a slice.
    """
    for name in ("train.batch_size", "train.validation_batch_size", "evaluation.batch_size"):
        devices.check_batch_size(_value(config, name), mesh, f"config.{name}")
    check_patches(config, store)


def check_patches(config: ConfigDict, store: Store) -> None:
    """Refuses patches that do not fit the store's slices (BratsError)."""
    height, width = store.slice_shape
    if config.data.patch_size > min(height, width):
        raise BratsError(
            f"config.data.patch_size={config.data.patch_size} does not fit slices of "
            f"{height} x {width} ({store.path}); give at most {min(height, width)}"
        )


def reconstruction(config: ConfigDict) -> Pretraining:
    """The first stage as configured."""
    return Pretraining(
        inputs=tuple(config.pretrain.inputs),
        target=config.pretrain.target,
        width=config.model.width,
        dtype=devices.compute_dtype(config.dtype),
        augmentation=_augmentation(config.pretrain.augmentation),
    )


def segmentation(config: ConfigDict) -> Segmentation:
    """The second stage as configured."""
    return Segmentation(
        inputs=tuple(config.segment.inputs),
        loss_name=config.loss,
        focal_gamma=config.focal_gamma,
        focal_alpha=tuple(config.focal_alpha) or None,
        width=config.model.width,
        dtype=devices.compute_dtype(config.dtype),
        augmentation=_augmentation(config.segment.augmentation),
    )


def split_options(config: ConfigDict) -> dict[str, Any]:
    """The arguments of `splits.make_splits`."""
    return {
        "split_by": config.data.split_by,
        "test_fraction": config.data.test_fraction,
        "num_folds": config.data.num_folds,
        "seed": config.data.split_seed,
    }


def train_options(config: ConfigDict, stage: str, fold: int) -> TrainOptions:
    """The numbers of one stage ('pretrain' or 'segment') of one fold."""
    return TrainOptions(
        epochs=config[stage].epochs,
        steps_per_epoch=config[stage].steps_per_epoch,
        batch_size=config.train.batch_size,
        learning_rate=config.optim.learning_rate,
        decay_factor=config.optim.decay_factor,
        decay_every_epochs=config.optim.decay_every_epochs,
        patch_size=config.data.patch_size,
        tumour_probability=config[stage].tumour_probability,
        validation_batch_size=config.train.validation_batch_size,
        save_every_steps=config.train.save_every_steps,
        log_every_steps=config.train.log_every_steps,
        seed=config.seed,
        purpose=PURPOSES[stage],
        fold=fold,
        workers=config.data.workers,
        threads=config.data.threads,
        placement=config.data.placement,
        steps_per_dispatch=config.train.steps_per_dispatch,
        deterministic=config.train.deterministic,
        float32_epochs=config.train.float32_epochs,
    )


def evaluation_options(config: ConfigDict) -> EvaluationOptions:
    """The settings of an evaluation."""
    return EvaluationOptions(
        slices=config.evaluation.slices,
        tolerance_mm=config.evaluation.tolerance_mm,
        batch_size=config.evaluation.batch_size,
        panels=config.evaluation.panels,
    )


def evaluation_facts(config: ConfigDict) -> dict[str, Any]:
    """The settings that evaluation.json repeats."""
    return {
        "inputs": list(config.pretrain.inputs),
        "target": config.pretrain.target,
        "loss": config.loss,
        "ssl": config.ssl,
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """'name: before -> now' for every setting that differs and decides the result."""
    old, new = _flat(before), _flat(now)
    return [
        f"{name}: {old.get(name)} -> {new.get(name)}"
        for name in sorted({**old, **new})
        if name not in FREE_TO_CHANGE
        and (name in old or name not in ADDED)
        and old.get(name) != new.get(name)
        and not (name in PATHS and old.get(name) and new.get(name))
    ]


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _value(config: ConfigDict, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value[part]
    return value


def _one_of(config: ConfigDict, name: str, valid: tuple[str, ...]) -> None:
    value = _value(config, name)
    if value not in valid:
        raise BratsError(f"config.{name}={value}: valid values are {', '.join(valid)}")


def _at_least(config: ConfigDict, name: str, least: int) -> None:
    value = _value(config, name)
    if not value >= least:
        raise BratsError(f"config.{name}={value}: give at least {least}")


def _modalities(name: str, values: tuple[str, ...]) -> None:
    wrong = [v for v in values if v not in MODALITIES]
    if wrong or not values or len(set(values)) != len(values):
        raise BratsError(
            f"config.{name}={', '.join(values)}: name each of {', '.join(MODALITIES)} at most once"
        )


def _folds(config: ConfigDict) -> None:
    folds, count = tuple(config.folds), config.data.num_folds
    # One fold has nothing to train on: it is the validation set.
    _at_least(config, "data.num_folds", 2)
    if not folds or any(not isinstance(f, int) or not 0 <= f < count for f in folds):
        raise BratsError(
            f"config.folds={folds}: valid are 0 to {count - 1} (config.data.num_folds={count}), "
            "for example --config.folds=0,1"
        )
    if len(set(folds)) != len(folds):
        raise BratsError(f"config.folds={folds}: name each fold once")


def _augmentation(switches: ConfigDict) -> Augmentation | None:
    chosen = dict(switches)
    return Augmentation(**chosen) if any(chosen.values()) else None
