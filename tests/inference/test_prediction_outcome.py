"""The results of a prediction by case, and the lines about them."""

from pathlib import Path

from brats_jax.errors import BratsError
from brats_jax.inference.prediction_outcome import Outcome


def test_a_failed_case_is_one_line_and_counts_in_the_summary(capsys):
    outcome = Outcome(written={"a": Path("a_seg.nii.gz")})
    assert outcome.summary() == "1 written, 0 kept, 0 failed"
    outcome.fail("b", BratsError("b_t1.nii is tilted by 20 degrees"), Path("out"))
    assert capsys.readouterr().err == "error: case b: b_t1.nii is tilted by 20 degrees\n"
    outcome.fail("c", MemoryError(), Path("out"))
    assert "c: out: not enough memory" in capsys.readouterr().err
    assert outcome.summary() == "1 written, 0 kept, 2 failed: b, c"
    outcome.doubtful.append("a")
    assert outcome.summary().startswith("1 written (1 with a WARNING: a), 0 kept, ")
