"""Differences between the types and spread over patches."""

from benchmarks.numerics import continued


def test_neither_spread_contains_the_level_of_a_run(capsys):
    """Two runs with two continuations each."""
    dice = {
        "float32": {("1", 0): 0.5, ("1", 1): 0.52, ("2", 0): 0.7, ("2", 1): 0.74, ("3", 0): 0.1},
        "bfloat16": {("1", 0): 0.49, ("1", 1): 0.54, ("2", 0): 0.71, ("2", 1): 0.72},
    }
    done = {
        (f"float32_{seed}", t, number): dict.fromkeys(continued.CLASSES, v)
        for t, of in dice.items()
        for (seed, number), v in of.items()
    }
    # A continuation of a bfloat16 run belongs to --start=own. ("3", 0) has no pair yet.
    done["bfloat16_1", "bfloat16", 0] = dict.fromkeys(continued.CLASSES, 0.9)
    continued.show(done, "float32")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == [name.split()[0] for name in continued.CLASSES]
    # Pairs -0.01, 0.02, 0.01, -0.02: mean 0, sd 0.0183; two standard errors of four pairs 0.0183.
    # Patches: (0.01^2 + 0.01^2 + 0.02^2 + 0.02^2) / 2 degrees of freedom, square root 0.0224.
    assert rows[0][1:] == ["0.6150", "+0.0000", "(0.0183),", "4", "pairs", "0.0183,", "0.0224"]
    continued.show(done, "own")
    assert "0.5000   +0.4000 (nan), 1 pairs   nan, -" in capsys.readouterr().out
