"""The settings of experiments of a few seconds, and one that has run. Not tests."""

import json
import runpy
from pathlib import Path

from ml_collections import ConfigDict

from brats_jax.data.store.reader import Store
from brats_jax.experiments.config import parse
from brats_jax.models import resnet
from brats_jax.runs import checkpoints
from brats_jax.runs.settings import Settings

TINY = Path(__file__).with_name("tiny_config.py")
CONFIGS = Path(__file__).parents[1] / "configs"


def config_of(store: Store, cache: Path, **changes) -> ConfigDict:
    """tiny_config.py with three steps an epoch and `changes`: data__num_folds=8 and so on."""
    blocks = resnet.BLOCKS
    config = runpy.run_path(str(TINY))["get_config"]()
    resnet.BLOCKS = blocks  # `shallow` sets it, and takes it back
    config.data.store = str(store.path)
    config.compilation_cache = str(cache)
    for stage in ("pretrain", "segment"):
        config[stage].epochs = 2
        config[stage].steps_per_epoch = 3
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def settings_of(name: str = "base", **changes) -> Settings:
    """A file of configs/ with changes, data__num_folds for data.num_folds, as settings."""
    config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()
    config.data.store = "STORE"
    with config.unlocked():
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return parse(config)


def audit_of(workdir: Path, stages: tuple[str, ...]) -> dict:
    """What is written of leaks: the audit of fold 0, after its checkpoints were seen to agree."""
    fold = workdir / "fold_0"
    audit = json.loads((fold / "audit.json").read_text())
    for stage in stages:
        for which in ("best", "last"):
            record = checkpoints.read_meta(fold / stage / which).record
            assert record.leaks is audit["leaks"]
    return audit
