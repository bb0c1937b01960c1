"""Warnings that a reader needs before the numbers, and the list of everything that is missing."""

from collections.abc import Callable, Iterator, Sequence

from brats_jax.reporting import captions
from brats_jax.reporting.arms import LOSS_NAMES, Results
from brats_jax.reporting.comparison_sentences import FEW_PATIENTS
from brats_jax.reporting.comparisons import ALPHA, Comparison
from brats_jax.reporting.read_runs import FoldFiles, Study
from brats_jax.reporting.tables.provenance_tables import STAGE_NAMES
from brats_jax.reporting.training_variance import LEAST_GROUPS
from brats_jax.runtime.text import joined, plural

_NAMED = 6  # unfinished trainings named in a warning


def warnings(
    study: Study, results: Results, comparisons: Sequence[Comparison], missing: Sequence[str]
) -> Iterator[str]:
    """A sentence or two for each reason to read the numbers with care."""
    if any(run.is_phantom for run in study.runs):
        every = all(run.is_phantom for run in study.runs)
        yield (
            f"{'All' if every else 'Some'} of these patients are synthetic (the phantom): the "
            "numbers show that the program works, and say nothing about real brains."
        )
    measured = [*results.evaluated(), *results.evaluated("pretrain")]
    if any(one.evaluation.split_by != "patient" for one in measured):
        yield (
            "The split is by slice, as in the paper: slices of the same patients are in training "
            "and test, so every test score is too good. A split by patient estimates the score of "
            "a new patient."
        )
    holes = max((one.evaluation.with_holes for one in measured), default=0)
    if holes:
        yield (
            f"Of {plural(holes, 'test patient')} slices are missing in the data: they are left out "
            "of every number of volumes, and of those over all slices."
        )
    left = {
        stage: max(one.evaluation.left_out.get(stage, 0) for one in measured)
        for stage in sorted({s for one in measured for s in one.evaluation.left_out})
    }
    for stage, count in left.items():
        yield (
            f"Up to {plural(count, 'test patient')} of a fold lack a modality that "
            f"{STAGE_NAMES[stage]} needs, and are left out of its numbers."
        )
    patients = captions.least_patients(measured)
    if patients is not None and patients < FEW_PATIENTS:
        yield (
            f"The test set has {plural(patients, 'patient')}, which is too few for a conclusion. "
            f"With fewer than {FEW_PATIENTS} patients, intervals over patients alone are also too "
            "narrow."
        )
    smallest = min((c.result.smallest_p for c in comparisons), default=0.0)
    if comparisons and smallest * comparisons[0].family > ALPHA:
        corrected = ""
        if smallest <= ALPHA:
            corrected = f", and the correction multiplies it by up to {comparisons[0].family}"
        yield (
            "With so few patients the test cannot find a difference between SSL and baseline of "
            f"any size: its p cannot be below {smallest:.2g}{corrected}."
        )
    yield from _few_trainings(comparisons)
    yield from _repeated_trainings(results)
    unfinished = sorted(
        {
            f"{one.run.name} fold {one.fold}"
            for one in measured
            if one.stage in one.files.stages and one.files.stages[one.stage].result is None
        }
    )
    if unfinished:
        more = len(unfinished) - _NAMED
        names = f"{joined(unfinished[:_NAMED])}{f' and {more} more' if more > 0 else ''}"
        yield f"Evaluated before the end of training: {names}."
    variants = {a.variant for a in results.arms if a.variant}
    if variants:
        yield (
            "Some runs differ in more than loss, SSL, labels, fold and seed: "
            f"{'; '.join(sorted(variants))}. Runs with different settings are never averaged, "
            "and a baseline is compared only with SSL runs that have the same settings."
        )
    # One pretraining of all SSL arms is no difference: a baseline does not have its settings.
    pretrainings = {a.pretraining for a in results.arms if a.ssl}
    if len(pretrainings) > 1:
        yield (
            "SSL runs differ in their pretraining or what it transfers, which a baseline does not "
            f"have: {'; '.join(sorted(x for x in pretrainings if x))}. They are never averaged, "
            "and each is compared with the same baseline."
        )
    failed = sum(cell.state == "failed" for cell in study.cells)
    if failed:
        yield (
            f"{plural(failed, 'training')} of the grid failed (of {len(study.cells)}); the last "
            "section gives the reasons."
        )
    if missing:
        yield f"Incomplete: {plural(len(missing), 'item')} missing, listed in the last section."


def _few_trainings(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Results that hold for the trained networks only, and not for other trainings."""
    numbers = sorted({c.result.trainings for c in comparisons if c.result.only_these_trainings})
    if numbers:
        only = joined([captions.these_only(n) for n in numbers])
        yield (
            f"SSL and baseline are compared {only}: training again may change the result, and "
            f"fewer than {LEAST_GROUPS} folds, or {LEAST_GROUPS} seeds of one fold, do not tell by "
            "how much."
        )


def _repeated_trainings(results: Results) -> Iterator[str]:
    """Runs of the same arm, fold and seed, which count as one training."""
    for arm, group in results.arms.items():
        runs: dict[tuple[int, int], list[str]] = {}
        for one in group:
            runs.setdefault((one.fold, one.seed), []).append(one.run.name)
        names = {tuple(sorted(found)) for found in runs.values() if len(found) > 1}
        for repeated in sorted(names):
            yield (
                f"{joined(repeated)} have the same settings, fold and seed ({arm.label}): "
                "their mean counts as one training."
            )


def missing(study: Study, results: Results) -> Iterator[str]:
    """A line for each configuration, fold, grid training or file that is missing, and why."""
    absent = [
        f"{LOSS_NAMES[loss]} {'with SSL' if ssl else 'without SSL'}"
        for loss in LOSS_NAMES
        for ssl in (False, True)
        if results.main_arm(loss, ssl) is None
    ]
    if len(absent) == 2 * len(LOSS_NAMES):
        yield "No segmentation has been evaluated."
    elif absent:
        yield f"Of the paper's six configurations, not evaluated here: {joined(absent)}."
    yield from not_evaluated(study)
    for cell in study.cells:
        if cell.state == "failed":
            note = study.below(cell.note)
            yield f"Grid: {cell.name} failed{': ' + note if note else ''}."
    not_done = [c for c in study.cells if c.state not in ("done", "failed")]
    if not_done:
        count = plural(len(not_done), "training")
        states = joined(sorted({c.state for c in not_done}))
        yield f"Grid: {count} not done yet ({states})."
    for problem in dict.fromkeys(study.problems):
        yield f"Not read: {study.below(problem)}."


def not_evaluated(
    study: Study, title: Callable[[int], str] = lambda number: f"fold {number}"
) -> Iterator[str]:
    """A line for each run with folds that have no evaluation, and why; `title` names a fold."""
    for run in study.runs:
        unfinished = []
        for number in run.requested_folds or tuple(run.folds):
            state = _why_not_evaluated(run.folds.get(number))
            if state:
                unfinished.append(f"{title(number)} {state}")
        if unfinished:
            yield f"{run.name}: {'; '.join(unfinished)}."


def _why_not_evaluated(fold: FoldFiles | None) -> str:
    """Why a fold has no evaluation; '' if it has one."""
    if fold is None:
        return "not begun"
    if fold.evaluation is not None:
        return ""
    unfinished = [STAGE_NAMES[n] for n, stage in fold.stages.items() if stage.result is None]
    if unfinished:
        return f"not evaluated, its {unfinished[0]} is not complete"
    return "not evaluated" if fold.stages else "not begun"
