"""The sections of a report and their content, from top to bottom."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from brats_jax.reporting import (
    captions,
    caveats,
    comparison_sections,
    comparisons,
    conclusions,
    provenance,
    subsets,
    yardsticks,
)
from brats_jax.reporting.arms import LOSS_NAMES, Results, collect
from brats_jax.reporting.blocks import Block, Code, Points, Words, if_any, in_words
from brats_jax.reporting.figures import loss_curves, result_charts, slice_pictures
from brats_jax.reporting.figures.figure import Figure
from brats_jax.reporting.paper.printed_tables import TABLES_OF_LOSS
from brats_jax.reporting.read_runs import Study
from brats_jax.reporting.tables import (
    convention_tables,
    paper_tables,
    provenance_tables,
    worst_cases,
    yardstick_tables,
)
from brats_jax.reporting.tables.table import Table
from brats_jax.runtime.text import plural

# (target, inputs) of the paper's slicing, on the order of the Kaggle files.
_AS_SLICED = ("t2", {"flair", "t1"})


@dataclass(frozen=True)
class Section:
    """A section of the page: `name` for links, heading, content."""

    name: str
    title: str
    blocks: tuple[Block, ...]


def build(study: Study) -> list[Section]:
    """All sections in order; a section names the tables and figures that it lacks, and why."""
    results = collect(study)
    primary = comparisons.primary(results)
    beside = yardsticks.compare_with_yardsticks(results)
    sections = [
        ("pretraining", "Pretraining", list(_pretraining(results, beside))),
        ("configurations", "Experiments", list(_configurations(results))),
        ("paper", "The paper’s tables", list(_paper(results))),
        ("conventions", "Every convention, every metric", list(_conventions(results))),
        (
            "statistics",
            "Does SSL help?",
            list(comparison_sections.ssl_against_baseline(results, primary)),
        ),
        ("labels", "Few labels", list(comparison_sections.few_labels(results))),
        ("attribution", "Where a gain comes from", list(comparison_sections.controls(results))),
        ("curves", "Loss curves", list(_curves(study))),
        ("pictures", "Pictures", list(_pictures(study, results))),
        ("patients", "Patients", list(_patients(results))),
        ("provenance", "Data, runs and settings", list(_provenance(study))),
    ]
    if arms := subsets.arms_of(results):  # most reports have none
        place = [name for name, *_ in sections].index("labels") + 1
        blocks = list(comparison_sections.missing_modalities(arms))
        sections.insert(place, ("modalities", "Missing modalities", blocks))
    # After the other sections, which add to the list of unreadable files.
    missing = tuple(caveats.missing(study, results))
    sections.append(("missing", "Missing results", list(_missing(missing))))
    top = list(_summary(study, results, primary, missing, beside))
    every = [("verdict", "Summary", top), *sections]
    return _numbered([Section(name, title, tuple(blocks)) for name, title, blocks in every])


def _numbered(sections: list[Section]) -> list[Section]:
    """Numbers the tables and figures that the paper does not have: S1, S2, ... down the page."""
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


def _summary(
    study: Study,
    results: Results,
    primary: list[comparisons.Comparison],
    missing: tuple[str, ...],
    beside: list[yardsticks.YardstickComparison],
) -> Iterator[Block]:
    for line in (*conclusions.scope(study, results), *conclusions.findings(primary, results)):
        yield Words(line)
    verdicts = tuple(yardsticks.verdicts(beside))
    if len(verdicts) > 1:
        yield Points("Pretrainings against the regression per voxel", verdicts, "open")
    elif verdicts:
        yield Words(verdicts[0])
    if primary:
        yield Points(
            conclusions.heading_of_findings(primary),
            tuple(conclusions.findings_by_loss(primary)),
        )
    for line in conclusions.effect_of_convention(results):
        yield Words(line)
    warnings = tuple(caveats.warnings(study, results, primary, missing))
    if warnings:
        yield Points("Warnings", warnings, "warnings")
    yield from if_any(convention_tables.ceiling_table(results))
    yield from if_any(result_charts.convention_figure(results))


def _pretraining(results: Results, beside: list[yardsticks.YardstickComparison]) -> Iterator[Block]:
    if not results.pretrainings:
        yield Words(
            "No pretraining has been evaluated, so the paper’s Table 1 and Appendix Table 1 have "
            "no counterpart here.",
            missing=True,
        )
        return
    variant, group = next(iter(results.pretrainings.items()))
    left_out = {*results.pretrainings} - {variant}
    others = [captions.pretraining_name(results, x) for x in results.pretrainings if x in left_out]
    detail = ""
    if others:
        shown = captions.pretraining_name(results, variant)
        detail = f" Pretraining shown: {shown}.{captions.start_of_ssl(results, variant)}"
    if any((o.evaluation.target, {*o.evaluation.inputs}) == _AS_SLICED for o in group):
        yield Words(
            "This pretraining predicts T2 from FLAIR and T1, as the paper’s probably did: its code "
            "takes the first two channels of a Kaggle slice for T1 and T1Gd and the last for "
            "FLAIR, and these files hold FLAIR, T1, T1Gd, T2."
        )
    yield from paper_tables.pretraining_tables(group, detail)
    yield from if_any(yardstick_tables.yardstick_table(results))
    if beside:
        yield from if_any(yardstick_tables.comparison_table(beside))
        yield in_words("In words", yardsticks.in_words(beside))
    else:
        yield Words(
            "No yardsticks stand beside the pretraining: these evaluations are of an earlier "
            "version, or what it predicts is among its inputs. The command that trained, with "
            "--mode=evaluate, adds them.",
            missing=True,
        )
    yield from if_any(paper_tables.image_quality_table(group, detail))
    if others:
        yield Words(
            "Table 1, Appendix Table 1 and the table of image quality leave out "
            f"{plural(len(others), 'other pretraining')} of this report: {'; '.join(others)}"
            f"{', from which the SSL runs started' * (results.segmented_from == left_out)}.",
            missing=True,
        )


def _configurations(results: Results) -> Iterator[Block]:
    if results.arms:
        yield from if_any(paper_tables.configuration_table(results))
    else:
        yield Words("No segmentation has been evaluated.", missing=True)


def _paper(results: Results) -> Iterator[Block]:
    if not results.arms:
        yield Words(
            "Tables 3 to 6 and Appendix Tables 2 to 4 need an evaluated segmentation.", missing=True
        )
        return
    yield Words(
        "The paper’s numbers are beside ours. A letter marks a number that another part of the "
        "paper contradicts; the footnote below the table says how. The paper’s folds hold other "
        "patients than ours: compare level and spread, not fold with fold."
    )
    if not captions.all_slices(results.evaluated()):
        yield Words(
            "Only slices with tumour were evaluated: our Dice is an average over fewer slices than "
            "the paper’s, and higher for this reason.",
            missing=True,
        )
    for loss in ("focal", "dice_focal", "dice_ce"):
        if any(arm.loss == loss for arm in results.arms):
            yield from paper_tables.loss_tables(results, loss)
        else:
            mean, folds = TABLES_OF_LOSS[loss]
            yield Words(
                f"No run with {LOSS_NAMES[loss]}: Table {mean} and Appendix Table {folds[1:]} have "
                "no counterpart here.",
                missing=True,
            )
    yield from if_any(paper_tables.summary_table(results))
    yield Points(
        "Sentences of the paper that its tables or other sentences contradict",
        tuple(paper_tables.contradictions()),
    )


def _conventions(results: Results) -> Iterator[Block]:
    if not results.arms:
        yield Words("No segmentation has been evaluated.", missing=True)
        return
    if not any(key[1] == "volumes" for one in results.evaluated() for key in one.rows):
        yield Words(
            "No volumes in 3D: they need every slice of each test patient, so a split by patient "
            "and --config.evaluation.slices=all.",
            missing=True,
        )
    for loss in results.losses:
        yield from convention_tables.convention_tables(results, loss)


def _curves(study: Study) -> Iterator[Block]:
    for drawn, name in (
        (loss_curves.pretraining_curves(study), "Figure 5 (pretraining)"),
        (loss_curves.segmentation_curves(study), "Appendix Figure 1 (segmentation)"),
    ):
        if drawn is None:
            yield Words(f"{name} is missing: no epoch has been trained.", missing=True)
        else:
            yield drawn


def _pictures(study: Study, results: Results) -> Iterator[Block]:
    dataset = slice_pictures.dataset_figure(study.runs)
    pretraining = slice_pictures.pretraining_figures(results)
    segmentation = slice_pictures.segmentation_figures(results)
    for drawn in ([dataset] if isinstance(dataset, Figure) else dataset, pretraining, segmentation):
        if isinstance(drawn, str):  # the reason why there is none
            yield Words(study.below(drawn), missing=True)
        else:
            yield from drawn


def _patients(results: Results) -> Iterator[Block]:
    drawn = result_charts.distribution_figure(results)
    if drawn is None:
        yield Words("No numbers by patient: no tally of a segmentation can be read.", missing=True)
        return
    yield drawn
    yield from if_any(worst_cases.worst_case_table(results))


def _provenance(study: Study) -> Iterator[Block]:
    facts = tuple(provenance.facts(study))
    if facts:
        yield Points("Data", facts)
    yield from if_any(provenance_tables.split_table(study))
    yield from if_any(provenance_tables.run_table(study))
    yield from if_any(provenance_tables.training_table(study))
    yield from if_any(provenance_tables.unfinished_cell_table(study))
    if study.runs:
        yield Code("Configuration", provenance.configuration(study))


def _missing(lines: tuple[str, ...]) -> Iterator[Block]:
    if lines:
        yield Points("", lines)
    else:
        yield Words("Nothing: every result asked for is here.")
