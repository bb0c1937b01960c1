import pytest

from brats_jax.data.modalities import CLASSES, LABEL_SETS, MODALITIES, REGIONS, channel_indices
from brats_jax.errors import BratsError


def test_channels_are_looked_up_by_name():
    assert channel_indices(("t1", "flair")) == (0, 3)
    assert channel_indices(MODALITIES) == (0, 1, 2, 3)
    with pytest.raises(BratsError, match="unknown modality 't1ce'; valid names: t1, t1gd, t2"):
        channel_indices(("t1ce",))


def test_regions_are_nested():
    assert set(REGIONS["WT"]) > set(REGIONS["TC"]) > set(REGIONS["ET"])
    assert REGIONS["ET"] == (CLASSES.index("ET"),)


def test_every_label_set_is_listed_once():
    assert list(LABEL_SETS) == ["background", "NCR/NET", "ED", "ET", "WT", "TC"]
    assert LABEL_SETS["ED"] == (2,) and LABEL_SETS["TC"] == (1, 3)
