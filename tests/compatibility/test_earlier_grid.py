"""A grid of commit a5fd08e, stopped in its second cell, is shown, continued and reported on."""

from compatibility_examples import GRID_SETTINGS, TRAINED_ON, assert_same


def test_the_status_tells_how_far_it_was(left, run):
    printed = run("grid", "--workdir=grid", "--status")
    assert printed.startswith("grid: 1 of 2 done, 1 left; about ")
    rows = [line.split() for line in printed.splitlines()[1:] if line]
    assert rows[:2] == [["fold", "0"], ["pretraining/seed_0", "done"]]
    assert rows[2][0] == "runs/dice_ce-ssl-labels_100-seed_0" and rows[2][1] == "38%"


def test_it_is_continued_to_the_same_bits_and_reported_on(left, run):
    printed = run("grid", "--workdir=grid", *GRID_SETTINGS)
    assert "grid: 1 of 2 cells complete, skipped" in printed
    assert "fold 0 segment: goes on from step 6" in printed
    assert "grid: all 1 cells done" in printed or "2 of 2 done" in printed
    expected = left / "expected"
    assert_same(expected / "grid" / "runs", left / "grid" / "runs", TRAINED_ON, without=("/last:",))
    run("report", "--workdir=grid")
    assert_same(expected / "reports" / "grid", left / "grid" / "report", TRAINED_ON)
