from pathlib import Path
from types import SimpleNamespace

import pytest

from brats_jax.runs.default_paths import default_store, default_workdir, note_on_store
from brats_jax.runtime import document

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


@pytest.mark.parametrize(
    ("config", "normalisation", "noted"),
    [("best", "slice", True), ("best", "volume", False), ("missing", "slice", True),
     ("small", "robust", True), ("ssl", "slice", False)],
)  # fmt: skip
def test_a_recipe_recommends_the_normalisation_of_its_store(
    tmp_path, monkeypatch, config, normalisation, noted
):
    monkeypatch.syspath_prepend(CONFIGS.parent)
    file = str(CONFIGS / f"{config}.py")
    assert note_on_store(file, str(tmp_path)) == ""  # no store, which the command refuses itself
    manifest = SimpleNamespace(normalisation=normalisation)
    monkeypatch.setattr(document, "read_if_readable", lambda path, kind: manifest)
    note = note_on_store(file, str(tmp_path / "store"))
    expected = (
        f"note: {config}.py recommends a store prepared with --normalisation=volume; "
        f"{tmp_path / 'store'} is normalised by {normalisation}"
    )
    assert note == (expected if noted else "")
