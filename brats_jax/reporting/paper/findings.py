"""What one disagreement inside the paper is, and the arithmetic of rounded numbers it rests on."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from brats_jax.reporting.paper.printed_numbers import Meaning, Number
from brats_jax.reporting.paper.printed_tables import CLASSES, FOREGROUND, TABLES_OF_LOSS

Kind = Literal["definite", "rounding", "ambiguous"]
Cell = tuple[str, int, int]


class Finding(NamedTuple):
    """One place where the paper disagrees with itself.

    Attributes:
      where: the place in words: 'Table 4, ASD Class 0, SSL (pretrained)', 'Section 4.5'.
      cells: (table, row, column) in `TABLES` of every number to mark; the first is the
        one printed. Empty for a sentence.
      printed: the number or the words in print.
      expected: what the rest of the paper gives.
      kind: 'definite', nothing rounds to both (one may have been cut off instead: the
        sentence says so); 'rounding', they differ as printed, but values exist that round
        to both; 'ambiguous', a reference that fits one of two tables of the same number.
      check: which comparison found it: fold means, two printings, own classes, fold
        quoted, claim, reference, caption, method.
      sentence: all of it in plain words.
    """

    where: str
    cells: tuple[Cell, ...]
    printed: str
    expected: str
    kind: Kind
    check: str
    sentence: str


class Estimate(NamedTuple):
    """A value known to be within `half` of `value`: a rounded number, or a mean of some."""

    value: Fraction
    half: Fraction


class Reading:
    """The printed numbers by meaning, each with the precision it really has.

    All ASD and PSNR end in 0 at the third decimal: they were rounded to two and padded.
    So a metric has as many decimals as the finest digit other than 0 in its tables
    (resolution), and a number that many or its own if finer ('0.3228'), but never more
    than are printed ('0.33').
    """

    def __init__(self, numbers: Iterable[Number]) -> None:
        self.numbers = tuple(numbers)
        self._by_meaning: dict[Meaning, list[Number]] = defaultdict(list)
        for n in self.numbers:
            self._by_meaning[n.meaning].append(n)
        self.resolution: dict[str, int] = defaultdict(int)
        for n in self.numbers:
            if n.table != "text":
                finest = max(self.resolution[n.metric], _decimals(n.printed, strip=True))
                self.resolution[n.metric] = finest

    def decimals(self, number: Number) -> int:
        """How many decimals of a printed number mean anything."""
        finest = max(self.resolution[number.metric], _decimals(number.printed, strip=True))
        return min(_decimals(number.printed), finest)

    def estimate(self, number: Number) -> Estimate:
        """The number with half a unit of its last real decimal."""
        half = Fraction(1, 2 * 10 ** self.decimals(number))
        return Estimate(Fraction(number.value), half)

    def same(self, number: Number, **changes: Any) -> list[Number]:
        """All numbers with a number's meaning, `changes` made to it first; wherever printed."""
        return self._by_meaning.get(number._replace(**changes).meaning, [])

    def in_table(
        self, metric: str, of: str, loss: str, ssl: bool, fold: int | None = None
    ) -> Number:
        """The number of Tables 3 to 5, or with a fold of Appendix Tables 2 to 4."""
        table = TABLES_OF_LOSS[loss][0 if fold is None else 1]
        found = self._by_meaning[metric, of, loss, ssl, fold]
        return next(n for n in found if n.table == table)

    def mean(self, numbers: Iterable[Number]) -> Estimate:
        """The mean of printed numbers, and how far their rounding can have moved it."""
        parts = [self.estimate(n) for n in numbers]
        value = sum((p.value for p in parts), Fraction()) / len(parts)
        return Estimate(value, sum((p.half for p in parts), Fraction()) / len(parts))

    def fold_mean(self, number: Number) -> Estimate | None:
        """The mean of a number's five folds, of all three classes for a foreground mean."""
        of = CLASSES[1:] if number.of == FOREGROUND else (number.of,)
        folds = [n for k in of for f in range(1, 6) for n in self.same(number, of=k, fold=f)]
        folds = [n for n in folds if n.table != "text"]
        return self.mean(folds) if folds else None


def disagreement(printed: Estimate, expected: Estimate) -> Literal["definite", "rounding"] | None:
    """Compares what is printed with a finer value of the same quantity.

    They agree (None) if the expected value, taken as it stands, rounds to what is printed,
    a tie either way. They differ by 'rounding' if some true value is within both half
    units, and are 'definite' otherwise. A gap of exactly both half units is definite: it
    would need a tie in every number at once, all rounded away from what is printed.
    """
    gap = abs(printed.value - expected.value)
    if gap <= printed.half:
        return None
    return "rounding" if gap < printed.half + expected.half else "definite"


def is_cut_off(printed: Estimate, value: Fraction) -> bool:
    """Whether dropping the further digits of `value`, not rounding it, gives what is printed."""
    unit = 2 * printed.half
    return value // unit * unit == printed.value


def rounded(value: Fraction, decimals: int) -> str:
    """A number with so many decimals, ties away from zero."""
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return str(exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))


def plain(value: Fraction) -> str:
    """A number in two to five decimals, without idle zeros: 0.484, 0.22853, 1.90."""
    whole, _, decimals = rounded(value, 5).partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def _decimals(printed: str, strip: bool = False) -> int:
    decimals = printed.partition(".")[2]
    return len(decimals.rstrip("0") if strip else decimals)
