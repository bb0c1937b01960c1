import pytest

from brats_jax.data.scans.options import MAX_CASE_GB, ReadOptions, check_case_bytes
from brats_jax.errors import BratsError


def test_axes_are_taken_in_any_case():
    assert ReadOptions("lps").orientation == "LPS" and ReadOptions().orientation == ""
    assert ReadOptions().max_case_gb == MAX_CASE_GB


@pytest.mark.parametrize("codes", ["LP", "LPX", "LRS", "LPSS", "x" * 1000])
def test_other_axes_are_refused_in_one_line(codes):
    with pytest.raises(BratsError, match=r"--orientation=.*one of L and R.* e.g. LPS") as error:
        ReadOptions(codes)
    assert len(str(error.value)) < 200


def test_a_case_above_the_limit_is_refused():
    check_case_bytes("a", 999, 1e-6)
    with pytest.raises(BratsError, match=r"a: its case takes .*--max_case_gb"):
        check_case_bytes("a", 1001, 1e-6)
