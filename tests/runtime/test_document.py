import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from brats_jax.errors import BratsError
from brats_jax.runtime.document import (
    Document,
    Part,
    SealedDocument,
    read_document,
    read_if_readable,
    read_if_there,
    read_own_if_there,
)


@dataclass(frozen=True)
class Point(Part):
    x: float
    y: float | None


@dataclass(frozen=True)
class Drawing(Document):
    SCHEMA: ClassVar[str] = "test.drawing"
    VERSION: ClassVar[int] = 2
    REMEDY: ClassVar[str] = "draw it again"
    name: str
    count: int
    closed: bool
    points: tuple[Point, ...]
    facts: dict[str, Any]
    note: str = ""
    colours: dict[str, int] = field(default_factory=dict)


DRAWING = Drawing("a", 3, True, (Point(1, 2.5), Point(0.5, None)), {"any": [1, {"x": None}]})
TEXT = {
    "schema": "test.drawing",
    "version": 2,
    "name": "a",
    "count": 3,
    "closed": True,
    "points": [{"x": 1, "y": 2.5}, {"x": 0.5, "y": None}],
    "facts": {"any": [1, {"x": None}]},
}


def test_a_document_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "drawing.json"
    DRAWING.write(path)
    assert json.loads(path.read_text()) == TEXT
    assert list(json.loads(path.read_text())) == list(TEXT)
    assert read_document(path, Drawing) == DRAWING


def test_a_field_with_a_default_is_left_out_while_it_has_it():
    assert Drawing.from_json({**TEXT, "note": "n"}).to_json() == {**TEXT, "note": "n"}
    assert Drawing.from_json({**TEXT, "note": "", "colours": {}}).to_json() == TEXT


def test_fields_of_a_later_version_are_ignored():
    assert Drawing.from_json({**TEXT, "new": 1}) == DRAWING


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "No such file or directory"),
        ("", "is not valid JSON"),
        (json.dumps(TEXT)[:-20], "is not valid JSON"),
        ("\xff", "is not valid JSON"),
        ("[]", "is not a JSON object"),
        ({"schema": "test.other"}, "not a version 2 test.drawing file .it says test.other 2"),
        ({"version": 3}, "not a version 2 test.drawing file .it says test.drawing 3"),
        ({"name": ...}, "'name' is missing"),
        ({"name": 3}, "'name' is '3', not a text"),
        ({"count": 1.5}, "'count' is '1.5', not a whole number"),
        ({"count": True}, "'count' is 'True', not a whole number"),
        ({"closed": 1}, "'closed' is '1', not true or false"),
        ({"points": {}}, "'points' is '{}', not a list"),
        ({"points": [3]}, "'points' is '3', not an object"),
        ({"points": [{"x": 1}]}, "in 'points': 'y' is missing"),
        ({"colours": {"red": "much"}}, "'colours.red' is 'much', not a whole number"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_a_remedy(tmp_path, text, problem):
    path = tmp_path / "drawing.json"
    if isinstance(text, dict):
        changed = {**TEXT, **text}
        text = json.dumps({key: value for key, value in changed.items() if value is not ...})
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(BratsError, match=problem) as caught:
        read_document(path, Drawing)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.endswith("draw it again")
    assert "\n" not in message
    assert read_if_readable(path, Drawing) is None


def test_a_file_that_need_not_be_there_is_none(tmp_path):
    assert read_if_there(tmp_path / "none.json", Drawing) is None
    (tmp_path / "file").touch()
    assert read_if_there(tmp_path / "file" / "none.json", Drawing) is None
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BratsError, match="not valid JSON"):
        read_if_there(tmp_path / "bad.json", Drawing)


def test_a_file_of_another_program_is_none_and_a_damaged_own_one_is_refused(tmp_path):
    path = tmp_path / "drawing.json"
    assert read_own_if_there(path, Drawing, "kept") is None
    for other in ("{", "no JSON", '{"schema": "another"}'):
        path.write_text(other)
        assert read_own_if_there(path, Drawing, "kept") is None
    path.write_text(json.dumps(TEXT).removesuffix("}"))
    with pytest.raises(BratsError, match="kept"):
        read_own_if_there(path, Drawing, "kept")
    DRAWING.write(path)
    assert read_own_if_there(path, Drawing, "kept") == DRAWING


def test_a_caller_may_name_another_remedy(tmp_path):
    with pytest.raises(
        BratsError, match=r"cannot be read .No such file or directory.: buy a pencil"
    ):
        read_document(tmp_path / "none.json", Drawing, "buy a pencil")


@dataclass(frozen=True)
class Sealed(SealedDocument):
    """A document that holds its checksum."""

    values: dict[str, float | None]


def test_a_sealed_document_is_refused_when_anything_in_it_has_changed(tmp_path):
    path = tmp_path / "sealed.json"
    Sealed({"a": 0.1, "b": float("nan")}).write(path)
    assert read_document(path, Sealed).values == {"a": 0.1, "b": None}
    text = path.read_text()
    for old, new in (("0.1", "0.2"), ('"b"', '"c"'), ("null", "1.5")):
        path.write_text(text.replace(old, new))
        with pytest.raises(BratsError, match=r"sealed\.json: it has changed since it was written"):
            read_document(path, Sealed)
    path.write_text(json.dumps({**json.loads(text), "sha256": ""}))  # of version 0.1.0
    assert read_document(path, Sealed).values == {"a": 0.1, "b": None}
