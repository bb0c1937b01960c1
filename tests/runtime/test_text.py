from brats_jax.runtime.text import duration, plural


def test_plural_counts_in_words():
    assert [plural(n, "fold") for n in (0, 1, 5, 1200)] == [
        "0 folds", "1 fold", "5 folds", "1,200 folds"
    ]  # fmt: skip
    assert plural(2, "entry", "entries") == "2 entries"


def test_a_duration_has_hours_only_where_needed():
    assert [duration(s) for s in (0.4, 65, 7384.2)] == ["0:00", "1:05", "2:03:04"]
