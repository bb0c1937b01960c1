import json

from brats_jax.data.store.layout import (
    MANIFEST,
    PREPARATION,
    CaseRecord,
    Manifest,
    PreparationSettings,
    case_files,
)
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.writer import write_document


def test_documents_are_written_as_they_were_read(tmp_path):
    prepare("phantom", tmp_path / "s", patients=1, seed=1, shape=(16, 32, 32), workers=1)
    for name, kind in ((MANIFEST, Manifest), (case_files("Phantom_001")[2], CaseRecord)):
        before = (tmp_path / "s" / name).read_bytes()
        write_document(tmp_path / "again.json", kind.from_json(json.loads(before)))
        assert (tmp_path / "again.json").read_bytes() == before


def test_the_settings_of_a_preparation_have_one_line_each(tmp_path):
    settings = PreparationSettings({"kind": "phantom", "seed": 1}, "slice", 2)
    write_document(tmp_path / PREPARATION, settings)
    assert (tmp_path / PREPARATION).read_text() == (
        '{\n"source": {"kind": "phantom", "seed": 1},\n"normalisation": "slice",\n"version": 2\n}\n'
    )
