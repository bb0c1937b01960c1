"""A grid of commit a5fd08e, stopped in its second cell, is shown, continued and reported on."""

import pytest
from compatibility_examples import GRID_SETTINGS, PROSE, TRAINED_ON, assert_same

SSL_RUN = "runs/dice_ce-ssl-labels_100-seed_0"


@pytest.fixture
def stopped_at(left):
    """The step at which the grid's second cell was stopped, of 16."""
    (saved,) = (left / "grid" / SSL_RUN / "fold_0/segment/last").glob("[0-9]*")
    return int(saved.name)


def test_the_status_tells_how_far_it_was(run, stopped_at):
    printed = run("grid", "--workdir=grid", "--status")
    assert printed.startswith("grid: 1 of 2 done, 1 left; about ")
    rows = [line.split() for line in printed.splitlines()[1:] if line]
    assert rows[:2] == [["fold", "0"], ["pretraining/seed_0", "done"]]
    assert rows[2] == [SSL_RUN, f"{stopped_at / 16:.0%}"]


def test_it_is_continued_to_the_same_bits_and_reported_on(left, run, stopped_at):
    printed = run("grid", "--workdir=grid", *GRID_SETTINGS)
    assert "grid: 1 of 2 cells complete, skipped" in printed
    assert f"fold 0 segment: continues from step {stopped_at}" in printed
    assert "grid: all 2 cells done" in printed
    expected = left / "expected"
    assert_same(expected / "grid" / "runs", left / "grid" / "runs", TRAINED_ON, without=("/last:",))
    run("report", "--workdir=grid")
    assert_same(expected / "reports" / "grid", left / "grid" / "report", None, without=PROSE)
