from brats_jax.runtime.text import abridged, duration, joined, plural


def test_plural_counts_in_words():
    assert [plural(n, "fold") for n in (0, 1, 5, 1200)] == [
        "0 folds", "1 fold", "5 folds", "1,200 folds"
    ]  # fmt: skip
    assert plural(2, "entry", "entries") == "2 entries"


def test_words_are_joined_with_a_word_before_the_last():
    assert joined([]) == "" and joined(["a"]) == "a" and joined(["a", "b"]) == "a and b"
    assert joined(["a", "b", "c"], "or") == "a, b or c"


def test_of_many_names_the_first_five_are_shown():
    assert (
        abridged("ABCDE") == "A, B, C, D, E" and abridged("ABCDEFG") == "A, B, C, D, E and 2 more"
    )


def test_a_duration_has_hours_only_where_needed():
    assert [duration(s) for s in (0.4, 65, 7384.2)] == ["0:00", "1:05", "2:03:04"]
