"""The documents that the first version wrote are read, and written again to the same bytes."""

import json
import tarfile

import pytest
from compatibility_examples import DATA

from brats_jax.data import audit
from brats_jax.runs import documents, sidecars
from brats_jax.runs.documents.export import ExportDocument
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
    "exported/segment.json": ExportDocument,
    "exported/reconstruct.json": ExportDocument,
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
