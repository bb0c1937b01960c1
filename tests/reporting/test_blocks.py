"""The parts of a section."""

from brats_jax.reporting.blocks import Code, Points, Words, if_any, in_words


def test_each_part_names_its_kind_for_the_page():
    parts = (Words("a"), Points("b", ("c",)), Code("d", "e"))
    assert [part.kind for part in parts] == ["words", "points", "code"]


def test_many_sentences_are_folded():
    assert in_words("a", ["b"] * 6).role == "open" and in_words("a", ["b"] * 7).role == "plain"
    assert list(if_any(None)) == []
