"""References of the paper's text to its tables."""

from brats_jax.reporting.paper.findings import Reading
from brats_jax.reporting.paper.printed_numbers import printed_numbers
from brats_jax.reporting.paper.references import REFERENCES, check_captions, check_references


def found(numbers):
    return {f.printed[:30]: f for f in check_references(Reading(numbers))}


def test_a_reference_that_an_appendix_table_meets_is_ambiguous():
    finding = found(printed_numbers())["As shown in Table 1, the model"]
    assert finding.kind == "ambiguous"
    assert "Table 1 does not hold the folds (see Appendix Table 1)" in finding.expected


def test_a_reference_to_a_table_that_does_not_exist_is_definite():
    finding = found(printed_numbers())["lower Dice scores and higher A"]
    assert finding.kind == "definite" and "there is no Table 7 or 8 or 9" in finding.expected


def test_a_reference_whose_table_holds_the_results_is_not_a_finding():
    assert len(found(printed_numbers())) == len(REFERENCES) - 1
    assert not any(quote.startswith("Tables 3-6 summarize") for quote in found(printed_numbers()))


def test_captions_count_the_background_as_a_tumour_class():
    (finding,) = check_captions(Reading(printed_numbers()))
    assert "there are 3 tumour classes (NCR/NET, ED, ET)" in finding.sentence
