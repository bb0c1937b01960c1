"""config.json of a run: its settings, of this version and of earlier ones."""

import pytest
from document_examples import STORE

from brats_jax.errors import BratsError
from brats_jax.runs.documents import RunConfig
from brats_jax.runtime.document import read_document


def test_settings_that_a_run_does_not_record_have_their_earlier_meaning(tmp_path):
    RunConfig({"data": {}}, STORE).write(tmp_path / "config.json")
    settings = read_document(tmp_path / "config.json", RunConfig).settings
    assert not settings.ssl
    assert settings.data.label_fraction == 1.0
    assert settings.pretrain.inputs == ()


@pytest.mark.parametrize(
    "config",
    [{"seed": "x"}, {"data": 3}, {"data": {"store": None}}, {"pretrain": {"inputs": "t1"}}],
)
def test_a_recorded_setting_of_another_type_is_refused(tmp_path, config):
    RunConfig(config, STORE).write(tmp_path / "config.json")
    with pytest.raises(BratsError, match=r"config.json: .* is .*, not "):
        read_document(tmp_path / "config.json", RunConfig)


def test_an_edited_file_is_refused_with_the_entry_that_keeps_the_edit(tmp_path):
    path = tmp_path / "config.json"
    RunConfig({"seed": 1}, STORE).write(path)
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(BratsError, match="to keep an edit, remove its entry 'sha256'"):
        read_document(path, RunConfig)
