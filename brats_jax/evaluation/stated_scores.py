"""The scores that the card of an exported model states: few, on patients it has not seen."""

from collections.abc import Mapping
from pathlib import Path

from brats_jax.errors import BratsError
from brats_jax.evaluation.summary import average
from brats_jax.inference.trained_run import TrainedRun
from brats_jax.runs.documents import Evaluation, FoldsScore, RunConfig
from brats_jax.runs.folder import STAGE_OF_TASK, RunFolder, locate_fold
from brats_jax.runs.settings import differences
from brats_jax.runs.weights_document import StatedScores
from brats_jax.runtime.document import read_document, read_if_there

_REGIONS = ("WT", "TC", "ET")
# Of whole volumes: metric and convention, in the order of the card.
_OF_VOLUMES = (
    ("dice", "brats2020"),
    ("hd95_mm", "brats2020"),
    ("missed", "truth_present"),
    ("invented", "truth_empty"),
)
_OF_IMAGES = (("mse", ""), ("ssim", "target range"))
# The network, and the linear regression of the target on the inputs.
_IMAGE_STAGES = ("pretrain", "regression")
# They choose which trainings there are, not how they train.
_CHOICES = ("folds", "seed", "data.split_seed", "data.test_fraction", "data.num_folds")


def scores_of(trained: TrainedRun, run: Path | None = None) -> StatedScores | None:
    """The scores to state of a model: those of its own trainings, or of another run.

    Args:
      trained: the model; of exported weights, the scores that they state already.
      run: another run, or one fold of it, trained with the same settings on some of the patients.
    """
    if run is None and trained.weights is not None:
        return trained.weights.tasks[trained.task_name].scores
    if run is not None:
        located = locate_fold(run)
        if located is None:
            raise BratsError(f"--scores={run}: no run there; give one that was evaluated")
        settings = trained.document.config
        return stated_scores(located[0], trained.task_name, settings=settings, only=located[1])
    steps = {member.fold: member.network.meta.step for member in trained.members}
    return stated_scores(RunFolder(trained.run), trained.task_name, steps=steps)


def stated_scores(
    run: RunFolder,
    task_name: str,
    *,
    steps: Mapping[int, int] | None = None,
    settings: Mapping[str, object] | None = None,
    only: int | None = None,
) -> StatedScores | None:
    """The scores of a run, averaged over its evaluated folds; None if there are none.

    Args:
      run: the run.
      task_name: 'segment' or 'reconstruct'.
      steps: by fold, the checkpoint that must have been evaluated; None for all evaluated folds, of
        another training than the model's.
      settings: of the model, where `run` is another training.
      only: one fold, alone.

    Raises:
      BratsError: a document of the run cannot be read.
    """
    stage = STAGE_OF_TASK[task_name]
    config = read_document(run.config_json, RunConfig)
    found = []
    for fold in run.folds() if only is None else [run.fold(only)]:
        evaluation = read_if_there(fold.evaluation_json, Evaluation)
        evaluated = evaluation.checkpoints.get(stage) if evaluation else None
        if evaluation is None or evaluated is None:
            continue
        if steps is None or steps.get(fold.number) == evaluated.step:
            found.append(evaluation)
    if not found:
        return None
    num_folds = int(config.config.get("data", {}).get("num_folds", len(found)))
    summary = average(found, num_folds)
    changed = differences(config.config, settings) if settings is not None else []
    return StatedScores(
        folds=summary.folds,
        of_folds=num_folds,
        patients=summary.patients,
        split_by=summary.split_by,
        other_settings=tuple(
            name for name in (line.split(":")[0] for line in changed) if name not in _CHOICES
        ),
        rows=tuple(_chosen(summary.rows, task_name)),
        same_weights=steps is not None,
    )


def _chosen(rows: tuple[FoldsScore, ...], task_name: str) -> list[FoldsScore]:
    def of_volumes(metric: str, convention: str) -> list[FoldsScore]:
        return [
            row
            for region in _REGIONS
            for row in rows
            if (row.stage, row.unit, row.over, row.of) == ("segment", "patient", "volumes", region)
            and (row.metric, row.convention) == (metric, convention)
        ]

    def of_images(metric: str, convention: str) -> list[FoldsScore]:
        return [
            row
            for stage in _IMAGE_STAGES
            for row in rows
            if (row.stage, row.unit, row.over) == (stage, "slice", "all slices")
            and row.of.split()[-1] in ("brain", "tumour")
            and (row.metric, row.convention) == (metric, convention)
        ]

    if task_name == "segment":
        found = [row for wanted in _OF_VOLUMES for row in of_volumes(*wanted)]
    else:
        found = [row for wanted in _OF_IMAGES for row in of_images(*wanted)]
    return [row for row in found if row.mean is not None]
