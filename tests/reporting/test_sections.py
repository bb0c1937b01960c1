"""The sections of a report: their order and their numbering."""

import dataclasses

import pytest
from report_examples import write_run

from brats_jax.reporting.figures.figure import Figure
from brats_jax.reporting.read_runs import discover
from brats_jax.reporting.sections import Points, Section, Words, build
from brats_jax.reporting.tables.table import Table
from brats_jax.runs.documents import Evaluation
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document


@pytest.fixture(scope="module")
def sections(study) -> list[Section]:
    return build(study)


def test_tables_and_figures_without_a_number_in_the_paper_are_counted_from_s1(sections):
    blocks = [block for section in sections for block in section.blocks]
    for kind in (Table, Figure):
        own = [b.number for b in blocks if isinstance(b, kind) and " S" in b.number]
        assert own == [f"{kind.__name__} S{k + 1}" for k in range(len(own))] and own
    numbers = [b.number for b in blocks if isinstance(b, Table)]
    assert {f"Table {k}" for k in range(1, 7)} <= set(numbers)
    assert {f"Appendix Table {k}" for k in range(1, 5)} <= set(numbers)
    assert len(numbers) == len(set(numbers))


def test_the_report_begins_with_a_summary_and_ends_with_missing_results(sections):
    titles = [section.title for section in sections]
    assert (titles[0], titles[-1]) == ("Summary", "Missing results")


def test_every_section_of_a_baseline_alone_has_content(tmp_path):
    sections = build(discover(write_run(tmp_path / "run", ssl=False)))
    assert all(section.blocks for section in sections)
    notes = [b.text for s in sections for b in s.blocks if isinstance(b, Words) and b.missing]
    assert any("No pretraining has been evaluated" in text for text in notes)
    assert any("Table 3 and Appendix Table 2 have no counterpart here" in text for text in notes)


def test_warnings_stand_in_the_summary(tmp_path):
    summary = build(discover(write_run(tmp_path / "run", source="phantom")))[0]
    (warnings,) = [b for b in summary.blocks if isinstance(b, Points) and b.role == "warnings"]
    assert "synthetic" in warnings.items[0]


def test_a_pretext_of_the_papers_slicing_is_named(tmp_path):
    run = write_run(tmp_path / "run", stages=("pretrain",))
    path = RunFolder(run).fold(0).evaluation_json
    sentence = "This pretraining predicts T2 from FLAIR and T1, as the paper’s probably did"
    for target, inputs, named in (("t2", ("flair", "t1"), True), ("flair", ("t1", "t1gd"), False)):
        evaluation = read_document(path, Evaluation)
        dataclasses.replace(evaluation, target=target, inputs=inputs).write(path)
        blocks = next(s for s in build(discover(run)) if s.name == "pretraining").blocks
        words = [b.text for b in blocks if isinstance(b, Words)]
        assert any(text.startswith(sentence) for text in words) == named
        table = next(b for b in blocks if isinstance(b, Table))
        first = (
            "T2 predicted from FLAIR and T1. " if named else "FLAIR predicted from T1 and T1Gd. "
        )
        assert table.caption.startswith(first)


def test_the_pretraining_that_the_ssl_runs_started_from_is_named_beside_another(tmp_path):
    for decoder, stages in (("transposed", ("pretrain",)), ("unet", ("pretrain", "segment"))):
        write_run(tmp_path / decoder, stages=stages, settings={"pretrain.decoder": decoder})
    blocks = next(s for s in build(discover(tmp_path)) if s.name == "pretraining").blocks
    tables = {b.name: b.caption for b in blocks if isinstance(b, Table)}
    started = "The SSL runs started from another pretraining: decoder unet."
    for name in ("table_1", "appendix_table_1", "image_quality"):
        assert f" Pretraining shown: decoder transposed. {started}" in tables[name], name
    (left_out,) = [b.text for b in blocks if isinstance(b, Words) and b.missing]
    assert left_out.endswith(
        "1 other pretraining of this report: decoder unet, from which the SSL runs started."
    )
