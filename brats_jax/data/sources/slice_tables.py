"""The metadata tables of the Kaggle slice data set: pixel counts by slice, grades by patient."""

import csv
import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brats_jax.data.sources.slice_file import SLICE_FILE
from brats_jax.errors import BratsError
from brats_jax.runtime.files import read_regular, unreadable

_COUNTS = ("label0_pxl_cnt", "label1_pxl_cnt", "label2_pxl_cnt")
_MOST_BYTES = 2**27  # the tables of the release have five megabytes
_MOST_DIGITS = 20
_NAMED = re.compile(r"meta[\s_-]?data", re.IGNORECASE)  # the tables of the release


@dataclasses.dataclass(frozen=True)
class Row:
    """The row of a slice in a metadata table."""

    target: int
    counts: tuple[int, ...] | None
    table: str


@dataclasses.dataclass
class Tables:
    """All metadata tables of a folder.

    Attributes:
      rows: by patient and slice number.
      names: of the tables.
      problems: of patients with a row that is none, one line each.
    """

    rows: dict[str, dict[int, Row]] = dataclasses.field(default_factory=dict)
    names: list[str] = dataclasses.field(default_factory=list)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)


def patient_name(volume: int) -> str:
    """'BraTS20_Training_007' of volume 7."""
    return f"BraTS20_Training_{volume:03d}"


def check_row(path: str, labels: np.ndarray, row: Row) -> None:
    """Refuses labels that do not have the pixel counts of their row (BratsError)."""
    counts = tuple(np.bincount(labels.ravel(), minlength=4)[1:].tolist())
    remedy = f"fetch it again, or move {row.table} away to go on without this check"
    if row.counts is not None and row.counts != counts:
        raise BratsError(
            f"{path} has {counts} pixels of NCR/NET, ED, ET, its row in {row.table} says "
            f"{row.counts}: {remedy}"
        )
    if bool(row.target) != any(counts):
        raise BratsError(
            f"{path} has {sum(counts)} tumour pixels, its row in {row.table} says "
            f"target {row.target}: {remedy}"
        )


def read_tables(files: Sequence[Path]) -> Tables:
    """Reads the metadata tables among files; other CSV files are ignored.

    Raises:
      BratsError: a CSV file cannot be read, a table is empty, a row belongs to no slice, or
        tables contradict each other.
    """
    tables = Tables()
    for path in files:
        if path.suffix.lower() != ".csv":
            continue
        columns, found = _read_csv(path)
        is_table = {"slice_path", "target"} <= set(columns)
        if not found and (is_table or _NAMED.search(path.stem)):
            raise BratsError(
                f"{path} is {'a table without rows' if columns else 'empty'}, so that no labels "
                "can be checked with it: fetch it again, or move it away to go on without its "
                "checks"
            )
        if not found or not is_table:
            continue
        tables.names.append(path.name)
        for line, row in enumerate(found, start=2):
            _add_row(tables, path, line, row)
    return tables


def _add_row(tables: Tables, path: Path, line: int, row: dict[str, str]) -> None:
    # slice_path contains the folder of the machine that wrote the table.
    match = SLICE_FILE.search((row["slice_path"] or "")[-400:])
    if match is None or max(map(len, match.groups())) > _MOST_DIGITS:
        raise BratsError(
            f"{path}, line {line}, names no slice (volume_N_slice_M.h5): fetch the file again, or "
            "move it away to go on without its checks"
        )
    patient, number = patient_name(int(match[1])), int(match[2])
    try:
        counts = None
        if row.keys() >= set(_COUNTS):
            counts = tuple(_whole(row[name]) for name in _COUNTS)
        new = Row(_whole(row["target"]), counts, path.name)
    except (TypeError, ValueError):
        tables.problems.setdefault(
            patient,
            f"{path}, line {line}, is not the metadata of a slice of {patient}: fetch the file "
            "again, or move it away to go on without its checks",
        )
        return
    of_patient = tables.rows.setdefault(patient, {})
    old = of_patient.get(number)
    if old is not None and (
        old.target != new.target
        or (None not in (old.counts, new.counts) and old.counts != new.counts)
    ):
        raise BratsError(
            f"{path}, line {line}, contradicts {old.table} on {match[0]}: move the wrong one away"
        )
    if old is None or old.counts is None:
        of_patient[number] = new


def _whole(text: str) -> int:
    """A count, as '12' or '12.0'."""
    number = float(text)
    if not 0 <= number < 2**31 or number != int(number):
        raise ValueError(text[:20])
    return int(number)


def read_grades(files: Sequence[Path]) -> dict[str, str]:
    """Glioma grade (HGG, LGG) by patient, from name_mapping.csv if present."""
    for path in files:
        if path.name.lower() == "name_mapping.csv":
            return {
                row["BraTS_2020_subject_ID"]: row["Grade"]
                for row in _read_csv(path)[1]
                if row.get("BraTS_2020_subject_ID") and row.get("Grade")
            }
    return {}


def _read_csv(path: Path) -> tuple[Sequence[str], list[dict[str, str]]]:
    """The names of the columns, and the rows."""
    try:
        # Names in any encoding: none of them decides anything.
        text = read_regular(path, _MOST_BYTES).decode("utf-8-sig", "surrogateescape")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        return reader.fieldnames or (), list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise unreadable(path, error, "fetch it again, or move it away") from None
