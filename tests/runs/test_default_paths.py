from pathlib import Path
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from brats_jax.errors import BratsError
from brats_jax.runs.default_paths import (
    check_stores,
    default_store,
    default_workdir,
    note_on_store,
)
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


def test_a_missing_or_unfinished_store_is_refused(tmp_path):
    there, begun = tmp_path / "there", tmp_path / "begun"
    for path, name in ((there, "manifest.json"), (begun, "preparation.json")):
        path.mkdir()
        (path / name).touch()

    def check(store, others=True, **data):
        check_stores(ConfigDict({"data": {"store": str(store), **data}}), others=others)

    check(there)
    check(there, other_planes=f"{there}, {there}")
    check(there, others=False, other_planes="none")
    for data in ({"store": "none"}, {"store": there, "other_planes": f"{there},none"}):
        with pytest.raises(BratsError, match="there is no store at none: make one"):
            check(**data)
    with pytest.raises(BratsError, match="begun is not finished: give its prepare command again"):
        check(begun)


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
