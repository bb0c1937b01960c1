"""The paper's tables, ours beside its numbers, with a footnote at each contradicted number.

Folds count from 1, as in the paper. The paper's folds hold other patients than ours, so their
level and spread compare, but not fold with fold.
"""

from collections.abc import Iterable, Iterator, Sequence

from brats_jax.data.modalities import CLASSES
from brats_jax.evaluation.rows import MEAN_FOREGROUND
from brats_jax.reporting import captions
from brats_jax.reporting.arms import (
    LOSS_NAMES,
    Key,
    Measured,
    Results,
    fold_means,
    mean_over_folds,
    percent,
)
from brats_jax.reporting.paper.consistency import by_cell, find_inconsistencies
from brats_jax.reporting.paper.printed_tables import TABLES, TABLES_OF_LOSS
from brats_jax.reporting.tables.table import (
    EMPTY,
    Column,
    Table,
    TableCell,
    make_table,
    number,
    text,
)

CONVENTION = (
    "Dice by slice, averaged over all slices; a class in neither mask counts 0 (the paper's "
    "convention). ASD in mm, pooled over both boundaries, over the slices in which both masks hold "
    "the class"
)
PRETRAINING_KEYS: tuple[tuple[Key, int], ...] = (
    (("slice", "all slices", "slice", "mse", ""), 4),
    (("slice", "all slices", "slice", "psnr", "target range"), 2),
    (("slice", "all slices", "slice", "ssim", "target range"), 3),
)
PRETRAINING_CONVENTION = (
    "Over whole slices, in z-scored units. PSNR and SSIM (7 x 7 uniform window) take the range of "
    "the real slice, as the paper's numbers imply"
)
_MARKS = by_cell(find_inconsistencies())
_METRIC_KEYS: tuple[tuple[Key, int], ...] = (
    *((("slice", "all slices", of, "dice", "paper"), 3) for of in CLASSES),
    *((("slice", "all slices", of, "asd_mm", "both_present"), 2) for of in CLASSES),
)
_METRIC_COLUMNS = (
    *(Column(f"{k} {of}", "Dice, class") for k, of in enumerate(CLASSES)),
    *(Column(f"{k} {of}", "ASD (mm), class") for k, of in enumerate(CLASSES)),
)


def paper_cell(table: str, row: int, column: int) -> TableCell:
    """A number as printed, with a footnote for each place of the paper that contradicts it."""
    printed = TABLES[table].rows[row][column]
    found = _MARKS.get((table, row, column), [])
    return TableCell(printed, float(printed), None, tuple(f.sentence for f in found), paper=True)


def pretraining_tables(group: Sequence[Measured], detail: str) -> Iterator[Table]:
    """Table 1 and Appendix Table 1: MSE, PSNR and SSIM, mean and by fold."""
    names = ("MSE", "PSNR (dB)", "SSIM")
    caption = (
        f"{PRETRAINING_CONVENTION}. {captions.over(group)} The paper: its own split of files, five "
        f"folds.{detail}"
    )
    rows = [
        [text(name), number(mean_over_folds(group, key)[0], digits), paper_cell("1", k, 1)]
        for k, (name, (key, digits)) in enumerate(zip(names, PRETRAINING_KEYS, strict=True))
    ]
    columns = [Column("Quality metric", words=True), Column("ours"), Column("paper")]
    yield from _if_any(
        make_table("table_1", "Table 1", "Pretraining: mean over the folds", caption, columns, rows)
    )
    folds = {key: fold_means(group, key) for key, _ in PRETRAINING_KEYS}
    numbers = sorted({f for of_key in folds.values() for f in of_key} | set(range(5)))
    rows = []
    for fold in numbers:
        ours = [number(folds[key].get(fold), digits) for key, digits in PRETRAINING_KEYS]
        theirs = [paper_cell("A1", fold, k + 1) if fold < 5 else EMPTY for k in range(3)]
        rows.append([text(fold + 1), *(c for pair in zip(ours, theirs, strict=True) for c in pair)])
    heads = [Column(x, name) for name in names for x in ("ours", "paper")]
    yield from _if_any(
        make_table(
            "appendix_table_1",
            "Appendix Table 1",
            "Pretraining by fold",
            caption.replace(captions.repeats(group), "each fold separately"),
            [Column("Fold", words=True), *heads],
            rows,
        )
    )


def image_quality_table(group: Sequence[Measured]) -> Table | None:
    """MSE, PSNR and SSIM in every variant, over slice, brain and tumour."""
    variants = (
        ("MSE", "", "mse", "", 4),
        ("range of the slice", "PSNR (dB)", "psnr", "target range", 2),
        ("fixed range 6.01", "PSNR (dB)", "psnr", "fixed range", 2),
        ("7 x 7 uniform", "SSIM", "ssim", "target range", 3),
        ("11 x 11 Gaussian", "SSIM", "ssim_gaussian", "target range", 3),
    )
    rows = []
    for of in ("slice", "brain", "tumour"):
        cells = []
        for *_, metric, convention, digits in variants:
            mean, count = mean_over_folds(group, ("slice", "all slices", of, metric, convention))
            cells.append(number(mean, digits, count))
        rows.append([text(of), *cells])
    return make_table(
        "image_quality",
        "",
        "Pretraining: image quality over slice, brain and tumour",
        "A constant background is easy to predict and improves every number over the whole "
        "slice. In brackets: number of slices that hold the region. " + captions.over(group),
        [Column("Over", words=True), *(Column(name, head) for name, head, *_ in variants)],
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
        labels = percent(arm.fraction) if arm else ""
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
        shares = captions.listed([percent(x) for x in sorted(labels)])
        caption += f" Ours used the labels of {shares} of the training patients."
    rows = []
    for row, (key, digits) in enumerate(_METRIC_KEYS):
        cells = [text(TABLES[means].rows[row][0] + f" ({key[2]})")]
        for ssl, group in groups.items():
            cells.append(number(mean_over_folds(group, key)[0], digits))
            cells.append(paper_cell(means, row, 1 + ssl))
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
        ours = {key: fold_means(group, key) for key, _ in _METRIC_KEYS}
        for fold in range(max(5, 1 + max(one.fold for one in group))):
            if any(fold in values for values in ours.values()):
                cells = [number(ours[key].get(fold), digits) for key, digits in _METRIC_KEYS]
                rows.append([text(name), text(fold + 1), text("ours"), *cells])
            if fold < 5:
                line = [paper_cell(folds, 5 * ssl + fold, 2 + k) for k in range(8)]
                rows.append([text(name), text(fold + 1), text("paper"), *line])
    heads = [Column(x, words=True) for x in ("Pipeline", "Fold", "From")]
    yield from _if_any(
        make_table(
            f"appendix_table_{folds[1:]}",
            TABLES[folds].title,
            f"Dice and ASD by fold, {LOSS_NAMES[loss]}",
            f"{_convention(measured)}. Ours: test set of {captions.test_set(measured)}; each fold "
            "separately. The paper: its own split of files.",
            [*heads, *_METRIC_COLUMNS],
            rows,
            detail=True,
        )
    )


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
                cells.append(number(mean_over_folds(results.arms[arm], key)[0], 3))
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


def _convention(measured: Sequence[Measured]) -> str:
    if captions.all_slices(measured):
        return CONVENTION
    return CONVENTION.replace(
        "averaged over all slices",
        "OURS AVERAGED OVER SLICES WITH TUMOUR ONLY, the paper's over all slices",
    )


def _over(groups: dict[bool, list[Measured]]) -> str:
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
