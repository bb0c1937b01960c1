"""The calibrate command's flags; tests/test_predict.py calibrates a run and uses it."""

import pytest
from processes import command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--checkpoint is missing"),
        (["--checkpoint=nowhere"], "'nowhere': no run there"),
        (["--checkpoint=x", "--batch_size=0"], "batch_size"),
        (["--checkpoint=x", "--planes=all"], "--planes has no effect without --cleaning: temp"),
        (["--checkpoint=x", "--tta"], "--tta has no effect without --cleaning: temperatures"),
        (["--checkpoint=x", "--coordinator=host:1"], "only brats_jax.main runs in several"),
    ],
)
def test_wrong_flags_are_one_line(arguments, message):
    status, out, err = command("calibrate", *arguments)
    assert (status, out) == (1, "") and message in err
    assert err.startswith("error: ") and len(err.splitlines()) == 1


def test_the_cleaning_is_fitted_over_all_folds_of_a_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    status, _, err = command("calibrate", f"--checkpoint={tmp_path}/fold_0", "--cleaning")
    assert status == 1 and f"over all folds of a run: give --checkpoint={tmp_path}\n" in err
