"""The comparison of folders finds what is added, not only what has changed."""

import json

import pytest
from result_folders import differences, read_folder

ROW = {
    "stage": "segment",
    "unit": "slice",
    "over": "all slices",
    "of": "ET",
    "metric": "dice",
    "convention": "paper",
    "mean": 0.5,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps({"rows": [ROW]}))
    header = ",".join(ROW)
    (tmp_path / "summary.csv").write_text(f"{header}\nsegment,slice,all slices,ET,dice,paper,0.5\n")
    return tmp_path


def test_equal_folders_do_not_differ(folder):
    assert differences(read_folder(folder), read_folder(folder)) == []


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("summary.csv", "{head},new\n{row},1\n", "summary.csv:new/"),
        ("summary.csv", "{head}\n{row}\nsegment,slice,all slices,XX,dice,paper,0.5\n", "XX"),
        ("evaluation.json", json.dumps({"rows": [ROW, {**ROW, "of": "XX"}]}), "XX"),
        ("lock.alive", "{{}}", "lock.alive:"),
        ("more.csv", "a\n1\n", "more.csv:a/0"),
    ],
)
def test_a_new_row_column_or_file_is_a_difference(folder, name, text, found):
    before = read_folder(folder)
    if name == "summary.csv":
        head, row = (folder / name).read_text().splitlines()
        text = text.format(head=head, row=row)
    (folder / name).write_text(text)
    lines = differences(before, read_folder(folder))
    assert lines and all(line.endswith(": is new") and found in line for line in lines)


def test_what_later_versions_add_is_none(folder):
    before = read_folder(folder)
    rows = [ROW, {**ROW, "metric": "asd_mm", "convention": "penalised"}]
    (folder / "evaluation.json").write_text(json.dumps({"rows": rows}))
    (folder / "written.json").write_text(json.dumps({"files": {"summary.csv": ["ab"]}}))
    assert differences(before, read_folder(folder)) == []
