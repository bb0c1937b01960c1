"""Cells, columns and tables."""

import math

import pytest

from brats_jax.reporting.tables.table import (
    UNDEFINED,
    Column,
    Table,
    TableCell,
    letter,
    make_table,
    number,
    p_value,
    signed,
    text,
    whole,
)


def table_of(columns, rows) -> Table:
    return Table("name", "Table 1", "Title", "Caption", tuple(columns), tuple(rows))


def test_numbers_are_rounded_and_csv_keeps_six_digits():
    cell = number(0.123456789, 3)
    assert (cell.text, cell.exact) == ("0.123", "0.123457")


@pytest.mark.parametrize("value", [None, math.nan])
def test_an_undefined_number_is_a_dash_and_empty_in_csv(value):
    assert (number(value).text, number(value).exact) == (UNDEFINED, "")


def test_a_nearly_perfect_score_is_not_rounded_to_a_perfect_one():
    assert number(0.99996, 3).text == "0.99996"
    assert number(1.0, 3).text == "1.000"
    assert number(0.999, 2).text == "1.00"  # a distance, not a score


def test_a_difference_has_a_sign_unless_it_rounds_to_zero():
    assert [signed(x, 2).text for x in (0.014, -0.016, -0.001)] == ["+0.01", "-0.02", "0.00"]
    assert signed(math.nan, 2).text == UNDEFINED


def test_small_p_values_are_shown_as_a_bound():
    assert [p_value(p).text for p in (0.0004, 0.0314, 1.0)] == ["< 0.001", "0.031", "1.000"]
    assert p_value(0.0004).exact == "0.0004" and p_value(math.nan).text == UNDEFINED


def test_counts_have_commas_on_the_page_only():
    assert (whole(8525).text, whole(8525).exact) == ("8,525", "8525")
    assert whole(None).text == UNDEFINED


def test_words_are_their_own_csv_value():
    assert text(3).exact == "3" and text("ED").exact == "ED"


def test_neighbouring_columns_share_a_head():
    table = table_of(
        [Column("Region"), Column("ours", "Dice"), Column("paper", "Dice"), Column("ours", "ASD")],
        [[TableCell("")] * 4],
    )
    assert table.groups == [("", 1), ("Dice", 2), ("ASD", 1)]
    assert [column.name for column in table.columns][1] == "Dice ours"
    assert table_of([Column("a")], [[TableCell("")]]).groups == []


def test_equal_notes_share_a_letter():
    row = [number(1, notes=("x",)), number(2, notes=("y", "x")), number(3)]
    table = table_of([Column("a"), Column("b"), Column("c")], [row])
    assert table.notes == ("x", "y")
    assert [table.marks(cell) for cell in row] == ["a", "b, a", ""]


def test_letters_go_on_after_z():
    assert [letter(k) for k in (0, 25, 26, 27)] == ["a", "z", "aa", "ab"]


def test_a_ragged_row_is_refused():
    with pytest.raises(ValueError, match="do not have 2 cells"):
        table_of([Column("a"), Column("b")], [[TableCell("")]])


def test_a_table_without_rows_is_none():
    assert make_table("name", "", "Title", "Caption", [Column("a")], []) is None


@pytest.mark.parametrize(("columns", "breadth"), [(10, ""), (11, "wide"), (15, "widest")])
def test_tables_with_many_columns_are_known_to_the_page(columns, breadth):
    table = table_of([Column("x")] * columns, [(text("y"),) * columns])
    assert table.breadth == breadth
