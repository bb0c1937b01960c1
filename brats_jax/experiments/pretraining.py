"""A first stage taken from another run, and whether it fits this one."""

import json
from pathlib import Path
from typing import Any

from brats_jax.data.splits import Splits
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.runs import checkpoints
from brats_jax.runtime.files import write_json
from brats_jax.tasks import Pretraining

# What tells one pretraining from another; two that agree here have the same bits.
_IDENTITY = ("metric", "best", "best_step", "steps")


def find(run: Path, fold: int, store: Store, splits: Splits, task: Pretraining) -> Path:
    """The folder of the complete first stage of a fold in another run.

    Args:
      run: the other run folder (config.pretrain.run).
      fold: which fold.
      store, splits, task: this run's; the other's must be the same.

    Raises:
      BratsError: no run there, it is not complete, or it is of another store, split or model.
    """
    name = f"config.pretrain.run={run}"
    config = _read(run / "config.json", f"{name}: no run there")
    if config.get("store", {}).get("fingerprint") != store.fingerprint:
        raise BratsError(f"{name}: pretrained on another store than {store.path}")
    theirs = _read(run / "splits.json", f"{name}: it has no split")
    if theirs != splits.to_json():
        raise BratsError(
            f"{name}: pretrained on another split, so that its training patients may be among "
            "this run's test patients; give both the same config.data settings"
        )
    directory = run / f"fold_{fold}" / "pretrain"
    if not (directory / "complete.json").exists():
        raise BratsError(
            f"{name}: the pretraining of fold {fold} is not complete there; finish it first "
            "(--mode=pretrain)"
        )
    checkpoints.read_meta(directory / "best", task.describe())
    return directory


def pin(source: Path, directory: Path) -> None:
    """Records in <directory>/pretraining.json where a fold's encoder comes from.

    Args:
      source: what `find` returned.
      directory: this run's fold folder.

    Raises:
      BratsError: the fold was begun from a pretraining with another result.
    """
    path = directory / "pretraining.json"
    result = _read(source / "complete.json", f"{source}: no complete.json")
    if path.exists() and (directory / "segment").exists():
        before = _read(path, f"{path}: not there")["result"]
        if any(before.get(name) != result.get(name) for name in _IDENTITY):
            raise BratsError(
                f"{directory} was begun from another pretraining (best step "
                f"{before.get('best_step')}) than {source} (best step {result.get('best_step')}); "
                "give that one as config.pretrain.run, or another --workdir"
            )
    write_json(
        path,
        {
            "schema": "brats_jax.pretraining",
            "version": 1,
            "run": str(source.parent.parent),
            "result": result,
        },
    )


def _read(path: Path, missing: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise BratsError(f"{missing} ({path} is missing)") from None
    except (OSError, ValueError) as error:
        raise BratsError(f"{path}: cannot be read ({error})") from None
    if not isinstance(document, dict):
        raise BratsError(f"{path}: not a file of this program")
    return document
