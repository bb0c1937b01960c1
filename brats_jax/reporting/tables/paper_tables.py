"""The paper's tables, ours beside its numbers, with a footnote at each contradicted number.

In the tables by fold, folds count from 1, as in the paper; elsewhere ours count from 0, as the run
folders. The paper's folds hold other patients than ours, so their level and spread compare, but not
fold with fold.
"""

from collections.abc import Iterable, Iterator, Sequence

from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES
from brats_jax.evaluation.rows import MEAN_FOREGROUND
from brats_jax.evaluation.yardsticks import REGRESSION
from brats_jax.reporting import captions, yardsticks
from brats_jax.reporting.arms import (
    LOSS_NAMES,
    EvaluatedStage,
    Key,
    Results,
    percent,
)
from brats_jax.reporting.paper.consistency import by_cell, find_inconsistencies
from brats_jax.reporting.paper.printed_tables import TABLES, TABLES_OF_LOSS
from brats_jax.reporting.tables.average_cells import (
    ABSENCE_NOTE,
    COUNT_NOTE,
    absence_cells,
    average_cell,
)
from brats_jax.reporting.tables.table import (
    EMPTY,
    Column,
    Table,
    TableCell,
    make_table,
    number,
    text,
)
from brats_jax.runs.pretext_label import pretext_label
from brats_jax.runtime.text import joined

CONVENTION = (
    "Dice by slice, averaged over all slices; a class in neither mask counts 0 (the paper's "
    "convention). ASD in mm, pooled over both boundaries, over the slices in which both masks hold "
    "the class. " + f"{ABSENCE_NOTE.format(unit='slice')}. {COUNT_NOTE.format(unit='slice')}"
)
# (metric, convention, digits) of the paper's Table 1.
PRETRAINING_METRICS: tuple[tuple[str, str, int], ...] = (
    ("mse", "", 4),
    ("psnr", "target range", 2),
    ("ssim", "target range", 3),
)
PRETRAINING_CONVENTION = (
    "Over whole slices, in z-scored units. PSNR and SSIM (7 x 7 uniform window) take the range of "
    "the real slice, as the paper's numbers imply"
)
ALL, TUMOUR = captions.ALL, captions.TUMOUR
_PAPERS_FOLDS = 5
_FOLD_NUMBERS = "Folds count from 1 here, as in the paper: the row of fold 1 has our fold_0."
_MARKS = by_cell(find_inconsistencies())
_METRIC_KEYS: tuple[tuple[Key, int], ...] = (
    *((("slice", "all slices", of, "dice", "paper"), 3) for of in CLASSES),
    *((("slice", "all slices", of, "asd_mm", "both_present"), 2) for of in CLASSES),
)
_PENALISED: tuple[Key, ...] = tuple(
    ("slice", "all slices", of, "asd_mm", "penalised") for of in CLASSES
)
_METRIC_COLUMNS = (
    *(Column(f"{k} {of}", "Dice, class") for k, of in enumerate(CLASSES)),
    *(Column(f"{k} {of}", "ASD (mm), class") for k, of in enumerate(CLASSES)),
    *(Column(f"{k} {of}", "ASD with penalty (mm), class") for k, of in enumerate(CLASSES)),
    *(Column(f"{k} {of}", "Slices missed, class") for k, of in enumerate(CLASSES[1:], 1)),
    *(Column(f"{k} {of}", "Slices invented, class") for k, of in enumerate(CLASSES[1:], 1)),
)


def paper_cell(table: str, row: int, column: int) -> TableCell:
    """A number as printed, with a footnote for each place of the paper that contradicts it."""
    printed = TABLES[table].rows[row][column]
    found = _MARKS.get((table, row, column), [])
    return TableCell(printed, float(printed), None, tuple(f.sentence for f in found), paper=True)


def pretraining_tables(group: Sequence[EvaluatedStage], detail: str) -> Iterator[Table]:
    """Table 1 and Appendix Table 1: MSE, PSNR and SSIM, mean and by fold.

    Ours beside the paper's is over the slices that the pretraining trained on. `detail` says which
    of several pretrainings is shown; a space is before it.
    """
    names = ("MSE", "PSNR (dB)", "SSIM")
    trained_on, other = captions.slices_of_pretraining(group)
    words = {ALL: "all slices", TUMOUR: "slices with tumour"}
    why = (
        "on which the pretraining trains"
        if trained_on == captions.trained(group)
        else "as evaluated"
    )

    def caption(beside: str, repeats: str) -> str:
        return (
            f"{_target(group)}.{detail} {PRETRAINING_CONVENTION}. "
            f"Ours: over {words[trained_on]}, {why}{beside}. In brackets: number of slices. "
            f"Ours: test set of {captions.test_set(group)}; {repeats}. The paper: its own split of "
            "files, five folds."
        )

    rows, without_network = [], []
    regressions = yardsticks.yardsticks_of(group, REGRESSION)
    for k, (name, (metric, convention, digits)) in enumerate(
        zip(names, PRETRAINING_METRICS, strict=True)
    ):
        overs = [trained_on, *([other] if other else [])]
        keys: list[Key] = [("slice", over, "slice", metric, convention) for over in overs]
        cells = [average_cell(group, key, digits) for key in keys]
        rows.append([text(name), *cells, paper_cell("1", k, 1)])
        cells = [average_cell(regressions, key, digits) for key in keys]
        without_network.append([text(f"{name}, regression"), *cells, EMPTY])
    if regressions:
        rows += without_network
    columns = [Column("Quality metric", words=True), Column("ours")]
    if other:
        columns.append(Column(f"ours, {words[other]}"))
    yield from _if_any(
        make_table(
            "table_1",
            "Table 1",
            "Pretraining: mean over the folds",
            caption(f"; beside it over {words[other]}" if other else "", captions.repeats(group))
            + (f" {yardsticks.regression_note(regressions)}" if regressions else ""),
            [*columns, Column("paper")],
            rows,
        )
    )
    rows = []
    for fold in sorted({one.fold for one in group} | set(range(_PAPERS_FOLDS))):
        of_fold = [one for one in group if one.fold == fold]
        ours = [
            average_cell(of_fold, ("slice", trained_on, "slice", metric, convention), digits)
            if of_fold
            else number(None)
            for metric, convention, digits in PRETRAINING_METRICS
        ]
        theirs = [
            paper_cell("A1", fold, k + 1) if fold < _PAPERS_FOLDS else EMPTY
            for k in range(len(names))
        ]
        rows.append([text(fold + 1), *(c for pair in zip(ours, theirs, strict=True) for c in pair)])
    heads = [Column(x, name) for name in names for x in ("ours", "paper")]
    yield from _if_any(
        make_table(
            "appendix_table_1",
            "Appendix Table 1",
            "Pretraining by fold",
            f"{caption('', 'each fold separately')} {_FOLD_NUMBERS}",
            [Column("Fold", words=True), *heads],
            rows,
        )
    )


def _target(group: Sequence[EvaluatedStage]) -> str:
    """'FLAIR predicted from T1 and T1Gd'."""
    found = {
        (one.evaluation.target, one.evaluation.inputs, one.evaluation.pretext) for one in group
    }
    words = []
    for target, inputs, pretext in sorted(found):
        if pretext != "cross_modality":
            words.append(pretext_label(target, inputs, pretext))
            continue
        names = (joined([DISPLAY_NAMES[name] for name in of]) for of in (target.split(","), inputs))
        words.append(" predicted from ".join(names))
    return joined(words, "or")


def image_quality_table(group: Sequence[EvaluatedStage], detail: str = "") -> Table | None:
    """MSE, PSNR and SSIM in every variant, over slice, brain and tumour."""
    variants = (
        ("MSE", "", "mse", "", 4),
        ("range of the slice", "PSNR (dB)", "psnr", "target range", 2),
        ("fixed range 6.01", "PSNR (dB)", "psnr", "fixed range", 2),
        ("7 x 7 uniform", "SSIM", "ssim", "target range", 3),
        ("11 x 11 Gaussian", "SSIM", "ssim_gaussian", "target range", 3),
    )
    places = [("slice", ALL), ("brain", ALL), ("tumour", TUMOUR)]
    if captions.all_slices(group):
        places += [("slice", TUMOUR), ("brain", TUMOUR)]
    else:  # the slices evaluated are those with tumour
        places = [(of, TUMOUR) for of, _ in places]
    rows = []
    for of, over in places:
        keys = [(("slice", over, of, m, rule), digits) for *_, m, rule, digits in variants]
        cells = [average_cell(group, key, digits) for key, digits in keys]
        rows.append([text(of), text(over), *cells])
    return make_table(
        "image_quality",
        "",
        "Pretraining: image quality over slice, brain and tumour",
        "A constant background is easy to predict and improves every number over the whole "
        "slice. In brackets: number of slices that hold the region. "
        f"{captions.over(group)}{detail}",
        [
            Column("Over", words=True),
            Column("Slices", words=True),
            *(Column(name, head) for name, head, *_ in variants),
        ],
        rows,
    )


def configuration_table(results: Results) -> Table | None:
    """Table 2: the paper's six experiments, and the runs of each in this report."""
    rows = []
    for row, (name, initial, loss_words) in enumerate(TABLES["2"].rows):
        loss = tuple(LOSS_NAMES)[row // 2]
        arm = results.main_arm(loss, initial == "Yes")
        group = results.arms[arm] if arm else []
        runs = ", ".join(dict.fromkeys(one.run.name for one in group))
        state = captions.repeats(group).removeprefix("mean over ") if group else "not evaluated"
        labels = arm.labels if arm else ""
        rows.append([text(x) for x in (name, initial, loss_words, state, labels, runs)])
    heads = ("Experiment", "SSL", "Loss", "Here", "Labels", "Run folders")
    return make_table(
        "table_2",
        "Table 2",
        "Experiments",
        "The paper's six configurations, and the runs of this report that have them.",
        [Column(head, words=True) for head in heads],
        rows,
    )


def loss_tables(results: Results, loss: str) -> Iterator[Table]:
    """The paper's table of means of a loss (3, 4 or 5) and of its folds (Appendix 2, 3 or 4)."""
    means, folds = TABLES_OF_LOSS[loss]
    arms = {ssl: results.main_arm(loss, ssl) for ssl in (False, True)}
    groups = {ssl: results.arms[arm] for ssl, arm in arms.items() if arm is not None}
    if not groups:
        return
    measured = [one for group in groups.values() for one in group]
    caption = (
        f"{_convention(measured)}. {_over(groups)} The paper: its own split of files, five folds."
    )
    labels = {arm.fraction for arm in arms.values() if arm is not None}
    if labels != {1.0}:
        shares = joined([percent(x) for x in sorted(labels)])
        caption += f" Ours used the labels of {shares} of the training patients."
    rows = []
    for row, (key, digits) in enumerate(_METRIC_KEYS):
        cells = [text(TABLES[means].rows[row][0] + f" ({key[2]})")]
        for ssl, group in groups.items():
            cells.append(average_cell(group, key, digits, counted=key[3] != "dice"))
            cells.append(paper_cell(means, row, 1 + ssl))
        rows.append(cells)
    for key in _PENALISED:
        cells = [text(f"ASD with penalty class {CLASSES.index(key[2])} ({key[2]})")]
        for group in groups.values():
            cells += [average_cell(group, key, 2), EMPTY]
        rows.append(cells)
    for k, what in enumerate(("missed", "invented")):
        for of in CLASSES[1:]:
            cells = [text(f"Slices {what} class {CLASSES.index(of)} ({of})")]
            for group in groups.values():
                cells += [absence_cells(group, ("slice", "all slices", of, "", ""))[k], EMPTY]
            rows.append(cells)
    heads = [Column(x, "SSL" if ssl else "Baseline") for ssl in groups for x in ("ours", "paper")]
    yield from _if_any(
        make_table(
            f"table_{means}",
            TABLES[means].title,
            f"Dice and ASD by class, {LOSS_NAMES[loss]}",
            caption,
            [Column("Metric, class", words=True), *heads],
            rows,
        )
    )
    rows = []
    for ssl, group in groups.items():
        name = "SSL" if ssl else "Baseline"
        for fold in range(max(_PAPERS_FOLDS, 1 + max(one.fold for one in group))):
            of_fold = [one for one in group if one.fold == fold]
            if of_fold:
                rows.append([text(name), text(fold + 1), text("ours"), *_metric_cells(of_fold)])
            if fold < _PAPERS_FOLDS:
                line = [paper_cell(folds, _PAPERS_FOLDS * ssl + fold, 2 + k) for k in range(8)]
                line += [EMPTY] * (len(_METRIC_COLUMNS) - 8)
                rows.append([text(name), text(fold + 1), text("paper"), *line])
    heads = [Column(x, words=True) for x in ("Pipeline", "Fold", "From")]
    yield from _if_any(
        make_table(
            f"appendix_table_{folds[1:]}",
            TABLES[folds].title,
            f"Dice and ASD by fold, {LOSS_NAMES[loss]}",
            f"{_convention(measured)}. Ours: test set of {captions.test_set(measured)}; each fold "
            f"separately. The paper: its own split of files. {_FOLD_NUMBERS}",
            [*heads, *_METRIC_COLUMNS],
            rows,
            detail=True,
        )
    )


def _metric_cells(group: Sequence[EvaluatedStage]) -> list[TableCell]:
    """The cells of `_METRIC_COLUMNS`."""
    cells = [
        average_cell(group, key, digits, counted=key[3] != "dice") for key, digits in _METRIC_KEYS
    ]
    cells += [average_cell(group, key, 2) for key in _PENALISED]
    absent = [absence_cells(group, ("slice", ALL, of, "", "")) for of in CLASSES[1:]]
    return [*cells, *(missed for missed, _ in absent), *(invented for _, invented in absent)]


def summary_table(results: Results) -> Table | None:
    """Table 6: Dice by class and their mean, for all losses."""
    order = {"dice_focal": 0, "focal": 2, "dice_ce": 4}
    rows, used = [], []
    for loss, first in order.items():
        for ssl in (False, True):
            arm = results.main_arm(loss, ssl)
            if arm is None:
                continue
            used += results.arms[arm]
            cells = [text(LOSS_NAMES[loss]), text("SSL" if ssl else "baseline")]
            for k, of in enumerate((*CLASSES[1:], MEAN_FOREGROUND)):
                key = ("slice", "all slices", of, "dice", "paper")
                cells.append(average_cell(results.arms[arm], key, 3, counted=False))
                cells.append(paper_cell("6", first + ssl, 2 + k))
            rows.append(cells)
    heads = (*(f"{of}, class {k + 1}" for k, of in enumerate(CLASSES[1:])), "Average Dice")
    return make_table(
        "table_6",
        "Table 6",
        "Average Dice of all configurations",
        f"{_convention(used).partition('. ASD')[0]}. {captions.over(used)} The paper: its own "
        "split of files, five folds.",
        [
            Column("Loss", words=True),
            Column("Start", words=True),
            *(Column(x, head) for head in heads for x in ("ours", "paper")),
        ],
        rows,
    )


def contradictions() -> list[str]:
    """Sentences of the paper's text that its tables, or other sentences, contradict.

    Contradictions between numbers in tables are footnotes of those tables instead.
    """
    in_text = [f for f in find_inconsistencies() if not f.cells or f.cells[0][0] == "text"]
    return [finding.sentence for finding in in_text]


def _convention(measured: Sequence[EvaluatedStage]) -> str:
    if captions.all_slices(measured):
        return CONVENTION
    return CONVENTION.replace(
        "averaged over all slices",
        "OURS AVERAGED OVER SLICES WITH TUMOUR ONLY, the paper's over all slices",
    )


def _over(groups: dict[bool, list[EvaluatedStage]]) -> str:
    """One caption if both sides have the same test set and repeats, else one for each side."""
    each = {captions.over(group) for group in groups.values()}
    if len(each) == 1:
        return each.pop()
    return " ".join(
        captions.over(group, "Ours with SSL" if ssl else "Our baseline")
        for ssl, group in groups.items()
    )


def _if_any(table: Table | None) -> Iterable[Table]:
    return () if table is None else (table,)
