"""The arithmetic of rounded numbers."""

from decimal import Decimal
from fractions import Fraction

import pytest

from brats_jax.reporting.paper.findings import (
    Estimate,
    Reading,
    disagreement,
    is_truncated,
    plain,
    rounded,
)
from brats_jax.reporting.paper.printed_numbers import printed_numbers


def test_padded_zeros_do_not_count_as_precision():
    reading = Reading(printed_numbers())
    resolution = {"dice": 3, "asd_mm": 2, "mse": 3, "psnr_db": 2, "ssim": 3}
    assert dict(reading.resolution) == resolution
    decimals = {n[:4]: reading.decimals(n) for n in reading.numbers}
    assert decimals["3", 5, 1, "2.430"] == 2  # all ASD end in 0
    assert decimals["3", 2, 1, "0.310"] == 3  # this Dice happens to
    assert decimals["A4", 4, 4, "0.33"] == 2
    assert decimals["text", 4, 2, "0.3228"] == 4
    assert decimals["text", 7, 3, "37.610"] == 2


def test_rounding_explains_a_small_gap_only():
    half = Fraction(1, 2000)
    printed = Estimate(Fraction("0.314"), half)

    def against(value, other_half=half):
        return disagreement(printed, Estimate(Fraction(value), other_half))

    assert against("0.3136") is None
    assert against("0.3135") is None  # a tie may go either way
    assert against("0.3134") == "rounding"
    assert against("0.3134", Fraction(0)) == "definite"
    assert against("0.3130") == "definite"  # only if every input were a tie
    assert against("0.3120") == "definite"


def test_numbers_are_printed_without_trailing_zeros():
    assert [plain(Fraction(x)) for x in ("1.9", "0.484", "2")] == ["1.90", "0.484", "2.00"]
    assert plain(Fraction(2, 3)) == "0.66667"
    assert rounded(Fraction("0.0025"), 3) == "0.003" and Decimal(rounded(Fraction(5), 1)) == 5


@pytest.mark.parametrize(
    ("value", "truncated"), [("0.3228", True), ("0.3220", True), ("0.3219", False)]
)
def test_a_truncated_number_drops_its_further_digits(value, truncated):
    printed = Estimate(Fraction("0.322"), Fraction(1, 2000))
    assert is_truncated(printed, Fraction(value)) == truncated


def test_the_error_of_a_mean_is_the_mean_error_of_its_parts():
    reading = Reading(printed_numbers())
    folds = [reading.in_table("dice", "ED", "focal", True, fold) for fold in range(1, 6)]
    mean = reading.mean(folds)
    assert mean.half == Fraction(1, 2000)  # three decimals each
    assert reading.fold_mean(reading.in_table("dice", "ED", "focal", True)) == mean
