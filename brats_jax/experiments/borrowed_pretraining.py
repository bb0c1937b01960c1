"""A first stage taken from another run (config.pretrain.run)."""

from pathlib import Path

from brats_jax.data.folds import fold_title
from brats_jax.data.splits import Splits
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.experiments import config as experiment_config
from brats_jax.runs import checkpoints
from brats_jax.runs.documents import PretrainingSource, RunConfig, StageResult
from brats_jax.runs.folder import FoldFolder, RunFolder, StageFolder
from brats_jax.runs.settings import Settings
from brats_jax.runtime.document import read_document


def find(settings: Settings, fold: int, store: Store, splits: Splits) -> StageFolder:
    """The complete first stage of a fold in the run that config.pretrain.run names.

    Args:
      settings: of this run.
      fold: which fold.
      store, splits: of this run; the other's must be the same.

    Raises:
      BratsError: no run there, it is not complete, or it is of another store, split or model.
    """
    run = RunFolder(Path(settings.pretrain.run))
    name = f"config.pretrain.run={run.path}"
    if not run.config_json.exists():
        raise BratsError(f"{name}: no run there ({run.config_json} is missing)")
    if read_document(run.config_json, RunConfig).store.fingerprint != store.fingerprint:
        raise BratsError(f"{name}: pretrained on another store than {store.path}")
    if read_document(run.splits_json, Splits) != splits:
        raise BratsError(
            f"{name}: pretrained on another split, so that its training patients may be among "
            "this run's test patients; give both the same config.data settings"
        )
    stage = run.fold(fold).stage("pretrain")
    if not stage.is_complete:
        raise BratsError(
            f"{name}: the pretraining of {fold_title(fold)} is not complete there; finish it "
            "first (--mode=pretrain)"
        )
    checkpoints.read_meta(stage.best, experiment_config.pretraining(settings).describe())
    return stage


def record(source: StageFolder, folder: FoldFolder) -> None:
    """Writes pretraining.json, which names the origin of a fold's encoder.

    Args:
      source: the stage that `find` returned.
      folder: this run's fold.

    Raises:
      BratsError: the fold was started from a pretraining with another result.
    """
    result = read_document(source.complete_json, StageResult)
    if folder.pretraining_json.exists() and folder.stage("segment").path.exists():
        before = read_document(folder.pretraining_json, PretrainingSource).result
        if not before.has_the_weights_of(result):
            raise BratsError(
                f"{folder.path} was begun from another pretraining (best step "
                f"{before.best_step}) than {source.path} (best step {result.best_step}); "
                "give that one as config.pretrain.run, or another --workdir"
            )
    PretrainingSource(str(source.path.parent.parent), result).write(folder.pretraining_json)
