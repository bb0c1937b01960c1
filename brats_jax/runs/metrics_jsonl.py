"""Reader of metrics.jsonl, the log of a training stage."""

from pathlib import Path
from typing import Any

from brats_jax.errors import BratsError
from brats_jax.runtime.files import read_regular
from brats_jax.runtime.json_text import parse_json

_MOST_BYTES = 2**30
_NUMBERS = ("step", "epoch")
_SHOWN = ("loss", "patches_per_second")  # in the report


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a metrics.jsonl, one JSON object a line.

    Skips lines that are damaged, not of a record, or that a kill has cut off. No file: no records.

    Raises:
      BratsError: it cannot be read, or is no file.
    """
    if not path.exists():
        return []
    try:
        text = read_regular(path, _MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BratsError(f"{path} cannot be read ({reason}): copy it again, or remove it") from None
    records = []
    for line in text.splitlines():
        try:
            record = parse_json(line, allow_nan=True)
        except ValueError:
            continue
        if isinstance(record, dict) and _is_record(record):
            records.append(record)
    return records


def _is_record(record: dict[str, Any]) -> bool:
    numbers = [record[name] for name in _NUMBERS if name in record]
    return (
        isinstance(record.get("event"), str)
        and "step" in record
        and all(type(number) is int and number >= 0 for number in numbers)
        and all(
            value is None or type(value) in (int, float, str, bool) for value in record.values()
        )
        and all(type(record.get(name)) in (int, float, type(None)) for name in _SHOWN)
    )
