"""A table as CSV, Markdown and LaTeX."""

import csv
import io

from brats_jax.reporting.tables.formats import files, latex, to_csv, to_latex, to_markdown
from brats_jax.reporting.tables.table import Column, make_table, number, text


def small_table():
    return make_table(
        "small", "Table 1", "Dice", "By slice.",
        [Column("Region", words=True), Column("ours", "Dice"), Column("paper", "Dice")],
        [
            [text("ED"), number(1 / 3, count=48), number(0.31, notes=("Folds average 0.32.",))],
            [text("ET"), number(None), number(0.19)],
        ],
    )  # fmt: skip


def test_csv_has_counts_and_notes_in_columns_of_their_own():
    rows = list(csv.reader(io.StringIO(to_csv(small_table()))))
    assert rows == [
        ["Region", "Dice ours", "Dice ours n", "Dice paper", "notes"],
        ["ED", "0.333333", "48", "0.31", "Folds average 0.32."],
        ["ET", "", "", "0.19", ""],
    ]


def test_markdown_shows_counts_and_footnotes():
    lines = to_markdown(small_table()).splitlines()
    assert lines[0] == "**Table 1. Dice**"
    assert "| ED       |  0.333 (48) |    0.310 [a] |" in lines
    assert lines[-3:] == ["By slice.", "", "- a: Folds average 0.32."]


def test_latex_shows_counts_and_footnotes():
    lines = to_latex(small_table()).splitlines()
    assert "\\caption{Dice. By slice.}" in lines and "\\label{tab:small}" in lines
    assert any("0.333 (48)" in line and "0.310 [a]" in line for line in lines)
    assert "\\par\\footnotesize a: Folds average 0.32." in lines


def test_latex_reads_no_cell_as_the_argument_of_a_command():
    table = make_table(
        "t", "Table 1", "[a] 50 % *", "of <b> & *c*", [Column("A_1", words=True), Column("B")],
        [[text("[1] x"), number(0.5)], [text("*"), number(None)]],
    )  # fmt: skip
    body = to_latex(table)
    assert "\n {}[1] x" in body and "\n {}*" in body and "A\\_1" in body
    assert "[a] 50 \\% *. of \\textless{}b\\textgreater{} \\& *c*" in body


def test_special_characters_are_escaped():
    assert latex("γ ≥ 2_x") == "gamma \\textgreater{}= 2\\_x"
    table = make_table("t", "", "a | *b*", "of <b> & *c*", [Column("A")], [[text("x|y")]])
    written = to_markdown(table)
    assert "x\\|y" in written and "of &lt;b&gt; &amp; \\*c\\*" in written


def test_a_table_has_three_files():
    made = files(small_table())
    assert list(made) == ["small.csv", "small.md", "small.tex"] and all(made.values())
