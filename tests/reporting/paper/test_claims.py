"""The paper's sentences about its numbers."""

from fractions import Fraction

import pytest

from brats_jax.reporting.paper.claims import CLAIMS, Gains, check_claims
from brats_jax.reporting.paper.findings import Reading
from brats_jax.reporting.paper.printed_numbers import printed_numbers


def contradicted(numbers) -> list[str]:
    return [finding.printed for finding in check_claims(Reading(numbers))]


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        # Table 3: Dice of NCR/NET 0.182 -> 0.184, ASD of ED 4.280 -> 2.460 mm.
        (lambda g: g.printed("dice", "NCR/NET", "focal"), "0.002"),
        (lambda g: g.printed("asd_mm", "ED", "focal"), "1.82"),
        # Table 6: Dice of ED under Dice + CE 0.330 -> 0.330.
        (lambda g: g.table_6("ED", "dice_ce"), "0"),
    ],
)
def test_a_gain_is_positive_where_ssl_is_better(gain, expected):
    assert gain(Gains(Reading(printed_numbers()))) == Fraction(expected)


def test_every_claim_is_contradicted_by_the_papers_numbers():
    assert contradicted(printed_numbers()) == [claim.quote for claim in CLAIMS]


def test_a_claim_that_the_numbers_support_is_not_a_finding():
    # One fold under Dice + CE lowers the mean Dice.
    corrected = [
        n._replace(printed="0.199") if n[:3] == ("A4", 8, 3) else n for n in printed_numbers()
    ]
    left = contradicted(corrected)
    assert [claim.quote for claim in CLAIMS if claim.quote not in left] == [
        "With Dice + CE, SSL provided the highest increase in overall segmentation performance"
    ]
