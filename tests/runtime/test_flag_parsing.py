"""--config among the arguments of a command; tests/runtime/test_cli.py has whole commands."""

from pathlib import Path

import pytest
from processes import ROOT

from brats_jax.runtime.flag_parsing import config_argument, with_found_config


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["x", "--config=a.py", "--seed=1"], Path("a.py")),
        (["x", "-config", "a.py"], Path("a.py")),
        (["x", "--config.seed=1"], None),
        (["x", "config=a.py"], None),
    ],
)
def test_the_configuration_is_the_value_of_its_flag(arguments, path):
    assert config_argument(arguments) == path


def test_a_configuration_of_the_program_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["x", "--config=configs/ssl.py", "--config.seed=1"]
    arguments, path = with_found_config(given, Path("configs/ssl.py"))
    assert path == ROOT / "configs" / "ssl.py"
    assert arguments == ["x", f"--config={path}", "--config.seed=1"]


def test_a_configuration_in_the_working_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "ssl.py").touch()
    given = ["x", "--config=configs/ssl.py"]
    assert with_found_config(given, Path("configs/ssl.py")) == (given, Path("configs/ssl.py"))


def test_a_configuration_that_is_nowhere_is_one_line(capsys):
    with pytest.raises(SystemExit):
        with_found_config(["x", "--config=none.py"], Path("none.py"))
    assert capsys.readouterr().err.startswith("error: none.py: no such configuration in ")
