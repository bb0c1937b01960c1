import pytest

from brats_jax.data.modalities import (
    ALIASES,
    CLASSES,
    LABEL_SETS,
    MODALITIES,
    REGIONS,
    Synthesis,
    canonical_name,
    canonical_names,
    channel_indices,
)
from brats_jax.errors import BratsError


def test_channels_are_looked_up_by_name():
    assert channel_indices(("t1", "flair")) == (0, 3)
    assert channel_indices(MODALITIES) == (0, 1, 2, 3)
    assert channel_indices(("t1ce", "FLAIR", "T2w")) == (1, 3, 2)
    with pytest.raises(BratsError, match="unknown modality 'pd'; valid names: t1 "):
        channel_indices(("pd",))


@pytest.mark.parametrize("name", ["t1ce", "T1CE", "t1c", "T1Gd", "t1-gd", " T1_ce ", "T1post"])
def test_spellings_of_a_modality_are_read(name):
    assert canonical_name(name) == "t1gd"
    assert canonical_names(["t1", name, "pd"]) == ["t1", "t1gd", "pd"]


def test_no_spelling_means_two_modalities():
    spellings = [name for names in ALIASES.values() for name in names] + list(MODALITIES)
    assert len(spellings) == len(set(spellings))


def test_regions_are_nested():
    assert set(REGIONS["WT"]) > set(REGIONS["TC"]) > set(REGIONS["ET"])
    assert REGIONS["ET"] == (CLASSES.index("ET"),)


def test_every_label_set_is_listed_once():
    assert list(LABEL_SETS) == ["background", "NCR/NET", "ED", "ET", "WT", "TC"]
    assert LABEL_SETS["ED"] == (2,) and LABEL_SETS["TC"] == (1, 3)


def test_a_synthesis_is_possible_from_its_inputs_and_predicts_its_targets():
    flair = Synthesis(("t1", "t1gd"), ("flair",))
    assert str(flair) == "FLAIR from T1 and T1Gd"
    assert flair.is_possible(("t1", "t1gd", "t2")) and not flair.is_possible(("t1", "t2"))
    assert flair.predicts_all(("flair",), ("t1", "t1gd", "t2"))
    assert not flair.predicts_all(("flair",), ("t1", "t2"))
    assert not flair.predicts_all(("t2", "flair"), ("t1", "t1gd"))
