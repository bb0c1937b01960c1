"""Selects the scores for the card of an exported model, on patients that it has not seen."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from brats_jax.data.folds import ALL
from brats_jax.data.splits import Splits
from brats_jax.errors import BratsError
from brats_jax.evaluation import subset_summary
from brats_jax.evaluation.summary import average
from brats_jax.inference.chosen_cleaning import fitted_sizes, note_on_other_weights
from brats_jax.inference.trained_run import TrainedRun
from brats_jax.runs.documents import Evaluation, FoldsScore, RunConfig, StageResult
from brats_jax.runs.documents.cleaning import FittedCleaning, FittedSizes
from brats_jax.runs.documents.subsets import SubsetEvaluation, SubsetFiles, SubsetMean
from brats_jax.runs.documents.weights import StatedScores
from brats_jax.runs.folder import STAGE_OF_TASK, RunFolder, locate_fold
from brats_jax.runs.settings_comparison import differences
from brats_jax.runtime.document import read_document, read_if_readable, read_if_there

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
# Compared by content: the paths of stores say nothing.
_PLANES = "data.other_planes"
_SETTINGS_OF_CLEANING = ("min_component_mm3", "min_et_mm3", "clear_air")
# They choose which trainings there are, not how they train.
_CHOICES = ("folds", "seed", "data.split_seed", "data.test_fraction", "data.num_folds")


def scores_of(trained: TrainedRun, others: Sequence[Path] = ()) -> StatedScores | None:
    """The scores to state of a model; None if it was not evaluated.

    Args:
      trained: the model; of exported weights, the scores that they state already.
      others: other runs, or folds of them, whose scores are stated instead: trained with the same
        settings on some of the patients.

    Raises:
      BratsError: one of `others` is no run, or was not evaluated; a document cannot be read.
    """
    task = trained.task_name
    if others:
        found = [one for path in others for one in _evaluations_of(path, task)]
        return _stated(found, task, trained)
    if trained.weights is not None:
        return trained.weights.tasks[task].scores
    folds = [(m.fold, m.network.meta.step) for m in trained.members]
    own = [_evaluation(RunFolder(trained.run), fold, task, step) for fold, step in folds]
    known = [one for one in own if one is not None]
    return _stated(known, task, None) if known else None


def cleanings_of(
    trained: TrainedRun, others: Sequence[Path] = ()
) -> tuple[tuple[FittedSizes, ...], list[str]]:
    """The fitted sizes of the cleaning to export with a model, and notes for the user.

    Args:
      trained: the model; its own sizes come first.
      others: runs, or folds of them, whose sizes a model of all patients takes.

    Returns:
      A fit for each average over flips and planes, and the notes.

    Raises:
      BratsError: two of `others` have other sizes for the same average; a document cannot be read.
    """
    own, note = fitted_sizes(trained)
    notes = [note] if note else []
    if own or not trained.segments:
        return own, notes
    if any(member.fold != ALL for member in trained.members):
        return (), notes
    found: dict[Path, FittedSizes] = {}
    located = filter(None, map(locate_fold, others))
    runs = {run.path: run for run, _ in located}  # several folds of one run count once
    for run in runs.values():
        of_others = []
        for path in run.cleanings():
            document = read_document(path, FittedCleaning)
            if _is_of(run, document):
                found[path] = document.fitted
            else:
                of_others.append(path)
        if of_others:
            notes.append(note_on_other_weights(of_others, run.path))
    chosen: dict[tuple[bool, str], tuple[Path, FittedSizes]] = {}
    for path, fitted in found.items():
        first, same = chosen.setdefault((fitted.tta, fitted.planes), (path, fitted))
        if any(getattr(fitted, name) != getattr(same, name) for name in _SETTINGS_OF_CLEANING):
            raise BratsError(
                f"{first} and {path} have other settings of the cleaning: move those away that the "
                "model shall not use"
            )
    return tuple(replace(sizes, same_weights=False) for _, sizes in chosen.values()), notes


def _is_of(run: RunFolder, document: FittedCleaning) -> bool:
    """Whether sizes were fitted to the checkpoints that the folds of a run have now.

    A fold without a readable complete.json is not compared.
    """
    for fold in document.folds:
        path = run.fold(fold.fold).stage("segment").complete_json
        result = read_if_readable(path, StageResult)
        if result is not None and result.best_step != fold.step:
            return False
    return True


class _Evaluated(NamedTuple):
    run: RunFolder
    evaluation: Evaluation


def _evaluations_of(path: Path, task: str) -> list[_Evaluated]:
    located = locate_fold(path)
    if located is None:
        raise BratsError(f"--scores={path}: no run there; give one that was evaluated")
    run, only = located
    numbers = [fold.number for fold in run.folds()] if only is None else [only]
    found = [one for number in numbers if (one := _evaluation(run, number, task)) is not None]
    if not found:
        raise BratsError(f"--scores={path} has no evaluation of its {STAGE_OF_TASK[task]} stage")
    return found


def _evaluation(run: RunFolder, fold: int, task: str, step: int | None = None) -> _Evaluated | None:
    """A fold's evaluation of the stage of a task; of the checkpoint `step` if given."""
    evaluation = read_if_there(run.fold(fold).evaluation_json, Evaluation)
    evaluated = evaluation.checkpoints.get(STAGE_OF_TASK[task]) if evaluation else None
    if evaluation is None or evaluated is None or step not in (None, evaluated.step):
        return None
    return _Evaluated(run, evaluation)


def _stated(found: Sequence[_Evaluated], task: str, trained: TrainedRun | None) -> StatedScores:
    """The means over trainings.

    Args:
      found: the evaluations, one for each training.
      task: 'segment' or 'reconstruct'.
      trained: the model, if the evaluations are of other trainings than its own; the settings in
        which these differ are then stated. None: they are of the model itself.
    """
    # Of several runs two may have the same fold: each counts.
    evaluations = [replace(one.evaluation, fold=k) for k, one in enumerate(found)]
    summary = average(evaluations, len(evaluations))
    runs = {one.run.path: one.run for one in found}.values()
    changed: set[str] = set()
    for run in runs:
        if trained is not None:
            changed |= _differing(trained, read_document(run.config_json, RunConfig))
    return StatedScores(
        trainings=len(evaluations),
        patients=summary.patients if len(runs) == 1 else len(_tested(runs)),
        split_by=summary.split_by,
        other_settings=tuple(sorted(changed - {*_CHOICES})),
        rows=tuple(_chosen(summary.rows, task)),
        same_weights=trained is None,
        tta=any(one.tta for one in evaluations),
        planes=summary.planes if STAGE_OF_TASK[task] == "segment" else "",
        subsets=_subsets(found) if STAGE_OF_TASK[task] == "segment" else (),
    )


def _subsets(found: Sequence[_Evaluated]) -> tuple[SubsetMean, ...]:
    """The Dice from each subset of the modalities; () unless all trainings were evaluated so."""
    folds = []
    for number, one in enumerate(found):
        folder = one.run.fold(one.evaluation.fold).path
        fold = read_if_there(SubsetFiles(folder).json, SubsetEvaluation)
        if fold is None or not fold.is_complete or not fold.trained_for_missing:
            return ()
        if fold.checkpoint.step != one.evaluation.checkpoints["segment"].step:
            return ()
        folds.append(replace(fold, fold=number))
    return subset_summary.average(folds).rows if subset_summary.are_alike(folds) else ()


def _differing(trained: TrainedRun, other: RunConfig) -> set[str]:
    """The names of the settings in which another training differs from the model's."""
    lines = differences(other.config, trained.document.config)
    names = {line.split(":")[0] for line in lines} - {_PLANES}
    ours, theirs = trained.document.store.other_planes, other.store.other_planes
    if trained.weights is not None:  # which have the planes alone
        same = {*trained.record.other_planes} == {*theirs}
    else:
        same = ours == theirs
    return names if same else {*names, _PLANES}


def _tested(runs: Iterable[RunFolder]) -> set[str]:
    """The persons in the test set of any of the runs; all of a cross-validation."""
    splits = [read_document(run.splits_json, Splits) for run in runs]
    sets = [one.test for one in splits]
    sets += [names for one in splits if one.cross_validates for names in one.folds]
    return {name.split("/")[0] for names in sets for name in names}


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
