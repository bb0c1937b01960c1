"""SSL minus baseline, patient by patient: what was compared, what was found, in words.

The unit is the patient. Folds and seeds are averaged inside each patient and are shown as
points, never counted as n. A small primary family is tested for the answer; everything else is
secondary. Holm's correction runs over each family by itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brats_jax.reporting import captions
from brats_jax.reporting.arms import Arm, Key, Measured, Results, by_patient, percent
from brats_jax.reporting.comparison_sentences import comparison_sentence
from brats_jax.reporting.pairing import paired_by_patient
from brats_jax.reporting.statistics import PairedDifference, holm, paired_difference
from brats_jax.reporting.tables.table import Cell, Column, Table, make_table, number, text, whole

ALPHA = 0.05
REGIONS = ("WT", "TC", "ET")
CLASSES = ("NCR/NET", "ED", "ET")


@dataclass(frozen=True)
class Quantity:
    """A number that is compared: its key for a region, how it is called, which way is better."""

    key: Key
    name: str
    larger_is_better: bool
    unit: str = ""
    digits: int = 3


@dataclass(frozen=True)
class Comparison:
    """SSL minus baseline in one quantity.

    Attributes:
      ssl, baseline: the arms.
      quantity: what was compared.
      result: over patients.
      adjusted: Holm's p within the family.
      family: how many comparisons it was corrected for.
      repeats: mean difference over patients of each (fold, seed) that both arms have.
    """

    ssl: Arm
    baseline: Arm
    quantity: Quantity
    result: PairedDifference
    adjusted: float
    family: int
    repeats: dict[tuple[int, int], float]

    @property
    def found(self) -> bool:
        """Whether a difference was found."""
        return self.adjusted <= ALPHA

    @property
    def is_better(self) -> bool:
        """Whether SSL's mean is the better one."""
        return (self.result.mean_difference > 0) == self.quantity.larger_is_better

    @property
    def sentence(self) -> str:
        """All of it in plain words."""
        where = self.ssl.loss_name
        if self.ssl.fraction != 1:
            where += f", {percent(self.ssl.fraction)} of the labels"
        return comparison_sentence(
            self.result,
            quantity=f"{where}: {self.quantity.name}",
            better="larger" if self.quantity.larger_is_better else "smaller",
            unit=self.quantity.unit,
            decimals=self.quantity.digits,
            p_adjusted=self.adjusted,
            comparisons=self.family,
            alpha=ALPHA,
        )


def _volume(of: str, metric: str, convention: str) -> Key:
    return ("patient", "volumes", of, metric, convention)


PRIMARY: tuple[Quantity, ...] = tuple(
    Quantity(_volume(of, "dice", "brats2020"), f"3D Dice of {of}", True) for of in REGIONS
)
# Where there are no volumes (tumour slices, or a split by slice): the same by slice.
PRIMARY_BY_SLICE: tuple[Quantity, ...] = tuple(
    Quantity(("slice", "all slices", of, "dice", "present_only"), f"slice Dice of {of}", True)
    for of in REGIONS
)
SECONDARY: tuple[Quantity, ...] = (
    *(Quantity(_volume(o, "dice", "brats2020"), f"3D Dice of {o}", True) for o in CLASSES[:2]),
    *(
        Quantity(_volume(o, "hd95_mm", "brats2020"), f"3D HD95 of {o}", False, "mm", 2)
        for o in REGIONS
    ),
    *(
        Quantity(_volume(o, "asd_mm", "both_present"), f"3D ASD of {o}", False, "mm", 2)
        for o in REGIONS
    ),
    *(
        Quantity(_volume(o, "lesion_dice", "brats2023"), f"lesion-wise Dice of {o}", True)
        for o in REGIONS
    ),
    *(
        Quantity(
            ("slice", "all slices", o, "dice", "paper"),
            f"slice Dice of {o} under the paper's convention",
            True,
        )
        for o in CLASSES
    ),
)
_BY_SLICE_NAMES = {q.key for q in PRIMARY_BY_SLICE}


def primary(results: Results) -> list[Comparison]:
    """3D Dice of WT, TC and ET for each loss, at the largest share of labels."""
    pairs = _full(results)
    return compare(results, pairs, PRIMARY) or compare(results, pairs, PRIMARY_BY_SLICE)


def secondary(results: Results) -> list[Comparison]:
    """Distances, classes, lesions and the paper's own Dice, for each loss."""
    quantities = SECONDARY
    if not captions.all_slices(results.measured()):
        quantities = tuple(q for q in SECONDARY if q.key[4] != "paper")
    return compare(results, _full(results), quantities)


def by_fraction(results: Results) -> list[Comparison]:
    """The primary quantities at every share of labels; a family of its own."""
    if len(results.fractions) < 2:
        return []
    pairs = results.pairs()
    return compare(results, pairs, PRIMARY) or compare(results, pairs, PRIMARY_BY_SLICE)


def uncompared(results: Results) -> list[tuple[Arm, Arm]]:
    """The pairs with most labels that have no run in common: nothing can be paired by patient."""
    return [pair for pair in _full(results) if not set.intersection(*_runs(results, pair))]


def _runs(results: Results, pair: tuple[Arm, Arm]) -> list[set[tuple[int, int]]]:
    return [{(one.fold, one.seed) for one in results.arms[arm]} for arm in pair]


def partly(results: Results) -> Iterator[tuple[Arm, int, int]]:
    """(SSL arm, runs that its baseline has too, runs of either) where those are not the same."""
    for pair in _full(results):
        ssl, baseline = _runs(results, pair)
        both = len(ssl & baseline)
        if both and both < len(ssl | baseline):
            yield pair[0], both, len(ssl | baseline)


def compared(results: Results, comparisons: Sequence[Comparison]) -> list[Measured]:
    """What was paired: the evaluations of both arms in the folds and seeds that both have."""
    chosen = {
        id(one): one
        for c in comparisons
        for arm in (c.ssl, c.baseline)
        for one in results.arms[arm]
        if (one.fold, one.seed) in c.repeats
    }
    return list(chosen.values())


def compare(
    results: Results, pairs: Sequence[tuple[Arm, Arm]], quantities: Sequence[Quantity]
) -> list[Comparison]:
    """One family of comparisons, of whatever both arms were evaluated for in a run of both.

    Where no patient has a value under both (ASD, if ET is nowhere), that is a result: n is 0.
    """
    found: list[tuple[Arm, Arm, Quantity, PairedDifference, dict[tuple[int, int], float]]] = []
    for ssl, baseline in pairs:
        for quantity in quantities:
            sides: list[Any] = [
                by_patient(results.arms[arm], quantity.key) for arm in (ssl, baseline)
            ]
            paired = paired_by_patient(sides[0], sides[1])
            if len(paired.patients) or _evaluated(results, (ssl, baseline), quantity.key):
                result = paired_difference(paired.a, paired.b)
                without = _patients(results, (ssl, baseline)) - result.n
                result = result._replace(left_out=result.left_out + without)
                found.append((ssl, baseline, quantity, result, _repeats(*sides)))
    adjusted = holm([result.p_permutation for *_, result, _ in found])
    tested = int((~np.isnan(adjusted)).sum())
    return [
        Comparison(ssl, base, quantity, result, float(p), tested, repeats)
        for (ssl, base, quantity, result, repeats), p in zip(found, adjusted, strict=True)
    ]


def comparison_table(
    comparisons: Sequence[Comparison], name: str, title: str, caption: str, detail: bool
) -> Table | None:
    """One line for each comparison."""
    rows = []
    for c in comparisons:
        r, digits = c.result, c.quantity.digits
        better, worse = r.larger, r.smaller
        if not c.quantity.larger_is_better:
            better, worse = worse, better
        rows.append(
            [
                text(c.ssl.loss_name),
                text(c.quantity.name + (f" ({c.quantity.unit})" if c.quantity.unit else "")),
                whole(r.n),
                number(r.mean_b, digits),
                number(r.mean_a, digits),
                _signed(r.mean_difference, digits),
                _signed(r.low, digits),
                _signed(r.high, digits),
                _p(c.adjusted, strong=c.found),
                text(verdict(c), strong=c.found),
                whole(better),
                whole(worse),
                number(r.dz, 2),
                number(r.rank_biserial, 2),
                _p(r.p_permutation),
                _p(r.p_wilcoxon),
            ]
        )
    columns = [
        Column("Loss", words=True),
        Column("Quantity", words=True),
        Column("n patients"),
        Column("baseline", "Mean"),
        Column("SSL", "Mean"),
        Column("mean", "SSL minus baseline"),
        Column("low", "SSL minus baseline"),
        Column("high", "SSL minus baseline"),
        Column("p (Holm)"),
        Column("Found", words=True),
        Column("better", "Patients with SSL"),
        Column("worse", "Patients with SSL"),
        Column("dz", "Effect size"),
        Column("rank biserial", "Effect size"),
        Column("sign flip", "p, uncorrected"),
        Column("Wilcoxon", "p, uncorrected"),
    ]
    if len({c.ssl.fraction for c in comparisons}) > 1:
        columns.insert(1, Column("Labels"))
        for row, c in zip(rows, comparisons, strict=True):
            row.insert(1, Cell(percent(c.ssl.fraction), c.ssl.fraction))
    return make_table(name, "", title, caption, columns, rows, detail)


def verdict(comparison: Comparison) -> str:
    """'SSL better', 'SSL worse', 'no difference found', 'not tested'."""
    if np.isnan(comparison.adjusted):
        return "not tested"
    if not comparison.found:
        return "no difference found"
    return "SSL better" if comparison.is_better else "SSL worse"


def is_by_slice(comparisons: Sequence[Comparison]) -> bool:
    """Whether there were no volumes to compare in."""
    return any(c.quantity.key in _BY_SLICE_NAMES for c in comparisons)


def _full(results: Results) -> list[tuple[Arm, Arm]]:
    """The pairs with the largest share of labels of their loss."""
    pairs = results.pairs()
    most = {loss: max(a.fraction for a, _ in pairs if a.loss == loss) for loss in _losses(pairs)}
    return [(a, b) for a, b in pairs if a.fraction == most[a.loss]]


def _losses(pairs: Sequence[tuple[Arm, Arm]]) -> Iterator[str]:
    yield from dict.fromkeys(a.loss for a, _ in pairs)


def _evaluated(results: Results, pair: tuple[Arm, Arm], key: Key) -> bool:
    """Whether a run that both arms have was evaluated for a number, and can be read."""
    both = set.intersection(*_runs(results, pair))
    return all(
        any(key in one.rows and one.patients and (one.fold, one.seed) in both for one in group)
        for group in (results.arms[arm] for arm in pair)
    )


def _patients(results: Results, pair: tuple[Arm, Arm]) -> int:
    """How many patients were evaluated under either arm."""
    return len({p for arm in pair for one in results.arms[arm] for p, _ in one.voxels})


def _repeats(
    a: dict[str, dict[tuple[int, int], float]], b: dict[str, dict[tuple[int, int], float]]
) -> dict[tuple[int, int], float]:
    differences: dict[tuple[int, int], list[float]] = {}
    for patient in a.keys() & b.keys():
        for run in a[patient].keys() & b[patient].keys():
            differences.setdefault(run, []).append(a[patient][run] - b[patient][run])
    return {run: float(np.nanmean(d)) for run, d in sorted(differences.items())}


def _signed(value: float, digits: int) -> Cell:
    cell = number(value, digits)
    if cell.value is None or np.isnan(cell.value):
        return cell
    shown = f"{value:+.{digits}f}"
    return Cell(shown[1:] if float(shown) == 0 else shown, value)


def _p(value: float, strong: bool = False) -> Cell:
    if np.isnan(value):
        return number(value)
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value, strong=strong)
