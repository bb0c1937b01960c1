"""The documents of an evaluation."""

import numpy as np
import pytest

from brats_jax.runs.documents import SCORE_KEYS, Score, TallyHead
from brats_jax.runtime.files import json_text


def test_the_key_of_a_score_has_the_values_of_the_keys_in_their_order():
    score = Score("segment", "patient", "volumes", "WT", "dice", "brats2020", 0.9, 3)
    assert score.key == tuple(getattr(score, name) for name in SCORE_KEYS)


def test_the_head_of_a_tally_is_read_from_its_arrays():
    head = TallyHead("segment", {"fold": 1})
    arrays = {"head": np.array(json_text(head.to_json()))}
    assert TallyHead.read(arrays) == head
    with pytest.raises(KeyError):
        TallyHead.read({})
