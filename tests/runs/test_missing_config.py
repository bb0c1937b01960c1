import pytest

from brats_jax.errors import BratsError
from brats_jax.runs.missing_config import check_config_exists, missing_config_notes


def test_folders_of_trained_folds_without_their_settings_are_named(tmp_path):
    for run in ("a", "grid/runs/b", "whole"):
        (tmp_path / run / "fold_0" / "segment").mkdir(parents=True)
        (tmp_path / run / "fold_0" / "segment" / "complete.json").touch()
    (tmp_path / "whole" / "config.json").touch()
    (tmp_path / "empty" / "fold_0" / "segment").mkdir(parents=True)
    lines = missing_config_notes(tmp_path)
    assert [line.split(" is missing")[0] for line in lines] == [
        str(tmp_path / "a" / "config.json"),
        str(tmp_path / "grid" / "runs" / "b" / "config.json"),
    ]
    with pytest.raises(BratsError, match="copy it back, or give another --workdir"):
        check_config_exists(tmp_path / "a")
    check_config_exists(tmp_path / "whole")
