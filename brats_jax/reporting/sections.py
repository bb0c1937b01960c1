"""The sections of a report: what each of them says of a study, and what it cannot say."""

import dataclasses
from collections.abc import Iterator

from brats_jax.reporting import captions, comparisons, conclusions, provenance
from brats_jax.reporting.arms import LOSS_NAMES, Results, collect
from brats_jax.reporting.blocks import Block, Code, Points, Section, Words
from brats_jax.reporting.figures import loss_curves, result_charts, slice_pictures
from brats_jax.reporting.figures.figure import Figure
from brats_jax.reporting.read_runs import Study
from brats_jax.reporting.tables import convention_tables, paper_tables, worst_cases
from brats_jax.reporting.tables.table import Table
from brats_jax.runtime.text import plural


def build(study: Study) -> list[Section]:
    """Everything that can be said, in order; what cannot is said too."""
    results = collect(study)
    first = comparisons.primary(results)
    sections = [
        ("reconstruction", "Pretraining", list(_reconstruction(results))),
        ("configurations", "Experiments", list(_configurations(results))),
        ("paper", "The paper’s tables", list(_paper(results))),
        ("conventions", "Every convention, every metric", list(_conventions(results))),
        ("statistics", "Does SSL help?", list(_statistics(results, first))),
        ("labels", "Few labels", list(_labels(results))),
        ("curves", "Loss curves", list(_curves(study))),
        ("pictures", "Pictures", list(_pictures(study, results))),
        ("patients", "Patients", list(_patients(results))),
        ("provenance", "Where this comes from", list(_provenance(study))),
    ]
    # Last, because problems are found on the way.
    missing = tuple(provenance.missing(study, results))
    sections.append(("missing", "What is missing", list(_missing(missing))))
    top = list(_verdict(study, results, first, missing))
    every = [("verdict", "In short", top), *sections]
    return _numbered([Section(name, title, tuple(blocks)) for name, title, blocks in every])


def _numbered(sections: list[Section]) -> list[Section]:
    """Counts the tables and figures that the paper does not have: S1, S2, ... down the page."""
    count = {Table: 0, Figure: 0}
    found = []
    for section in sections:
        blocks: list[Block] = []
        for block in section.blocks:
            if isinstance(block, Table | Figure) and not block.number:
                count[type(block)] += 1
                number = f"{type(block).__name__} S{count[type(block)]}"
                block = dataclasses.replace(block, number=number)
            blocks.append(block)
        found.append(Section(section.name, section.title, tuple(blocks)))
    return found


def _verdict(
    study: Study,
    results: Results,
    first: list[comparisons.Comparison],
    missing: tuple[str, ...],
) -> Iterator[Block]:
    for line in conclusions.compared(study, results):
        yield Words(line)
    for line in conclusions.found(first, results):
        yield Words(line)
    if first:
        yield Points(
            "SSL minus baseline, mean over patients (95 % interval), with Holm’s correction",
            tuple(conclusions.by_loss(first)),
        )
    for line in conclusions.convention(results):
        yield Words(line)
    warnings = tuple(conclusions.warnings(study, results, first, missing))
    if warnings:
        yield Points("Mind", warnings, "warnings")
    yield from _some(convention_tables.ceiling_table(results))
    yield from _some(result_charts.convention_figure(results))


def _reconstruction(results: Results) -> Iterator[Block]:
    if not results.pretext:
        yield Words(
            "No pretraining has been evaluated, so there is nothing beside the paper’s Table 1 "
            "and Appendix Table 1.",
            missing=True,
        )
        return
    variant, group = max(results.pretext.items(), key=lambda item: len(item[1]))
    others = len(results.pretext) - 1
    detail = f" With {variant}." if variant and others else ""
    yield from paper_tables.reconstruction_tables(group, detail)
    yield from _some(paper_tables.image_quality_table(group))
    if others:
        yield Words(
            f"{plural(others, 'other pretraining')} with other settings are left out of "
            "these tables.",
            missing=True,
        )


def _configurations(results: Results) -> Iterator[Block]:
    if results.arms:
        yield from _some(paper_tables.configuration_table(results))
    else:
        yield Words("No segmentation has been evaluated.", missing=True)


def _paper(results: Results) -> Iterator[Block]:
    if not results.arms:
        yield Words(
            "Tables 3 to 6 and Appendix Tables 2 to 4 need an evaluated segmentation.", missing=True
        )
        return
    yield Words(
        "The paper’s numbers stand beside ours. Letters mark numbers of the paper that something "
        "else in it contradicts; the sentences are below each table. Its folds are of other "
        "patients: compare levels and spread, not fold with fold."
    )
    if not captions.all_slices(results.measured()):
        yield Words(
            "Only slices with tumour were evaluated: what stands beside the paper’s Dice is an "
            "average over other slices, and higher for it.",
            missing=True,
        )
    for loss in ("focal", "dice_focal", "dice_ce"):
        if any(arm.loss == loss for arm in results.arms):
            yield from paper_tables.loss_tables(results, loss)
        else:
            mean, folds = paper_tables.TABLES_OF_LOSS[loss]
            yield Words(
                f"No run with {LOSS_NAMES[loss]}: nothing stands beside Table {mean} and Appendix "
                f"Table {folds[1:]}.",
                missing=True,
            )
    yield from _some(paper_tables.table_6(results))
    yield Points(
        "What the paper’s text says and its own tables, or the text elsewhere, do not bear out",
        tuple(paper_tables.contradictions()),
    )


def _conventions(results: Results) -> Iterator[Block]:
    if not results.arms:
        yield Words("No segmentation has been evaluated.", missing=True)
        return
    if not any(key[1] == "volumes" for one in results.measured() for key in one.rows):
        yield Words(
            "No volumes in 3D: they need every slice of a patient in the test set (a split by "
            "patient, and --config.evaluation.slices=all).",
            missing=True,
        )
    for loss in results.losses:
        yield from convention_tables.tables_of(results, loss)


def _statistics(results: Results, first: list[comparisons.Comparison]) -> Iterator[Block]:
    if not first:
        for line in conclusions.found(first, results):
            yield Words(line, missing=True)
        if not results.arms:
            yield Words("No segmentation has been evaluated.", missing=True)
        return
    yield Words(
        "The unit is the patient: a patient’s folds and seeds are averaged first, and are never "
        "counted. Every fold is tested on the same patients, so n is theirs. Interval: bootstrap "
        "over patients. p: sign-flip permutation test of the mean difference, two-sided. Holm’s "
        "correction runs over each family by itself: the primary comparisons, the secondary ones, "
        "and those by share of labels. dz: mean difference over the standard deviation of the "
        "differences."
    )
    by_slice = comparisons.is_by_slice(first)
    what = (
        "Dice by slice, the mean over a patient’s slices that hold the region in either mask, as "
        "there are no volumes"
        if by_slice
        else "Dice in 3D, 1 where the region is in neither mask (BraTS 2020)"
    )
    over = captions.over(comparisons.compared(results, first))
    yield from _some(
        comparisons.comparison_table(
            first,
            "primary_comparisons",
            "Primary comparisons",
            f"{what}; WT, TC and ET under each loss, a family of {len(first)} chosen beforehand. "
            f"{over}",
            detail=False,
        )
    )
    yield from _some(result_charts.difference_figure(first))
    yield Points("The primary comparisons in words", tuple(c.sentence for c in first), "open")
    second = comparisons.secondary(results)
    if second:
        yield from _some(
            comparisons.comparison_table(
                second,
                "secondary_comparisons",
                "Secondary comparisons",
                "Looked at besides, to see where a difference comes from, and no ground for a "
                f"claim by themselves. HD95: BraTS 2020; ASD: pooled, where both masks hold the "
                f"region. Holm’s correction over these {len(second)}. {over}",
                detail=True,
            )
        )
        yield Points("The secondary comparisons in words", tuple(c.sentence for c in second))


def _labels(results: Results) -> Iterator[Block]:
    if len(results.fractions) < 2:
        share = (
            captions.listed([f"{100 * f:.3g} %" for f in results.fractions]) if results.arms else ""
        )
        saw = f": all runs saw {share} of the labels" if share else ""
        yield Words(
            f"No curve of Dice against the share of labels{saw}. It needs runs with several "
            "shares (--label_fractions of the grid).",
            missing=True,
        )
        return
    yield from _some(result_charts.label_figure(results))
    found = comparisons.by_fraction(results)
    if found:
        yield from _some(
            comparisons.comparison_table(
                found,
                "label_fractions",
                "SSL minus baseline by share of labels",
                "As the primary comparisons, at every share; Holm’s correction over these "
                f"{len(found)}.",
                detail=False,
            )
        )
        yield Points("In words", tuple(c.sentence for c in found))
    else:
        yield Words("No share of the labels has both SSL and baseline.", missing=True)


def _curves(study: Study) -> Iterator[Block]:
    for drawn, name in (
        (loss_curves.pretraining_curves(study), "Figure 5 (pretraining)"),
        (loss_curves.segmentation_curves(study), "Appendix Figure 1 (segmentation)"),
    ):
        if drawn is None:
            yield Words(f"{name} is missing: no epoch of it has been trained.", missing=True)
        else:
            yield drawn


def _pictures(study: Study, results: Results) -> Iterator[Block]:
    dataset = slice_pictures.dataset_figure(study.runs)
    reconstruction = slice_pictures.reconstruction_figure(results)
    segmentation = slice_pictures.segmentation_figures(results)
    for drawn in (dataset, reconstruction):
        yield Words(drawn, missing=True) if isinstance(drawn, str) else drawn
    if isinstance(segmentation, str):
        yield Words(segmentation, missing=True)
    else:
        yield from segmentation


def _patients(results: Results) -> Iterator[Block]:
    drawn = result_charts.distribution_figure(results)
    if drawn is None:
        yield Words("No tally of a segmentation is there to tell patients apart.", missing=True)
        return
    yield drawn
    yield from _some(worst_cases.worst_table(results))


def _provenance(study: Study) -> Iterator[Block]:
    facts = tuple(provenance.facts(study))
    if facts:
        yield Points("Data", facts)
    yield from _some(provenance.split_table(study))
    yield from _some(provenance.run_table(study))
    yield from _some(provenance.training_table(study))
    yield from _some(provenance.cell_table(study))
    if study.runs:
        yield Code("Configuration", provenance.configuration(study))


def _missing(lines: tuple[str, ...]) -> Iterator[Block]:
    if lines:
        yield Points("", lines)
    else:
        yield Words("Nothing: all that was asked for is here.")


def _some(block: Table | Figure | None) -> Iterator[Block]:
    if block is not None:
        yield block
