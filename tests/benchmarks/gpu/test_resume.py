"""Comparison of the arrays of two runs, bit by bit."""

import numpy as np
import pytest

from benchmarks.gpu import resume


def test_negative_zero_differs_from_zero():
    left = {"zero": np.zeros(2, np.float32), "one": np.ones(3, np.float32)}
    assert resume.differing(left, {name: array.copy() for name, array in left.items()}) == []
    assert resume.differing(left, {**left, "zero": np.array([0, -0.0], np.float32)}) == ["zero"]
    with pytest.raises(ValueError, match="different arrays"):
        resume.differing(left, {"one": left["one"]})
