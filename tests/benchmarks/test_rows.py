"""The arguments of experiments of several rows."""

import pytest

from benchmarks import rows

ROWS = {rows.BASE: (), "wide": ("model.width=32",)}


def parsed(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["x.py", "--store=s", "--output=o", *words])
    return rows.parse(rows.parser("", ROWS, "configs/small.py"), ROWS)


def test_rows_of_the_users_own_come_after_the_chosen_ones(monkeypatch):
    own = ("--row", "by slice", "data.store=other", "--row", "two", "seed=1", "model.width=8")
    found = parsed(monkeypatch, "--only=wide", *own)
    assert found.names == ["base", "wide", "by slice", "two"]
    assert found.rows["two"] == ("seed=1", "model.width=8")
    command = rows.command("by slice", 3, found.rows, found)
    # After the store of all rows, so that it holds.
    assert command.index("--config.data.store=other") > command.index(
        f"--config.data.store={found.store}"
    )
    assert f"--workdir={found.output / 'by_slice-seed_3'}" in command
    assert parsed(monkeypatch, *own).names == ["base", "wide", "by slice", "two"]


def test_a_name_that_is_taken_or_unknown_is_refused(monkeypatch, capsys):
    for words, message in (
        (("--row", "wide", "seed=1"), "--row: there is a row 'wide' already, or one whose folder"),
        (("--row", "Wide", "seed=1"), "--row: there is a row 'Wide' already, or one whose folder"),
        (("--row", "x y", "a=1", "--row", "x_y", "a=2"), "there is a row 'x_y' already, or one"),
        (("--only=narrow",), "no row is called 'narrow'; there are base, wide"),
        (("--against=two",), "--against=two: not one of the rows"),
    ):
        with pytest.raises(SystemExit):
            parsed(monkeypatch, *words)
        assert message in capsys.readouterr().err
