from pathlib import Path

import pytest

from brats_jax.runs.default_paths import default_store, default_workdir

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("loss", "folder"), [("dice_ce", "runs/ssl"), ("dice_focal", "runs/ssl-dice_focal")]
)
def test_a_run_folder_is_named_after_its_configuration_and_another_loss(loss, folder):
    assert default_workdir(str(CONFIGS / "ssl.py"), loss) == Path(folder)


def test_the_environment_names_the_default_store(monkeypatch):
    monkeypatch.delenv("BRATS_JAX_STORE", raising=False)
    assert default_store() == "stores/default"
    monkeypatch.setenv("BRATS_JAX_STORE", "/data/brats")
    assert default_store() == "/data/brats"
