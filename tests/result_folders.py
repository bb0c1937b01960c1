"""Compares folders of results: stores, runs, grids, predictions, exports, reports. Not tests.

A folder is read into numbers, texts and arrays by name, without what two runs of one program do
not share: times, hosts, versions of libraries, absolute paths, the size of a compressed file.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import nibabel
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy

# Keys of JSON documents and columns of tables that differ between two runs of one program.
VOLATILE = {
    *("seconds", "patches_per_second", "Patches/s", "Wall time", "made", "started", "ended_s"),
    *(
        "host",
        "process",
        "devices",
        "command",
        "folder",
        "files",
        "sha256",
        "document_sha256",
        "source_state",
    ),
    *("version", "versions", "Versions", "package_version", "brats_jax"),
    *("use", "research_use_only", "notes"),  # sentences
    "bytes",  # of a store: its documents may gain keys
}
# What later versions than 0.1.0 add: settings, options, and these scores and columns. Any other
# new row, column or file is a difference.
_SCORES = r"( missed truth_present| invented truth_empty| penalised|pretrain slice tumour slices )"
_COUNTS = "(least_count|of_count|folds_without)"
# Of the tables of a report: numbers beside a mean, misses, and forms with a penalty.
_COLUMNS = (
    r".* (n|of|trainings)|.*with penalty.*|Missed|Invented|Slices (missed|invented), .*|Trainings"
    r"|Over|Slices|ours, slices with tumour.*"
)
ADDED = re.compile(
    r"(config|options|settings)/"
    rf"|(summary\.csv:|\.json:rows/).*{_SCORES}"
    rf"|summary\.csv:{_COUNTS}/|summary\.json:rows/.*/{_COUNTS}\b"
    r"|evaluation_segment_patients\.csv:.* (missed|invented)/\d+$"
    rf"|[a-z_0-9]+\.csv:({_COLUMNS})/\d+$"
    r"|(image_quality|table_1|table_5)\.csv:"  # they have more rows
    r"|\.json:rows/(regression|mean) slice |summary\.csv:[^/]+/(regression|mean) slice "
    r"|evaluation_pretrain\.csv:(regression|mean) [a-z ]+/\d+$|yardsticks\.csv:"
    r"|evaluation\.json:yardsticks/|tally_pretrain\.npz:yardstick\."
    r"|cases/[^/]+\.json:image_sha256/"
    r"|\bwritten\.json:"
)
# The keys of a score in evaluation.json and summary.json.
SCORE_KEYS = ("stage", "unit", "over", "of", "metric", "convention")
# Settings that name a folder of the machine; empty in sidecars and exports.
FOLDERS = ("config/compilation_cache", "config/data/store", "config/pretrain/run")
# Pictures and pages are not numbers; what a program was compiled from names source lines.
SKIPPED = frozenset((".png", ".jpg", ".svg", ".html", ".md", ".tex", ".log", ".lock", ".stablehlo"))
CHECKPOINTS = ("last", "best")

Leaf = str | bool | int | float | None | np.ndarray


class Tolerance(NamedTuple):
    """How far results may be apart where bits are not compared.

    Attributes:
      number: of a number, relative to the expected one or to 1 where that is larger.
      array: of an array of floats, Euclidean norm relative to the expected array's.
      labels: share of the elements of an array of integers that may differ.
      unchecked: parts of names ('file:path/within/it') of which only presence is compared.
    """

    number: float
    array: float
    labels: float
    unchecked: tuple[str, ...] = ()


EXACT = Tolerance(0.0, 0.0, 0.0)


def read_folder(folder: Path) -> dict[str, Leaf]:
    """Every number, text and array in a folder (or one file), by 'file:path/within/it'."""
    leaves: dict[str, Leaf] = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        name = str(path.relative_to(folder))
        if path.is_dir() and path.name in CHECKPOINTS:
            leaves |= _flat(read_checkpoint(path), f"{name}:")
        elif path.is_file() and not _is_skipped(path.relative_to(folder)):
            leaves |= _flat(_read_file(path), f"{name}:")
    return leaves


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The newest checkpoint of a `last` or `best` folder: step, description and arrays."""
    items = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
    options = ocp.CheckpointManagerOptions(create=False, read_only=True)
    with ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        step = manager.latest_step()
        saved = manager.restore(step, args=items)
    return {"step": step, "meta": saved.meta, "state": jax.device_get(saved.state)}


def differences(
    expected: Mapping[str, Leaf], actual: Mapping[str, Leaf], tolerance: Tolerance = EXACT
) -> list[str]:
    """What differs between two folders that `read_folder` has read, one line each."""
    found = [f"{name}: is gone" for name in expected if name not in actual]
    found += [
        f"{name}: is new" for name in actual if name not in expected and not ADDED.search(name)
    ]
    for name, before in expected.items():
        if any(part in name for part in tolerance.unchecked) or _names_no_folder(
            name, before, actual.get(name)
        ):
            continue
        if name in actual and (text := _difference(before, actual[name], tolerance)):
            found.append(f"{name}: {text}")
    return found


def _names_no_folder(name: str, before: Leaf, now: Leaf) -> bool:
    """Whether the only difference is that what is passed on no longer names a folder."""
    if name.endswith(FOLDERS):
        return now == ""
    return "inputs/" in name and isinstance(before, str) and before.rpartition("/")[2] == now


def _difference(before: Leaf, now: Leaf, tolerance: Tolerance) -> str:
    if isinstance(before, np.ndarray) and isinstance(now, np.ndarray):
        return _array_difference(before, now, tolerance)
    if type(before) is type(now) and (before == now or (before != before and now != now)):
        return ""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (before, now))
    if numbers and abs(before - now) <= tolerance.number * max(abs(before), 1.0):  # type: ignore
        return ""
    return f"{before!r} -> {now!r}"


def _array_difference(before: np.ndarray, now: np.ndarray, tolerance: Tolerance) -> str:
    if (before.dtype, before.shape) != (now.dtype, now.shape):
        return f"{before.dtype}{before.shape} -> {now.dtype}{now.shape}"
    if before.tobytes() == now.tobytes():
        return ""
    differ = np.asarray(before != now)
    if before.dtype.kind == "f":
        differ &= ~(np.isnan(before) & np.isnan(now))
    if not differ.any():
        return ""
    text = f"{differ.sum()} of {differ.size} elements differ"
    if before.dtype.kind in "iu":
        return text if differ.mean() > tolerance.labels else ""
    if before.dtype.kind != "f" or (np.isnan(before) != np.isnan(now)).any():
        return text
    before, now = (np.nan_to_num(a.astype(np.float64)) for a in (before, now))
    distance = np.linalg.norm(before - now) / max(np.linalg.norm(before), 1e-6)
    return "" if distance <= tolerance.array else f"{text}, relative distance {distance:.2g}"


def _is_skipped(path: Path) -> bool:
    within = {*CHECKPOINTS, "tensorboard"} & set(path.parent.parts)
    # A lock.alive beside the lock is gone when nobody holds it.
    return bool(within) or path.name == "lock" or path.suffix in SKIPPED


def _read_file(path: Path) -> Any:
    if path.name.endswith(".nii.gz"):
        image = nibabel.load(path)
        return {"voxels": np.asanyarray(image.dataobj), "affine": image.affine}
    reader = _READERS.get(path.suffix)
    return reader(path) if reader else {"content": np.frombuffer(path.read_bytes(), np.uint8)}


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return {name: json.loads(str(a)) if name == "head" else a for name, a in arrays.items()}


def _read_csv(path: Path) -> dict[str, Any]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    names = [str(number) for number in range(len(rows))]
    if {*SCORE_KEYS} <= {*header}:
        names = [" ".join(row[header.index(key)] for key in SCORE_KEYS) for row in rows]
    return {
        title: {name: _cell(row[i]) for name, row in zip(names, rows, strict=True)}
        for i, title in enumerate(header)
    }


def _read_json(path: Path) -> Any:
    """A document; scores by their keys, so that another order is no difference."""
    document = json.loads(path.read_text())
    if path.name == "written.json":  # hashes, of pictures too, which are not compared
        return {"names": sorted(document["files"])}
    rows = document.get("rows") if isinstance(document, dict) else None
    if rows and all(isinstance(row, dict) and {*SCORE_KEYS} <= {*row} for row in rows):
        scores = {" ".join(row[key] for key in SCORE_KEYS): row for row in rows}
        assert len(scores) == len(rows)
        document["rows"] = scores
    return document


def _cell(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _read_safetensors(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    facts = json.loads(content[8 : 8 + size])["__metadata__"]
    return {"metadata": facts, **safetensors.numpy.load(content)}


_READERS = {
    ".json": _read_json,
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
    ".csv": _read_csv,
    ".npz": _read_npz,
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".safetensors": _read_safetensors,
}


def _flat(value: Any, name: str) -> dict[str, Leaf]:
    return dict(_leaves(value, name))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Leaf]]:
    start = name if name.endswith(":") else f"{name}/"
    if isinstance(value, Mapping):
        for key, item in value.items():
            # A document's own version is a whole number; a program's is a text.
            if key not in VOLATILE or (key == "version" and isinstance(item, int)):
                yield from _leaves(item, f"{start}{key}")
    elif isinstance(value, list | tuple):
        yield f"{start}length", len(value)
        for key, item in enumerate(value):
            yield from _leaves(item, f"{start}{key}")
    elif hasattr(value, "shape"):
        yield name, np.asarray(value)
    else:
        yield name, value
