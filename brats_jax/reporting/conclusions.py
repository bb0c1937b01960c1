"""The answer in plain words, before any table: what was compared, what was found, what to mind."""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence

from brats_jax.reporting import captions
from brats_jax.reporting.arms import LOSS_NAMES, Key, Results, over_folds, percent
from brats_jax.reporting.comparison_sentences import FEW_PATIENTS
from brats_jax.reporting.comparisons import (
    Comparison,
    is_by_slice,
    partly,
    uncompared,
    verdict,
)
from brats_jax.reporting.paper.printed_numbers import printed_numbers
from brats_jax.reporting.provenance import is_phantom
from brats_jax.reporting.read_runs import Study
from brats_jax.reporting.tables.convention_tables import best
from brats_jax.runtime.text import plural


def compared(study: Study, results: Results) -> Iterator[str]:
    """What this report is about."""
    arms = list(results.arms)
    if not arms and not results.pretext and study.problems:
        yield (
            "Nothing was found that this version of the program has evaluated. What could not be "
            "used, and what to do about it, stands at the end."
        )
        return
    if not arms:
        if results.pretext:
            yield (
                "Only the pretraining was evaluated: how well FLAIR is predicted, and nothing yet "
                "about segmentation."
            )
            measured = results.measured("pretrain")
            yield f"Test set: {captions.test_set(measured)}; {captions.repeats(measured)}."
        else:
            yield "Nothing has been evaluated yet; what there is of the trainings is below."
        return
    losses = captions.listed([LOSS_NAMES.get(x, x) for x in results.losses])
    sides = {arm.ssl for arm in arms}
    start = {
        frozenset({True, False}): "with and without self-supervised pretraining (SSL)",
        frozenset({True}): "with self-supervised pretraining (SSL) only",
        frozenset({False}): "without pretraining only (the baseline)",
    }[frozenset(sides)]
    measured = results.measured()
    shares = results.fractions
    labels = f", with {captions.listed([percent(x) for x in shares])} of the labels"
    yield (
        f"Segmentation under {losses}, {start}{labels if shares != [1.0] else ''}: "
        f"{plural(len(measured), 'evaluated training')}. Test set: "
        f"{captions.test_set(measured)}; {captions.repeats(measured)}."
    )


def found(comparisons: Sequence[Comparison], results: Results) -> Iterator[str]:
    """What the primary comparisons say, counted; the sentences follow one by one."""
    if not results.arms:
        return
    if not comparisons:
        sides = {arm.ssl for arm in results.arms}
        if len(sides) == 1:
            lacking = "without" if True in sides else "with"
            yield (
                f"Nothing can be said about what pretraining does: no run {lacking} it has been "
                "evaluated."
            )
        elif unread := sum(not one.patients for one in results.measured()):
            yield (
                f"SSL and baseline are not compared: the numbers by patient of "
                f"{plural(unread, 'evaluated training')} cannot be read, as stands at "
                "the end, with what to do about it."
            )
        elif not (yield from _uncompared(results)):
            yield (
                "SSL and baseline are not compared: no patient has values under both, or the runs "
                "differ in more than the pretraining (see the warnings)."
            )
        return
    counts = Counter(verdict(c) for c in comparisons)
    n = sorted({c.result.n for c in comparisons})
    patients = plural(n[0], "patient")
    if len(n) > 1:
        patients = f"{n[0]} to {n[-1]} patients"
    told = {
        "SSL better": "SSL is better in",
        "SSL worse": "SSL is worse in",
        "no difference found": "no difference was found in",
        "not tested": "too few patients have values for a test in",
    }
    total = len(comparisons)
    # "in all" and "in any" where it is one and the same of several.
    whole = {name: "any" if name == "no difference found" else "all" for name in told}
    parts = [
        f"{words} {whole[name] if counts[name] == total > 1 else counts[name]}"
        for name, words in told.items()
        if counts[name]
    ]
    of = f"of {plural(total, 'comparison')} {captions.listed(parts)}"
    if counts["not tested"] == total > 1:
        of = f"none of {total} comparisons could be tested: too few patients have values"
    metric = "Dice by slice" if is_by_slice(comparisons) else "3D Dice by patient"
    yield (f"SSL against the baseline, {metric} over {patients}: {of}.")
    yield from _uncompared(results)
    for ssl, both, every in partly(results):
        yield (
            f"{ssl.label}, and its baseline are compared in the {both} of {every} folds and seeds "
            "that both have; the tables average each over all that it has."
        )


def _uncompared(results: Results) -> Generator[str, None, bool]:
    """A line for each pair without a run in common; returns whether there was one."""
    pairs = uncompared(results)
    for ssl, _ in pairs:
        yield (
            f"Not compared: {ssl.label}, and its baseline. They have no fold and seed in common; "
            "the tables average each over what it has."
        )
    return bool(pairs)


def by_loss(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """A line for each loss: the differences found, and those that were not."""
    groups: dict[str, list[Comparison]] = {}
    for c in comparisons:
        label = c.ssl.label.replace(", SSL", "", 1)
        groups.setdefault(label, []).append(c)
    for label, group in groups.items():
        parts = []
        for c in group:
            r, digits = c.result, c.quantity.digits
            interval = "" if r.low != r.low else f" ({r.low:+.{digits}f} to {r.high:+.{digits}f})"
            parts.append(
                f"{c.quantity.key[2]} {r.mean_difference:+.{digits}f}{interval}, {verdict(c)}"
            )
        yield f"{label}: {'; '.join(parts)}."


def convention(results: Results) -> Iterator[str]:
    """What the paper's convention does to Dice, with our numbers."""
    measured = results.measured()
    if not captions.all_slices(measured):
        if measured:
            yield (
                "Only slices with tumour were evaluated, so that neither the paper's convention, "
                "an average over all slices, nor volumes in 3D can be shown: evaluate with "
                "--config.evaluation.slices=all."
            )
        return
    of = "ED"
    share = over_folds(measured, ("slice", "all slices", of, "in_truth", ""))[0]
    paper, present, both = (best(results, _slice_dice(of, rule)) for rule in _RULES)
    volume = best(results, ("patient", "volumes", of, "dice", "brats2020"))
    printed = [
        n.printed
        for n in printed_numbers()
        if n.table in "345" and n.of == of and n.metric == "dice"
    ]
    in_space = f", and {volume:.2f} by patient in 3D" if volume == volume else ""
    yield (
        f"The convention decides the Dice. The paper's averages over all slices and counts 0 where "
        f"a class is in neither mask. {of} is in {100 * share:.0f} % of these test slices, so "
        f"under it no model can exceed {share:.2f}. The best arm here gets {paper:.2f} (the paper "
        f"prints {min(printed)} to {max(printed)}); over the slices where either mask holds {of} "
        f"it is {present:.2f}, with 1 for agreement on absence {both:.2f}{in_space}. The "
        "predictions are the same."
    )


def warnings(
    study: Study, results: Results, comparisons: Sequence[Comparison], missing: Sequence[str]
) -> Iterator[str]:
    """What a reader has to know before believing a number."""
    if any(is_phantom(run) for run in study.runs):
        every = all(is_phantom(run) for run in study.runs)
        yield (
            f"{'These are' if every else 'Some of these are'} made-up patients (the phantom): the "
            "numbers show that everything runs, and say nothing about brains."
        )
    measured = [*results.measured(), *results.measured("pretrain")]
    if any(one.evaluation["split_by"] != "patient" for one in measured):
        yield (
            "The split is by slice, as in the paper: slices of the same patients are in training "
            "and test, so that every test score is too good. Evaluate a split by patient to "
            "know what a new patient would get."
        )
    patients = min((int(one.evaluation["patients"]) for one in measured), default=None)
    if patients is not None and patients < FEW_PATIENTS:
        yield (
            f"The test set has {plural(patients, 'patient')}: too few to conclude from. "
            f"Below {FEW_PATIENTS} patients the intervals are too narrow as well."
        )
    smallest = min((c.result.smallest_p for c in comparisons), default=0.0)
    if comparisons and smallest * comparisons[0].family > 0.05:
        yield (
            "With so few patients the test cannot find a difference after correction, however "
            f"large: its smallest p is {smallest:.2g}, times up to {comparisons[0].family}."
        )
    unfinished = {
        f"{one.run.name} fold {one.fold + 1}"
        for one in measured
        if one.stage in one.files.stages and one.files.stages[one.stage].complete is None
    }
    if unfinished:
        names = captions.listed(sorted(unfinished)[:6])
        more = f" and {len(unfinished) - 6} more" if len(unfinished) > 6 else ""
        yield f"Evaluated although not trained to the end: {names}{more}."
    variants = {a.variant for a in results.arms if a.variant} | {
        a.pretext for a in results.arms if a.pretext
    }
    if variants:
        yield (
            "Runs differ in more than loss, pretraining, labels, fold and seed "
            f"({'; '.join(sorted(variants))}). Those are never averaged, and a baseline is "
            "compared only with SSL runs that share its settings."
        )
    failed = sum(cell.state == "failed" for cell in study.cells)
    if failed:
        yield (
            f"{plural(failed, 'training')} of the grid failed (of {len(study.cells)}): "
            "the reasons stand at the end."
        )
    if missing:
        yield f"Incomplete: {plural(len(missing), 'thing')} missing, listed at the end."


_RULES = ("paper", "present_only", "both_empty_1")


def _slice_dice(of: str, rule: str) -> Key:
    return ("slice", "all slices", of, "dice", rule)
