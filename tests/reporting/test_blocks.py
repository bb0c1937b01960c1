"""The parts of a section."""

from brats_jax.reporting.blocks import Code, Points, Words


def test_each_part_names_its_kind_for_the_page():
    parts = (Words("a"), Points("b", ("c",)), Code("d", "e"))
    assert [part.kind for part in parts] == ["words", "points", "code"]
