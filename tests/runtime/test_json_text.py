import math

import pytest

from brats_jax.runtime.json_text import parse_json


def test_json_comes_back_as_it_was_written():
    assert parse_json('{"a": [1, -2.5e3, null, true, "x"], "b": {}}') == {
        "a": [1, -2500.0, None, True, "x"],
        "b": {},
    }
    assert parse_json(str(2**63 - 1)) == 2**63 - 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1, "a": 2}', "'a' stands there twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested too deeply"),
        ("1e400", "is too large"),
        ("9" * 4400, "does not fit in 64 bits"),
        (str(2**63), "does not fit in 64 bits"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("\ufeff{}", "BOM"),
        ("", "Expecting value"),
    ],
)
def test_what_would_be_taken_in_silence_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_json(text)


def test_logs_may_hold_the_words_that_python_writes_for_no_number():
    assert math.isnan(parse_json("NaN", allow_nan=True))
