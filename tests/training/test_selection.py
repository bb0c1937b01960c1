"""The choice of the best checkpoint by the scores of the validations."""

import pytest

from brats_jax.training.selection import Selection


@pytest.mark.parametrize(
    ("larger", "keep_last", "steps"),
    [(True, False, [1, 3]), (False, False, [1, 2]), (True, True, [1, 2, 3, 4])],
)
def test_validations_that_beat_all_before_them_are_the_best_so_far(larger, keep_last, steps):
    scores = {1: 0.5, 2: 0.4, 3: 0.6, 4: 0.6}
    records = [{"event": "validation", "step": step, "dice": v} for step, v in scores.items()]
    others = [{"event": "train", "step": 5, "dice": 0.9}, {"event": "validation", "step": 6}]
    best = Selection("dice", larger, keep_last).best_so_far(records + others)
    assert best == {step: scores[step] for step in steps}


def test_an_equal_score_improves_nothing_and_a_first_score_does():
    for larger in (True, False):
        assert not Selection("dice", larger).improves(0.5, 0.5)
        assert Selection("dice", larger).improves(0.5, None)
        assert Selection("dice", larger, keep_last=True).improves(0.5, 0.5)
