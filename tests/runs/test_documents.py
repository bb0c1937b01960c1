"""The documents that the first version wrote are read, and written again to the same bytes."""

import json
import tarfile

import pytest
from compatibility_examples import DATA
from document_examples import STORE

from brats_jax.data import audit
from brats_jax.errors import BratsError
from brats_jax.runs import documents, export_document, sidecars
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import json_text

# By the end of the file's name.
KINDS = {
    "/config.json": documents.RunConfig,
    "/grid.json": documents.GridConfig,
    "/audit.json": audit.Audit,
    "/training.json": documents.StageTraining,
    "/complete.json": documents.StageResult,
    "/pretraining.json": documents.PretrainingSource,
    "/evaluation.json": documents.Evaluation,
    "/summary.json": documents.Summary,
    "/calibration.json": documents.Calibration,
    "-fold_0.json": documents.CellRecord,
    "_seg.json": sidecars.SegmentationSidecar,
    "_synthetic.json": sidecars.SyntheticSidecar,
    "exported/segment.json": export_document.ExportDocument,
    "exported/reconstruct.json": export_document.ExportDocument,
}


@pytest.fixture(scope="module")
def texts():
    """By kind: the files that the first version wrote."""
    found = {kind: [] for kind in KINDS.values()}
    with tarfile.open(DATA) as archive:
        for member in archive:
            for end, kind in KINDS.items():
                if member.name.endswith(end):
                    found[kind].append(archive.extractfile(member).read().decode())
    return found


@pytest.mark.parametrize("kind", dict.fromkeys(KINDS.values()), ids=lambda kind: kind.__name__)
def test_a_document_of_the_first_version_keeps_its_bytes(texts, kind):
    assert texts[kind]
    for text in texts[kind]:
        assert json_text(kind.from_json(json.loads(text)).to_json()) == text


def test_two_results_of_the_same_weights_may_differ_in_time():
    result = documents.StageResult("mse", 0.5, 8, 16, 7.2)
    assert result.has_the_weights_of(documents.StageResult("mse", 0.5, 8, 16, 9.9))
    assert not result.has_the_weights_of(documents.StageResult("mse", 0.6, 8, 16, 7.2))


def test_settings_that_a_run_does_not_record_have_their_earlier_meaning(tmp_path):
    documents.RunConfig({"data": {}}, STORE).write(tmp_path / "config.json")
    settings = read_document(tmp_path / "config.json", documents.RunConfig).settings
    assert not settings.ssl
    assert settings.data.label_fraction == 1.0
    assert settings.pretrain.inputs == ()


@pytest.mark.parametrize(
    "config",
    [{"seed": "x"}, {"data": 3}, {"data": {"store": None}}, {"pretrain": {"inputs": "t1"}}],
)
def test_a_recorded_setting_of_another_type_is_refused(tmp_path, config):
    documents.RunConfig(config, STORE).write(tmp_path / "config.json")
    with pytest.raises(BratsError, match=r"config.json: .* is .*, not "):
        read_document(tmp_path / "config.json", documents.RunConfig)
