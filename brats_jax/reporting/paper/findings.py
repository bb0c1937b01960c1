"""One contradiction inside the paper, and the arithmetic of rounded numbers behind it."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from brats_jax.reporting.paper.printed_numbers import Meaning, Number
from brats_jax.reporting.paper.printed_tables import CLASSES, FOREGROUND, TABLES_OF_LOSS

Kind = Literal["definite", "rounding", "ambiguous"]
PrintedCell = tuple[str, int, int]


class Finding(NamedTuple):
    """One place where the paper contradicts itself.

    Attributes:
      where: the place in words: 'Table 4, ASD Class 0, SSL (pretrained)', 'Section 4.5'.
      cells: (table, row, column) in `TABLES` of every number to mark, first that of
        `printed`; empty for a sentence.
      printed: the number or the words in print.
      expected: the value or statement that follows from the rest of the paper.
      kind: 'definite': no value rounds to both numbers (one may be truncated; the sentence
        says so); 'rounding': they differ as printed, but some value rounds to both;
        'ambiguous': a reference that fits one of two tables with the same number.
      check: the check that found it: fold means, two printings, own classes, fold quoted,
        claim, reference, caption, method.
      sentence: the finding in words.
    """

    where: str
    cells: tuple[PrintedCell, ...]
    printed: str
    expected: str
    kind: Kind
    check: str
    sentence: str


class Estimate(NamedTuple):
    """A value known to within +-`half`: a rounded number, or a mean of rounded numbers."""

    value: Fraction
    half: Fraction


class Reading:
    """The printed numbers by meaning, each with its real precision.

    All ASD and PSNR have 0 as third decimal: they were rounded to two decimals and padded.
    So the resolution of a metric is the finest decimal other than 0 in its tables. A number
    has the decimals of that resolution, or its own if finer ('0.3228'), but never more than
    are printed ('0.33').
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
        """Number of significant decimals of a printed number."""
        finest = max(self.resolution[number.metric], _decimals(number.printed, strip=True))
        return min(_decimals(number.printed), finest)

    def estimate(self, number: Number) -> Estimate:
        """The number with half a unit of its last real decimal."""
        half = Fraction(1, 2 * 10 ** self.decimals(number))
        return Estimate(Fraction(number.value), half)

    def same(self, number: Number, **changes: Any) -> list[Number]:
        """All printings of the quantity of `number`, after `changes` to its fields."""
        return self._by_meaning.get(number._replace(**changes).meaning, [])

    def in_table(
        self, metric: str, of: str, loss: str, ssl: bool, fold: int | None = None
    ) -> Number:
        """A number of Tables 3 to 5, or of Appendix Tables 2 to 4 if `fold` is given."""
        table = TABLES_OF_LOSS[loss][0 if fold is None else 1]
        found = self._by_meaning[metric, of, loss, ssl, fold]
        return next(n for n in found if n.table == table)

    def mean(self, numbers: Iterable[Number]) -> Estimate:
        """The mean of printed numbers, with the largest error from their rounding."""
        parts = [self.estimate(n) for n in numbers]
        value = sum((p.value for p in parts), Fraction()) / len(parts)
        return Estimate(value, sum((p.half for p in parts), Fraction()) / len(parts))

    def fold_mean(self, number: Number) -> Estimate | None:
        """The mean of a number's five folds, over all three classes for a foreground mean."""
        of = CLASSES[1:] if number.of == FOREGROUND else (number.of,)
        folds = [n for k in of for f in range(1, 6) for n in self.same(number, of=k, fold=f)]
        folds = [n for n in folds if n.table != "text"]
        return self.mean(folds) if folds else None


def disagreement(printed: Estimate, expected: Estimate) -> Literal["definite", "rounding"] | None:
    """Compares a printed number with a finer value of the same quantity.

    Returns None if the expected value rounds to the printed one, a tie either way;
    'rounding' if some true value lies within both half units; 'definite' otherwise. A gap of
    exactly both half units is definite: it would need a tie in every number at once, each
    rounded away from the printed value.
    """
    gap = abs(printed.value - expected.value)
    if gap <= printed.half:
        return None
    return "rounding" if gap < printed.half + expected.half else "definite"


def is_truncated(printed: Estimate, value: Fraction) -> bool:
    """Whether the printed number is `value` truncated instead of rounded."""
    unit = 2 * printed.half
    return value // unit * unit == printed.value


def rounded(value: Fraction, decimals: int) -> str:
    """A number rounded to `decimals`, ties away from zero."""
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return str(exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))


def plain(value: Fraction) -> str:
    """A number with two to five decimals, without trailing zeros: 0.484, 0.22853, 1.90."""
    whole, _, decimals = rounded(value, 5).partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def _decimals(printed: str, strip: bool = False) -> int:
    decimals = printed.partition(".")[2]
    return len(decimals.rstrip("0") if strip else decimals)
