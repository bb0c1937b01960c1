"""The sections of a report that compare trainings: their tables, figures and sentences."""

from collections.abc import Iterator, Sequence

from brats_jax.reporting import attribution, captions, comparisons, conclusions, power, subsets
from brats_jax.reporting.arms import Results
from brats_jax.reporting.blocks import Block, Points, Words, if_any, in_words
from brats_jax.reporting.figures import result_charts, subset_maps
from brats_jax.reporting.subsets import SubsetArm
from brats_jax.reporting.tables import attribution_tables, comparison_tables, subset_tables
from brats_jax.reporting.training_variance import LEAST_GROUPS
from brats_jax.runtime.text import joined

_UNIT = (
    "The statistical unit is the patient: the folds and seeds of a patient are averaged first and "
    "do not count as n. "
)
_ONE_TEST_SET = (
    "All folds have the same test patients, and a network that is trained again "
    f"scores differently in all of them. With {LEAST_GROUPS} or more folds (or seeds of one fold), "
    "interval and p are therefore over patients and trainings: t with Satterthwaite’s degrees of "
    "freedom from a two-way analysis of variance, in which the seeds of a fold are one group. "
)
_CROSS_VALIDATION = (
    "Each patient is tested by one fold, and what a training does to all its patients is part of "
    f"the spread between folds. With {LEAST_GROUPS} or more folds, interval and p are therefore of "
    "a t test of the mean by the larger of two variances: between patients, and between the means "
    "of folds. "
)
_FEW_TRAININGS = (
    "With fewer trainings they are over patients alone (bootstrap interval, sign-flip permutation "
    "test) and hold for these trainings only."
)
_ONLY_THESE = (
    f"There are fewer than {LEAST_GROUPS} folds (or seeds of one fold): interval (bootstrap) and p "
    "(sign-flip permutation test) are over patients alone and hold for these trainings only. A "
    "network that is trained again scores differently. "
)
_TOO_FEW_PATIENTS = (
    f"There are fewer than {LEAST_GROUPS} folds (or seeds of one fold): p (sign-flip permutation "
    "test) is over patients alone and holds for these trainings only. The patients are too few to "
    "find a difference of any size, so that no interval is given. "
)


def ssl_against_baseline(
    results: Results, primary: list[comparisons.Comparison]
) -> Iterator[Block]:
    """SSL against the baseline: the primary and secondary comparisons."""
    if not primary:
        for line in conclusions.findings(primary, results):
            yield Words(line, missing=True)
        if not results.arms:
            yield Words("No segmentation has been evaluated.", missing=True)
        return
    crossed = any(one.cross_validates for one in results.evaluated())
    alone = [c.result.only_these_trainings for c in primary]
    method = _UNIT
    if not all(alone):
        method += _CROSS_VALIDATION if crossed else _ONE_TEST_SET
        method += _FEW_TRAININGS if any(alone) else ""
    else:
        few = all(c.result.n == 0 or comparisons.are_too_few(c.result) for c in primary)
        method += _TOO_FEW_PATIENTS if few else _ONLY_THESE
    yield Words(
        f"{method.strip()} Holm’s correction is applied to three families separately: primary "
        "comparisons, secondary comparisons, and comparisons by share of labels. dz: mean "
        "difference divided by the standard deviation of the patients’ differences."
    )
    quantity = (
        "Dice by slice, mean over the patient’s slices that hold the region in either mask, as "
        "there are no volumes"
        if comparisons.is_by_slice(primary)
        else "Dice in 3D, 1 for a region in neither mask (BraTS 2020)"
    )
    over = captions.over(comparisons.compared(results, primary))
    yield from if_any(
        comparison_tables.comparison_table(
            primary,
            "primary_comparisons",
            "Primary comparisons",
            f"{quantity}; WT, TC and ET under each loss, a family of {len(primary)} chosen in "
            f"advance. {over}",
            detail=False,
        )
    )
    yield from if_any(result_charts.difference_figure(primary))
    yield in_words("The primary comparisons in words", [c.sentence for c in primary])
    secondary = comparisons.secondary(results)
    if secondary:
        yield from if_any(
            comparison_tables.comparison_table(
                secondary,
                "secondary_comparisons",
                "Secondary comparisons",
                "These show where a difference comes from; by themselves they do not support a "
                "claim. HD95: BraTS 2020. ASD: pooled, where both masks hold the region; with "
                "penalty: 373.13 mm where one mask only holds it. Missed: the truth holds the "
                "region, the prediction is empty; invented: the reverse; both summed over the "
                "trainings. Holm’s "
                f"correction over these {len(secondary)}. {over}",
                detail=True,
            )
        )
        yield Points("The secondary comparisons in words", tuple(c.sentence for c in secondary))


def few_labels(results: Results) -> Iterator[Block]:
    """SSL and baseline at every share of the labels."""
    if len(results.fractions) < 2:
        budgets = joined(results.budgets or ["all labels"])
        used = f": all runs use {budgets}" if results.arms else ""
        yield Words(
            f"No curve of Dice against the share of labels{used}. It needs runs with several "
            "shares (--label_fractions or --label_patients of the grid).",
            missing=True,
        )
        return
    yield from if_any(result_charts.label_figure(results))
    by_fraction = comparisons.by_fraction(results)
    if by_fraction:
        yield from if_any(
            comparison_tables.comparison_table(
                by_fraction,
                "label_fractions",
                "SSL minus baseline by share of labels",
                "The primary comparisons at every share of the labels; Holm’s correction over "
                f"these {len(by_fraction)}.",
                detail=False,
            )
        )
        yield Points("In words", tuple(c.sentence for c in by_fraction))
    else:
        yield Words("No share of the labels has both SSL and baseline.", missing=True)


def missing_modalities(arms: Sequence[SubsetArm]) -> Iterator[Block]:
    """Segmentations from every subset of the modalities."""
    yield in_words("From fewer modalities", list(subsets.sentences(arms)))
    yield from if_any(subset_maps.subset_map(arms))
    yield from if_any(subset_tables.subset_table(arms))
    yield Words(subsets.published())
    yield from if_any(subset_tables.gain_table(subsets.gains(arms)))
    yield from if_any(subset_tables.drop_table(arms))


def controls(results: Results) -> Iterator[Block]:
    """Each pretext against the controls, and the power of these comparisons."""
    found = attribution.gains(results)
    if not found:
        yield Words(
            "No pretext can be compared with a control: that needs both in the same folds and "
            "seeds, with the same loss and label budget.",
            missing=True,
        )
        return
    lacking = [x for x in ("ImageNet", *attribution.CONTROLS) if x not in {g.over for g in found}]
    by_slice = attribution.mean_keys(results)[0][0] == "slice"
    quantity = f"Mean {'Dice by slice' if by_slice else '3D Dice'} of WT, TC and ET"
    yield from if_any(attribution_tables.attribution_table(found, quantity))
    if lacking:
        yield Words(
            f"Not evaluated: {joined(lacking)}. Without these controls a gain over "
            "nothing does not tell whether it comes from the pretext.",
            missing=True,
        )
    powered = [gain for gain in found if gain.spread is not None and gain.over == "nothing"]
    if powered:
        yield in_words(
            f"Power: what would show a gain of {power.GAIN:g}",
            [
                power.statement(
                    gain.spread,
                    f"{gain.arm.loss_name}, {gain.pretext} over nothing, {gain.arm.labels}"
                    f"{'' if gain.arm.patients else ' of the labels'}",
                )
                for gain in powered
                if gain.spread is not None
            ],
        )
