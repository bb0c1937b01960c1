"""The contradictions of the paper; changing a number makes one appear or disappear."""

import pytest

from brats_jax.reporting.paper.consistency import by_cell, find_inconsistencies
from brats_jax.reporting.paper.printed_numbers import printed_numbers
from brats_jax.reporting.paper.printed_tables import TABLES

FINDINGS = find_inconsistencies()
IN_WORDS = ("claim", "reference", "caption", "method")

# check, kind, (table, row, column), printed, expected
NUMBERS = [
    ("fold means", "rounding", ("3", 2, 2), "0.314", "0.3134"),
    ("fold means", "rounding", ("3", 3, 2), "0.195", "0.1944"),
    ("fold means", "rounding", ("4", 1, 2), "0.186", "0.1866"),
    ("fold means", "rounding", ("4", 2, 1), "0.322", "0.3228"),
    ("fold means", "rounding", ("4", 3, 1), "0.198", "0.1986"),
    ("fold means", "definite", ("4", 4, 2), "0.540", "0.484"),
    ("fold means", "rounding", ("4", 5, 2), "1.850", "1.856"),
    ("fold means", "rounding", ("5", 2, 1), "0.327", "0.3276"),
    ("fold means", "rounding", ("5", 3, 1), "0.198", "0.1986"),
    ("fold means", "definite", ("5", 6, 2), "1.910", "1.90"),
    ("fold means", "rounding", ("6", 0, 4), "0.198", "0.1986"),
    ("fold means", "rounding", ("6", 2, 5), "0.228", "0.22853"),
    ("fold means", "rounding", ("6", 3, 3), "0.314", "0.3134"),
    ("fold means", "rounding", ("6", 3, 4), "0.195", "0.1944"),
    ("fold means", "definite", ("6", 4, 2), "0.188", "0.187"),
    ("fold means", "definite", ("6", 4, 3), "0.330", "0.3276"),
    ("fold means", "definite", ("6", 4, 4), "0.190", "0.1986"),
    ("fold means", "rounding", ("6", 5, 3), "0.330", "0.3294"),
    ("fold means", "rounding", ("6", 5, 5), "0.238", "0.23747"),
    ("fold means", "rounding", ("text", 0, 3), "0.0381", "0.0382"),
    ("fold means", "rounding", ("text", 3, 2), "0.2286", "0.22853"),
    ("two printings", "definite", ("6", 0, 3), "0.323", "0.322"),
    ("two printings", "definite", ("6", 1, 2), "0.187", "0.186"),
    ("two printings", "definite", ("6", 4, 2), "0.188", "0.187"),
    ("two printings", "definite", ("6", 4, 3), "0.330", "0.327"),
    ("two printings", "definite", ("6", 4, 4), "0.190", "0.198"),
    ("two printings", "definite", ("6", 5, 3), "0.330", "0.329"),
    ("two printings", "definite", ("text", 3, 2), "0.2286", "0.228"),
    ("two printings", "definite", ("text", 4, 2), "0.3228", "0.322"),
    ("own classes", "rounding", ("6", 2, 5), "0.228", "0.22867"),
    ("own classes", "definite", ("6", 3, 5), "0.230", "0.231"),
    ("own classes", "definite", ("6", 4, 5), "0.238", "0.236"),
    ("own classes", "rounding", ("text", 3, 2), "0.2286", "0.22867"),
    ("own classes", "rounding", ("text", 3, 3), "0.2305", "0.231"),
]

# check, kind, where, how the quote begins
WORDS = [
    ("claim", "rounding", "Abstract", "slightly higher Dice scores and lower "),
    ("claim", "definite", "Section 4.4.4", "consistently resulted in improvements "),
    ("claim", "rounding", "Section 4.4.4", "in the Focal Loss only scenario, SSL a"),
    ("claim", "definite", "Section 4.4.4", "In the Dice + Focal loss configuration"),
    ("claim", "definite", "Section 4.4.4", "With Dice + CE, SSL provided the highe"),
    ("claim", "rounding", "Section 4.4.4", "Edema (Class 2) again showed improveme"),
    ("claim", "definite", "Section 4.4.4", "SSL-initialized weights provide consis"),
    ("claim", "definite", "Section 4.4.4", "SSL initialization not only improves D"),
    ("claim", "definite", "Section 4.4.4", "Its benefits are especially evident in"),
    ("claim", "definite", "Section 4.4.4", "SSL generally reduced ASD across all f"),
    ("claim", "definite", "Section 4.4.4", "Despite this outlier, the remaining fo"),
    ("claim", "definite", "Section 4.5", "small and disconnected tumour subregio"),
    ("claim", "definite", "Section 5", "Across all settings, models initialize"),
    ("reference", "ambiguous", "Section 4.3.2", "As shown in Table 1, the model demonst"),
    ("reference", "definite", "Section 4.4.4", "As shown in Table 3, in the Focal Loss"),
    ("reference", "ambiguous", "Section 4.4.4", "With Dice + CE, SSL provided the highe"),
    ("reference", "definite", "Section 4.4.4", "Tables 3-5 show that SSL generally red"),
    ("reference", "ambiguous", "Section 4.4.4", "Table 4 reveals a vital exception (see"),
    ("reference", "definite", "Section 4.5", "lower Dice scores and higher ASD value"),
    ("caption", "definite", "Captions", "across four tumour classes"),
    ("method", "definite", "Section 3.2", "a modified ResNet 50 architecture pret"),
    ("method", "definite", "Section 3.2", "adopts a hierarchical fusion strategy"),
    ("method", "definite", "Section 3.1", "The training objective minimizes the m"),
    ("method", "definite", "Section 3.1", "configured to accept two input channel"),
    ("method", "definite", "Section 3", "data augmentation, and training config"),
    ("method", "definite", "Section 4.1", "each subject is represented by a singl"),
    ("method", "definite", "Section 4.1", "Only slices with non-zero segmentation"),
    ("method", "definite", "Section 4.1", "15% of the total files are reserved as"),
    ("method", "definite", "Section 4.4.1", "under various focal loss configuration"),
    ("method", "definite", "Abstract", "especially when training with a limite"),
]


def changed(cell, printed):
    """The paper's numbers with one of them changed."""
    numbers = list(printed_numbers())
    assert cell in {n[:3] for n in numbers}
    return [n._replace(printed=printed) if n[:3] == cell else n for n in numbers]


def summary(findings):
    return [
        (f.check, f.kind, f.cells[0], f.printed, f.expected)
        for f in findings
        if f.check not in IN_WORDS
    ]


def test_all_contradicting_numbers_are_found():
    assert summary(FINDINGS) == NUMBERS


def test_all_contradicting_sentences_are_found():
    found = [(f.check, f.kind, f.where, f.printed[:38]) for f in FINDINGS if f.check in IN_WORDS]
    assert found == WORDS


def test_the_first_cell_of_a_finding_is_its_printed_number():
    for f in FINDINGS:
        if f.cells:
            table, row, column = f.cells[0]
            assert TABLES[table].rows[row][column] == f.printed
            assert f.printed in f.sentence and f.expected in f.sentence


@pytest.mark.parametrize(
    ("cell", "right", "gone"),
    [
        (("4", 4, 2), "0.480", [("fold means", ("4", 4, 2))]),
        (("5", 6, 2), "1.900", [("fold means", ("5", 6, 2))]),
        # Corrected, but the average of the row is still not that of its classes.
        (("6", 4, 4), "0.199", [("fold means", ("6", 4, 4))]),
    ],
)
def test_a_corrected_number_is_not_a_finding(cell, right, gone):
    before = {(f.check, f.cells[0]) for f in FINDINGS if f.cells}
    after = {(f.check, f.cells[0]) for f in find_inconsistencies(changed(cell, right)) if f.cells}
    assert before - after == set(gone)
    assert not after - before


@pytest.mark.parametrize(
    ("cell", "wrong", "check", "kind"),
    [
        (("3", 4, 1), "0.520", "fold means", "definite"),
        (("1", 1, 1), "29.870", "fold means", "definite"),
        (("1", 2, 1), "0.917", "fold means", "rounding"),
        (("A4", 8, 7), "37.160", "fold quoted", "definite"),
        (("text", 5, 3), "2.64", "two printings", "definite"),
        (("6", 0, 5), "0.263", "own classes", "definite"),
    ],
)
def test_a_misprint_is_found(cell, wrong, check, kind):
    new = set(summary(find_inconsistencies(changed(cell, wrong)))) - set(NUMBERS)
    assert (check, kind) in {(f[0], f[1]) for f in new}


def test_the_sentences_of_findings():
    sentences = [f.sentence for f in FINDINGS]
    assert (
        "Table 4 prints 0.540 for the ASD of background under Dice + Focal with SSL, where the "
        "folds of Appendix Table 3 average 0.484: no rounding explains it."
    ) in sentences
    assert (
        "Table 6 prints 0.190 for the Dice of ET under Dice + CE without SSL, where the folds of "
        "Appendix Table 4 average 0.1986: no rounding explains it."
    ) in sentences
    assert (
        "Table 6 prints 0.323 for the Dice of ED under Dice + Focal without SSL, Table 4 prints "
        "0.322 for the same; the folds average 0.3228, which Table 4 truncates."
    ) in sentences
    worse = next(s for s in sentences if "Across all settings" in s)
    assert "background (Dice + CE); NCR/NET (Dice + CE); ET (Dice + CE)" in worse
    assert any("there is no Table 7 or 8 or 9" in s for s in sentences)
    assert any("better in 44, equal in 2 and worse in 14" in s for s in sentences)


def test_the_place_of_a_finding_in_words():
    where = [f.where for f in FINDINGS]
    assert where[5] == "Table 4, ASD Class 0, SSL (pretrained)"
    assert "Table 6, Dice+CE Fully Supervised (No SSL), ET (Class 3)" in where
    assert "Section 4.4.4, Mean Dice, Focal Loss only, Baseline" in where


def test_findings_are_footnotes_of_their_cells():
    marks = by_cell(FINDINGS)
    assert [f.check for f in marks["6", 4, 4]] == ["fold means", "two printings"]
    # Both printings are marked, also the one that agrees with the folds.
    assert [f.cells[0] for f in marks["5", 1, 1]] == [("6", 4, 2)]
    assert ("3", 4, 1) not in marks
