"""The arguments of `load` are checked before anything is opened."""

import pytest

from brats_jax import inference
from brats_jax.errors import BratsError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "reconstruct", "min_et_mm3": 3}, "labels: leave them out"),
        ({"task": "guess"}, "unknown task 'guess'; valid: segment, reconstruct"),
        ({"path": ["a", "b"]}, r"\['a', 'b'\] is no path: .* several runs as one text"),
        ({"path": None}, "None is no path: give a text"),
        ({"min_component_mm3": float("nan")}, "min_component_mm3=nan: give a finite number from 0"),
        ({"min_et_mm3": "5"}, "min_et_mm3='5': give a finite number from 0 up"),
        ({"min_et_mm3": -1}, "min_et_mm3=-1: give"),
        ({"batch_size": 2.5}, "batch_size=2.5: give 0 to 65,536 slices"),
        ({"batch_size": 10**9}, "batch_size=1000000000: give"),
        ({"max_case_gb": 0}, "max_case_gb=0: give a size in GB above 0"),
        ({"max_case_gb": "4"}, "max_case_gb='4': give a size in GB above 0"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(arguments, message):
    with pytest.raises(BratsError, match=message):
        inference.load(**{"path": "small", **arguments})
