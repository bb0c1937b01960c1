"""The documents of a stage."""

from brats_jax.runs.documents import StageResult


def test_two_results_of_the_same_weights_may_differ_in_time():
    result = StageResult("mse", 0.5, 8, 16, 7.2)
    assert result.has_the_weights_of(StageResult("mse", 0.5, 8, 16, 9.9))
    assert not result.has_the_weights_of(StageResult("mse", 0.6, 8, 16, 7.2))
