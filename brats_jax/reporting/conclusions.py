"""The opening sentences of a report: the evaluations compared, the differences found."""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence

from brats_jax.reporting import captions
from brats_jax.reporting.arms import LOSS_NAMES, Key, Results
from brats_jax.reporting.averages import mean_over_folds
from brats_jax.reporting.comparisons import (
    TOO_FEW,
    Comparison,
    is_by_slice,
    partly_compared,
    uncompared,
)
from brats_jax.reporting.paper.printed_numbers import printed_numbers
from brats_jax.reporting.read_runs import Study
from brats_jax.reporting.tables.convention_tables import best
from brats_jax.runtime.text import joined, plural

_RULES = ("paper", "present_only", "both_empty_1")


def scope(study: Study, results: Results) -> Iterator[str]:
    """The losses, starts, shares of labels and test set of the report."""
    if not results.arms:
        yield from _scope_without_segmentation(study, results)
        return
    losses = joined([LOSS_NAMES.get(x, x) for x in results.losses])
    start = {
        frozenset({True, False}): "with and without self-supervised pretraining (SSL)",
        frozenset({True}): "with self-supervised pretraining (SSL) only",
        frozenset({False}): "without pretraining only (the baseline)",
    }[frozenset(arm.ssl for arm in results.arms)]
    measured = results.evaluated()
    labels = f", with {joined(results.budgets)}" if results.budgets else ""
    yield (
        f"Segmentation under {losses}, {start}{labels}: "
        f"{plural(len(measured), 'evaluated training')}. Test set: "
        f"{captions.test_set(measured)}; {captions.repeats(measured)}."
    )


def _scope_without_segmentation(study: Study, results: Results) -> Iterator[str]:
    if results.pretrainings:
        yield (
            "Only the pretraining has been evaluated: the error of the predicted images is known, "
            "its effect on segmentation is not."
        )
        measured = results.evaluated("pretrain")
        yield f"Test set: {captions.test_set(measured)}; {captions.repeats(measured)}."
    elif study.problems:
        yield (
            "No evaluation of this version of the program was found. The last section lists the "
            "files that could not be used, and what to do about each."
        )
    else:
        yield "Nothing has been evaluated yet. The state of the trainings is below."


def findings(comparisons: Sequence[Comparison], results: Results) -> Iterator[str]:
    """The results of the primary comparisons, counted; or why there are none."""
    if not results.arms:
        return
    if not comparisons:
        yield from _why_not_compared(results)
        return
    counts = Counter(c.outcome for c in comparisons)
    n = sorted({c.result.n for c in comparisons})
    patients = plural(n[0], "patient") if len(n) == 1 else f"{n[0]} to {n[-1]} patients"
    phrases = {
        "SSL better": "SSL is better in",
        "SSL worse": "SSL is worse in",
        "no difference found": "no difference was found in",
        TOO_FEW: "the patients are too few to find a difference of any size in",
        "not tested": "too few patients have values for a test in",
    }
    total = len(comparisons)
    parts = [f"{words} {counts[name]}" for name, words in phrases.items() if counts[name]]
    outcome = f"of {plural(total, 'comparison')} {joined(parts)}"
    if len(counts) == 1 and total > 1:  # one verdict for all
        (name,) = counts
        each = f"any of the {total} comparisons"
        outcome = {
            "no difference found": f"no difference was found in {each}",
            TOO_FEW: f"too few patients to find a difference of any size in {each}",
            "not tested": f"none of {total} comparisons could be tested: too few patients have "
            "values",
        }.get(name, f"{name.replace(' ', ' is ')} in all {total} comparisons")
    metric = "Dice by slice" if is_by_slice(comparisons) else "3D Dice by patient"
    reach = "" if {*counts} <= {TOO_FEW, "not tested"} else f" {_reach(comparisons)}"
    yield f"SSL against the baseline, {metric} over {patients}: {outcome}.{reach}"
    yield from _uncompared(results)
    for ssl, both, either in partly_compared(results):
        yield (
            f"{ssl.label}, and its baseline are compared in the {both} of {either} folds and seeds "
            "that both have; the tables average all folds and seeds of each."
        )


def _reach(comparisons: Sequence[Comparison]) -> str:
    """The trainings for which the comparisons hold."""
    few = sorted({c.result.trainings for c in comparisons if c.result.only_these_trainings})
    if few:
        only = joined([captions.these_only(n) for n in few])
        some = "" if all(c.result.only_these_trainings for c in comparisons) else "In part this"
        return f"{some or 'This'} holds {only}."
    if all(c.result.over_folds for c in comparisons):
        return "The test includes the variance between trainings."
    return (
        "The test includes the variance between trainings on the same training patients, of one "
        "fold only."
    )


def _why_not_compared(results: Results) -> Iterator[str]:
    sides = {arm.ssl for arm in results.arms}
    unread = sum(not one.patient_scores for one in results.evaluated())
    if len(sides) == 1:
        lacking = "without" if True in sides else "with"
        yield f"The effect of pretraining is unknown: no run {lacking} it has been evaluated."
    elif unread:
        yield (
            f"SSL and baseline are not compared: the numbers by patient of "
            f"{plural(unread, 'evaluated training')} cannot be read. The last section says what to "
            "do about it."
        )
    elif not (yield from _uncompared(results)):
        yield (
            "SSL and baseline are not compared: no patient has values under both, or the runs "
            "differ in more than the pretraining (see the warnings)."
        )


def _uncompared(results: Results) -> Generator[str, None, bool]:
    """A line for each pair of arms without a common run; returns whether there was one."""
    pairs = uncompared(results)
    for ssl, _ in pairs:
        yield (
            f"Not compared: {ssl.label}, and its baseline. They have no fold and seed in common; "
            "the tables average all folds and seeds of each."
        )
    return bool(pairs)


def heading_of_findings(comparisons: Sequence[Comparison]) -> str:
    """The heading of `findings_by_loss`: it names interval and verdict where a line has them."""
    tested = [c for c in comparisons if c.outcome not in (TOO_FEW, "not tested")]
    with_interval = any(c.result.low == c.result.low for c in tested)
    return (
        f"SSL minus baseline: mean over patients{' (95 % interval)' if with_interval else ''}"
        f"{', verdict after Holm’s correction' if tested else ''}"
    )


def findings_by_loss(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """A line for each loss: difference, interval and verdict of each region."""
    groups: dict[str, list[Comparison]] = {}
    for c in comparisons:
        label = c.ssl.label.replace(", SSL", "", 1)
        groups.setdefault(label, []).append(c)
    for label, group in groups.items():
        parts = []
        few = all(c.outcome == TOO_FEW for c in group)  # these have no interval: it means little
        for c in group:
            r, digits = c.result, c.quantity.digits
            interval = f" ({r.low:+.{digits}f} to {r.high:+.{digits}f})"
            untested = r.low != r.low or c.outcome == TOO_FEW
            rest = "" if few else f"{'' if untested else interval}, {c.verdict}"
            parts.append(f"{c.quantity.key[2]} {r.mean_difference:+.{digits}f}{rest}")
        yield f"{label}: {'; '.join(parts)}{' (too few patients for a test)' if few else ''}."


def effect_of_convention(results: Results) -> Iterator[str]:
    """Dice of ED of the best arm under each convention, beside the paper's."""
    measured = results.evaluated()
    if not captions.all_slices(measured):
        if measured:
            yield (
                "Only slices with tumour were evaluated. The paper's convention, an average over "
                "all slices, and volumes in 3D need --config.evaluation.slices=all."
            )
        return
    of = "ED"
    share = mean_over_folds(measured, ("slice", "all slices", of, "in_truth", ""))[0]
    paper, present, both = (best(results, _slice_dice(of, rule)) for rule in _RULES)
    volume = best(results, ("patient", "volumes", of, "dice", "brats2020"))
    printed = [
        n.printed
        for n in printed_numbers()
        if n.table in "345" and n.of == of and n.metric == "dice"
    ]
    in_space = f", {volume:.2f} by patient in 3D" if volume == volume else ""
    yield (
        "The convention determines the level of the Dice. The paper averages over all slices and "
        f"counts 0 where a class is in neither mask. {of} is in {100 * share:.0f} % of these test "
        f"slices, so no model can exceed {share:.2f} under it. The best arm has {paper:.2f} under "
        f"it (the paper prints {min(printed)} to {max(printed)}), {present:.2f} over the slices "
        f"where either mask holds {of}, {both:.2f} if agreement on absence counts 1{in_space}, all "
        "from the same predictions."
    )


def _slice_dice(of: str, rule: str) -> Key:
    return ("slice", "all slices", of, "dice", rule)
