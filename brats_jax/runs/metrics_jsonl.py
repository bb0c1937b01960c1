"""Reader of metrics.jsonl, the log of a training stage."""

import json
from pathlib import Path
from typing import Any


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a metrics.jsonl, one JSON object a line.

    Skips lines that are damaged or that a kill has cut off. No file: no records.
    """
    if not path.exists():
        return []
    records = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"event", "step"} <= set(record):
            records.append(record)
    return records
