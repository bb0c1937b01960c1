"""Tables of the runs, their trainings, their splits, and the unfinished trainings of a grid."""

import json
from collections.abc import Sequence

from brats_jax.data.audit import Audit
from brats_jax.reporting.arms import LOSS_NAMES, percent
from brats_jax.reporting.read_runs import FoldFiles, Run, StageFiles, Study
from brats_jax.reporting.tables.table import (
    Column,
    Table,
    TableCell,
    make_table,
    number,
    text,
    whole,
)
from brats_jax.reporting.variants import variants_of
from brats_jax.runtime.text import plural

STAGE_NAMES = {"pretrain": "pretraining", "segment": "segmentation"}
_SETS = ("train", "validation", "test")


def run_table(study: Study) -> Table | None:
    """A row for each run folder."""
    rows = []
    variants = variants_of(study.runs)
    for run in study.runs:
        pretraining = variants[run.name][1]
        evaluated = sum(fold.evaluation is not None for fold in run.folds.values())
        versions = run.document.versions
        only = run.pretrains_only
        patients = run.label_patients
        labels = plural(patients, "patient") if patients else percent(run.fraction)
        rows.append(
            [
                text(run.name),
                text("pretraining alone" if only else LOSS_NAMES.get(run.loss, run.loss)),
                text(
                    ("SSL" if run.ssl else "baseline")
                    + (f" ({pretraining})" if pretraining else "")
                ),
                TableCell(labels, run.fraction),
                whole(run.seed),
                text(f"{evaluated} of {len(run.requested_folds) or len(run.folds)}"),
                text(run.split_by),
                text(run.document.devices or "not recorded"),
                text(
                    ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
                    or "not recorded"
                ),
            ]
        )
    heads: tuple[str, ...]
    heads = ("Run folder", "Loss", "Start", "Labels", "Seed", "Folds evaluated", "Split by")
    heads += ("Devices", "Versions")
    columns = [Column(head, words=head not in ("Labels", "Seed")) for head in heads]
    return make_table(
        "runs",
        "",
        "Runs",
        "Settings, devices and versions of each run.",
        columns,
        rows,
    )


def training_table(study: Study) -> Table | None:
    """A row for each training: state, best value, wall time."""
    rows = [
        [text(run.name), text(fold.number), *_training_cells(stage)]
        for run in study.runs
        for fold in run.folds.values()
        for stage in fold.stages.values()
    ]
    heads: tuple[str, ...]
    heads = ("Run folder", "Fold", "Stage", "State", "Chosen by", "Best", "At step", "Of steps")
    heads += ("Patches/s", "Wall time")
    words = ("Run folder", "Fold", "Stage", "State", "Chosen by")
    return make_table(
        "trainings",
        "",
        "Trainings",
        "Best value on the validation patients and its step; the checkpoint of that step is "
        "evaluated. With few labels it is chosen within the label budget, or the last one is "
        "taken, where the table says so. Wall time of the last call: for a training that was "
        "stopped and continued, the time after the last stop.",
        [Column(head, words=head in words) for head in heads],
        rows,
        detail=True,
    )


def _training_cells(stage: StageFiles) -> list[TableCell]:
    rates = [r["patches_per_second"] for r in stage.history if "patches_per_second" in r]
    rate = number(rates[-1] if rates else None, 1)
    done = stage.result
    if done is None:
        state = [text(STAGE_NAMES[stage.name]), text("not trained to the end"), text("")]
        return [*state, number(None), whole(None), whole(None), rate, number(None)]
    return [
        text(STAGE_NAMES[stage.name]),
        text("complete"),
        text(_chosen_by(done.metric, stage)),
        number(done.best, 4),
        whole(done.best_step),
        whole(done.steps),
        rate,
        TableCell(wall_time(done.seconds), done.seconds),
    ]


def _chosen_by(metric: str, stage: StageFiles) -> str:
    training = stage.training
    if training is None or training.selection == "validation":
        return metric
    if training.selection == "last":
        return f"last step; {metric} of the training patients"
    return f"{metric} of {plural(training.held_out, 'labelled patient')} held out"


def split_table(study: Study) -> Table | None:
    """Patients and slices in the sets of each fold, and the overlap of the sets."""
    rows: list[list[TableCell]] = []
    seen: set[str] = set()
    audits = [fold.audit for run in study.runs for fold in run.folds.values() if fold.audit]
    bare = ["unlabelled"] if any("unlabelled" in audit.patients for audit in audits) else []
    sets = [*_SETS, *bare]
    for run in study.runs:
        for fold in run.folds.values():
            if fold.audit is None:
                continue
            key = json.dumps([run.split_by, fold.number, fold.audit.to_json()], sort_keys=True)
            if key not in seen:
                seen.add(key)
                rows.append(_audit_row(run, fold, fold.audit, sets))
    columns = [
        Column("From", words=True),
        Column("Fold", words=True),
        Column("Split by", words=True),
        *(Column(name, head) for head in ("Patients", "Slices") for name in sets),
        Column("training, validation", "Patients in both"),
        Column("training, test", "Patients in both"),
        Column("validation", "Slices beside a training slice (%)"),
        Column("test", "Slices beside a training slice (%)"),
        Column("Audit", words=True),
    ]
    return make_table(
        "splits",
        "",
        "Split and leak audit",
        "Training, validation and test set of each fold. Neighbouring slices of a patient are "
        "nearly equal: test scores are too good where one is in training and the other in test. "
        "Runs with equal splits share a row."
        + (" Unlabelled scans are for pretraining alone." if bare else ""),
        columns,
        rows,
    )


def _audit_row(run: Run, fold: FoldFiles, audit: Audit, sets: Sequence[str]) -> list[TableCell]:
    shares = (
        audit.validation_slices_beside_a_training_slice,
        audit.test_slices_beside_a_training_slice,
    )
    return [
        text(run.name),
        text(fold.number),
        text(run.split_by),
        *(whole(audit.patients.get(name)) for name in sets),
        *(whole(audit.slices.get(name)) for name in sets),
        whole(audit.patients_in_train_and_validation),
        whole(audit.patients_in_train_and_test),
        *(number(100 * share, 1) for share in shares),
        text("LEAKS" if audit.leaks else "clean", strong=audit.leaks),
    ]


def unfinished_cell_table(study: Study) -> Table | None:
    """A row for each training of a grid that is not done."""
    rows = [
        [
            text(cell.name),
            text(cell.state, strong=cell.state == "failed"),
            whole(cell.attempts),
            text(study.below(cell.note)),
        ]
        for cell in study.cells
        if cell.state != "done"
    ]
    columns = [Column("Training", words=True), Column("State", words=True), Column("Attempts")]
    columns.append(Column("Reason", words=True))
    return make_table(
        "missing_cells",
        "",
        "Trainings of the grid that are not done",
        "The same grid command continues them.",
        columns,
        rows,
    )


def wall_time(seconds: float) -> str:
    """'1 h 05 min', '3 min 20 s', '41 s'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
