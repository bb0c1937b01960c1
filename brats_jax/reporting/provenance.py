"""Where the numbers come from: runs, splits, their audit, versions, wall time; what is missing."""

import json
from collections.abc import Iterator
from typing import Any

from brats_jax.data.modalities import DISPLAY_NAMES
from brats_jax.reporting import captions
from brats_jax.reporting.arms import LOSS_NAMES, Results, flat, percent
from brats_jax.reporting.read_runs import FoldFiles, Run, Study
from brats_jax.reporting.tables.table import (
    Cell,
    Column,
    Table,
    make_table,
    number,
    text,
    whole,
)
from brats_jax.runtime.text import plural

STAGE_NAMES = {"pretrain": "pretraining", "segment": "segmentation"}


def run_table(study: Study) -> Table | None:
    """A line for each run folder."""
    rows = []
    for run in study.runs:
        evaluated = sum(fold.evaluation is not None for fold in run.folds.values())
        versions = run.document.get("versions", {})
        only = run.pretrains_only
        rows.append(
            [
                text(run.name),
                text("pretraining alone" if only else LOSS_NAMES.get(run.loss, run.loss)),
                text("SSL" if run.ssl else "baseline"),
                Cell(percent(run.fraction), run.fraction),
                whole(run.seed),
                text(f"{evaluated} of {len(run.wanted_folds) or len(run.folds)}"),
                text(run.split_by),
                text(str(run.document.get("devices", "not recorded"))),
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
        "What each run was, and what it ran on. Folds count from 1 here, as in the paper, and from "
        "0 in settings and folders: fold 1 is fold_0.",
        columns,
        rows,
    )


def training_table(study: Study) -> Table | None:
    """A line for each training: state, best value, wall time."""
    rows = []
    for run in study.runs:
        for fold in run.folds.values():
            for name, stage in fold.stages.items():
                done = stage.complete or {}
                seconds = done.get("seconds")
                metric = str(done.get("metric", ""))
                rates = [
                    r["patches_per_second"] for r in stage.history if "patches_per_second" in r
                ]
                rows.append(
                    [
                        text(run.name),
                        text(fold.number + 1),
                        text(STAGE_NAMES[name]),
                        text("complete" if stage.complete else "not trained to the end"),
                        text(metric),
                        number(done.get("best"), 4),
                        whole(done.get("best_step")),
                        whole(done.get("steps")),
                        number(rates[-1] if rates else None, 1),
                        Cell(duration(seconds), seconds) if seconds is not None else number(None),
                    ]
                )
    heads: tuple[str, ...]
    heads = ("Run folder", "Fold", "Stage", "State", "Chosen by", "Best", "At step", "Of steps")
    heads += ("Patches/s", "Wall time")
    words = ("Run folder", "Fold", "Stage", "State", "Chosen by")
    return make_table(
        "trainings",
        "",
        "Trainings",
        "Folds count from 1 as in the paper, their folders from 0 (fold_0). "
        "Best value on the validation patients and the step it was reached at; that model is "
        "evaluated. Wall time of the last call: of a training that was stopped and continued, the "
        "part after the last stop.",
        [Column(head, words=head in words) for head in heads],
        rows,
        detail=True,
    )


def split_table(study: Study) -> Table | None:
    """Who is in which set of each fold, and what the sets have in common."""
    rows: list[list[Cell]] = []
    seen: set[str] = set()
    for run in study.runs:
        for fold in run.folds.values():
            if fold.audit is None:
                continue
            key = json.dumps([run.split_by, fold.number, fold.audit], sort_keys=True)
            if key not in seen:
                seen.add(key)
                rows.append(_audit_row(run, fold, fold.audit))
    columns = [
        Column("From", words=True),
        Column("Fold", words=True),
        Column("Split by", words=True),
        *(Column(name, head) for head in ("Patients", "Slices") for name in _SETS),
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
        "Sets of each fold. Neighbouring slices of a patient are nearly the same picture: where "
        "they lie on both sides, test scores are too good. Equal splits of several runs are shown "
        "once.",
        columns,
        rows,
    )


_SETS = ("train", "validation", "test")


def _audit_row(run: Run, fold: FoldFiles, audit: dict[str, Any]) -> list[Cell]:
    shares = [audit.get(f"{name}_slices_beside_a_training_slice") for name in _SETS[1:]]
    leaks = bool(audit.get("leaks"))
    return [
        text(run.name),
        text(fold.number + 1),
        text(run.split_by),
        *(whole(audit.get("patients", {}).get(name)) for name in _SETS),
        *(whole(audit.get("slices", {}).get(name)) for name in _SETS),
        whole(audit.get("patients_in_train_and_validation")),
        whole(audit.get("patients_in_train_and_test")),
        *(number(None if s is None else 100 * s, 1) for s in shares),
        text("LEAKS" if leaks else "clean", strong=leaks),
    ]


def cell_table(study: Study) -> Table | None:
    """A grid's trainings that are not done."""
    rows = [
        [
            text(cell.name),
            text(cell.state, strong=cell.state == "failed"),
            whole(cell.attempts),
            text(cell.note),
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
        "The same grid command goes on with them.",
        columns,
        rows,
    )


def facts(study: Study) -> Iterator[str]:
    """The data, in a line each."""
    stores: dict[str, None] = {}
    pretexts: dict[str, None] = {}
    for run in study.runs:
        store = run.document.get("store", {})
        source = store.get("source", {})
        inputs = run.config.get("pretrain", {}).get("inputs", ())
        target = run.config.get("pretrain", {}).get("target", "")
        pretext = ", ".join(DISPLAY_NAMES.get(str(name), str(name)) for name in inputs)
        line = (
            f"Store {store.get('fingerprint', 'unknown')} ({describe_source(source)}), normalised "
            f"by {store.get('normalisation', 'unknown')}"
        )
        place = run.config.get("data", {}).get("store", "")
        line += f", at {place}." if place else "."
        stores[line] = None
        if run.ssl:
            name = DISPLAY_NAMES.get(str(target), str(target))
            pretexts[f"Pretext: {name} from {pretext}."] = None
    yield from (*stores, *pretexts)


def describe_source(source: dict[str, Any]) -> str:
    """'phantom, 16 patients, seed 0'."""
    kind = str(source.get("kind", "source unknown"))
    more = [f"{source['patients']} patients"] if isinstance(source.get("patients"), int) else []
    if kind == "phantom" and "seed" in source:
        more.append(f"seed {source['seed']}")
    return ", ".join([kind, *more])


def is_phantom(run: Run) -> bool:
    """Whether it was trained on made-up patients."""
    return run.document.get("store", {}).get("source", {}).get("kind") == "phantom"


def configuration(study: Study) -> str:
    """The settings that all runs share, and those in which they differ, as JSON."""
    configs = [flat(run.config) for run in study.runs]
    names = sorted({name for config in configs for name in config})
    shared = {
        n: configs[0].get(n) for n in names if all(c.get(n) == configs[0].get(n) for c in configs)
    }
    document: dict[str, Any] = {"shared by all runs": shared}
    if len(shared) < len(names):
        document["by run"] = {
            run.name: {n: config.get(n) for n in names if n not in shared}
            for run, config in zip(study.runs, configs, strict=True)
        }
    return json.dumps(document, indent=2)


def missing(study: Study, results: Results) -> Iterator[str]:
    """What is not there, and why, a line each."""
    absent = [
        f"{LOSS_NAMES[loss]} {'with SSL' if ssl else 'without SSL'}"
        for loss in LOSS_NAMES
        for ssl in (False, True)
        if results.main(loss, ssl) is None
    ]
    if len(absent) == 2 * len(LOSS_NAMES):
        yield "No segmentation has been evaluated."
    elif absent:
        yield f"Of the paper's six configurations, not evaluated here: {captions.listed(absent)}."
    for run in study.runs:
        left = []
        for number_ in run.wanted_folds or tuple(run.folds):
            state = _state(run.folds.get(number_))
            if state:
                left.append(f"fold {number_ + 1} {state}")
        if left:
            yield f"{run.name}: {'; '.join(left)}."
    for cell in study.cells:
        if cell.state == "failed":
            yield f"Grid: {cell.name} failed{': ' + cell.note if cell.note else ''}."
    left_cells = [c for c in study.cells if c.state not in ("done", "failed")]
    if left_cells:
        count = plural(len(left_cells), "training")
        states = captions.listed(sorted({c.state for c in left_cells}))
        yield f"Grid: {count} not done yet ({states})."
    for problem in dict.fromkeys(study.problems):
        yield f"Not read: {problem.replace(f'{study.workdir}/', '')}."


def _state(fold: FoldFiles | None) -> str:
    """Why a fold has no evaluation; '' if it has one."""
    if fold is None:
        return "not begun"
    if fold.evaluation is not None:
        return ""
    unfinished = [STAGE_NAMES[n] for n, stage in fold.stages.items() if stage.complete is None]
    if unfinished:
        return f"not evaluated, its {unfinished[0]} is not complete"
    return "not evaluated" if fold.stages else "not begun"


def duration(seconds: float | None) -> str:
    """'1 h 05 min', '3 min 20 s', '41 s'."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
