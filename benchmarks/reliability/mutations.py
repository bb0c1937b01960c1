"""Mutations of files: damage of bytes, and edits within JSON, tables, arrays, scans and HDF5."""

import copy
import gzip
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator
Mutation = Callable[[bytes, Random], bytes]

# Values in place of any other, as JSON text: wrong types, numbers that no field can have.
ODD_JSON = (
    *("null", "true", "[]", "{}", '""', '"x"', "-1", "0", "1.5", "1e400", "-1e400", "NaN"),
    *("Infinity", "9" * 4400, str(2**63), str(2**70), "[[]]", '[{"a": [1]}]', '"\\ud800"'),
    *('"../../etc/passwd"', '"=1+1"', '"\\u001b[2J"', "[" * 400 + "]" * 400),
)
ODD_CELLS = ("", "-1", "inf", "nan", "1e400", "9" * 4400, "40000", "x", '"', "1.5", "\x00", "=1+1")


def damage(data: bytes, rng: Random) -> bytes:
    """Flips a bit, cuts the end, deletes, doubles, zeroes or inserts bytes, or empties the file."""
    if not data:
        return b"\x00"
    at, end = sorted(int(i) for i in rng.integers(0, len(data) + 1, 2))
    end = min(max(end, at + 1), at + 4096)
    kind = rng.integers(0, 8)
    if kind == 0:
        flipped = bytearray(data)
        at = min(at, len(data) - 1)
        flipped[at] ^= 1 << int(rng.integers(0, 8))
        return bytes(flipped)
    return (
        data[:at],
        data[:at] + data[end:],
        data[:end] + data[at:],
        data[:at] + bytes(end - at) + data[end:],
        data[:at] + rng.bytes(int(rng.integers(1, 64))) + data[at:],
        b"",
        b"\xef\xbb\xbf" + data if rng.integers(0, 2) else data.decode("latin-1").encode("utf-16"),
    )[kind - 1]


def edit_json(data: bytes, rng: Random) -> bytes:
    """Replaces, removes, doubles or renames one value of a JSON document."""
    document = json.loads(data)
    places = list(_places(document))
    holder, key = places[rng.integers(0, len(places))]
    mark = "@@mutated@@"
    kind = rng.integers(0, 5)
    if kind == 0:
        del holder[key]
        return json.dumps(document).encode()
    if kind == 1 and isinstance(holder, dict):
        holder[f"{key}_"] = holder.pop(key)
        return json.dumps(document).encode()
    if kind == 2 and isinstance(holder, dict):  # the same name twice
        value = json.dumps(holder[key])
        holder[key] = mark
        text = json.dumps(document)
        twice = f"{value}, {json.dumps(str(key))}: {ODD_JSON[rng.integers(0, len(ODD_JSON))]}"
        return text.replace(json.dumps(mark), twice, 1).encode()
    holder[key] = mark
    odd = ODD_JSON[rng.integers(0, len(ODD_JSON))]
    return json.dumps(document).replace(json.dumps(mark), odd, 1).encode()


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for index in range(min(len(value), 50)):
            yield value, index
            yield from _places(value[index])


def edit_lines(data: bytes, rng: Random) -> bytes:
    """Edits one JSON object of a file with one on each line."""
    lines = data.splitlines()
    at = int(rng.integers(0, len(lines)))
    lines[at] = edit_json(lines[at], rng)
    return b"\n".join(lines) + b"\n"


def edit_table(data: bytes, rng: Random) -> bytes:
    """Replaces, removes or doubles a cell or a row of a CSV file."""
    rows = [line.split(",") for line in data.decode("utf-8", "replace").splitlines()]
    row = rows[rng.integers(0, len(rows))]
    at = int(rng.integers(0, len(row)))
    kind = rng.integers(0, 5)
    if kind == 0:
        del row[at]
    elif kind == 1:
        row.insert(at, row[at])
    elif kind == 2:
        rows.append(list(row))
    else:
        row[at] = ODD_CELLS[rng.integers(0, len(ODD_CELLS))]
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


def edit_arrays(data: bytes, rng: Random) -> bytes:
    """Writes a .npz again with an array that is missing or of another type, shape or size."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file}
    name = sorted(arrays)[rng.integers(0, len(arrays))]
    array = arrays[name]
    kind = rng.integers(0, 8)
    if kind == 0:
        del arrays[name]
    elif kind == 7:
        return _bomb(arrays, name, rng)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays[name] = (
                lambda: array[..., None],
                lambda: array.reshape(-1)[:-1],
                lambda: array.astype("U40"),
                lambda: np.array([{"x": 1}], object),
                lambda: np.zeros((0, *array.shape[1:]), array.dtype),
                lambda: np.zeros(array.shape, np.complex64),
            )[kind - 1]()
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def _bomb(arrays: dict[str, np.ndarray], name: str, rng: Random) -> bytes:
    """An archive with an array whose header declares up to petabytes, or which holds zeros."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for other, array in arrays.items():
            member = io.BytesIO()
            if other == name:
                shape = (10 ** int(rng.integers(6, 16)),)
                head = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, head)
                member.write(bytes(2**20))
            else:
                np.lib.format.write_array(member, array)
            archive.writestr(f"{other}.npy", member.getvalue())
    return out.getvalue()


def edit_npy(data: bytes, rng: Random) -> bytes:
    """Another shape or type in the header of a .npy."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    out = io.BytesIO()
    kind = rng.integers(0, 3)
    if kind == 0:
        np.save(out, array.reshape(-1)[: array.size // 2])
    elif kind == 1:
        np.save(out, array.astype(np.float64))
    else:
        head = {"descr": array.dtype.str, "fortran_order": False, "shape": (10**14,)}
        np.lib.format.write_array_header_1_0(out, head)
    return out.getvalue()


# Byte offsets and formats of NIfTI-1 header fields: dim, datatype, bitpix, pixdim, vox_offset,
# slope, intercept, units, form codes, quaternion, rows of the affine, magic.
_NIFTI_FIELDS = (
    *((40 + 2 * i, "<h") for i in range(8)), (70, "<h"), (72, "<h"),
    *((76 + 4 * i, "<f") for i in range(8)), (108, "<f"), (112, "<f"), (116, "<f"), (123, "<b"),
    (252, "<h"), (254, "<h"), *((256 + 4 * i, "<f") for i in range(6)),
    *((280 + 4 * i, "<f") for i in range(12)), (344, "<i"), (0, "<i"),
)  # fmt: skip
_ODD_NUMBERS = {
    "h": (0, -1, 1, 2, 3, 4, 7, 8, 32767, -32768, 16, 64, 128, 512, 2304),
    "f": (0.0, -1.0, 1.0, 0.5, 1e-3, 1e30, float("nan"), float("inf"), 352.0, 1e9, -1e9),
    "b": (0, 1, 2, 3, 10, 127, -128),
    "i": (0, 348, 540, -1, 2**31 - 1),
}


def edit_nifti(data: bytes, rng: Random) -> bytes:
    """A field of the header, or a voxel, of a .nii.gz; or more data than the header declares."""
    plain = bytearray(gzip.decompress(data))
    for _ in range(int(rng.integers(1, 3))):
        offset, form = _NIFTI_FIELDS[rng.integers(0, len(_NIFTI_FIELDS))]
        values = _ODD_NUMBERS[form[1]]
        struct.pack_into(form, plain, offset, values[rng.integers(0, len(values))])
    kind = rng.integers(0, 6)
    if kind == 0:
        return gzip.compress(bytes(plain) + bytes(2**24), 6, mtime=0)
    if kind == 1:
        return bytes(plain)  # not compressed in spite of its name
    return gzip.compress(bytes(plain), 1, mtime=0)


def edit_hdf5(data: bytes, rng: Random) -> bytes:
    """A data set of a Kaggle slice that is missing, a group, or of another type or shape."""
    import h5py

    with h5py.File(io.BytesIO(data), "r") as file:
        arrays = {name: file[name][()] for name in file}
    name = ("image", "mask")[rng.integers(0, 2)]
    array = arrays[name]
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for other, values in arrays.items():
            if other != name:
                file[other] = values
        kind = rng.integers(0, 9)
        if kind == 0:
            file.create_group(name)
        elif kind == 1:
            file.create_dataset(name, shape=(10**6, 10**6, 4), dtype="f8", chunks=True)
        elif kind == 2:
            file[name] = array.astype("S4")
        elif kind == 3:
            file[name] = array[..., :2]
        elif kind == 4:
            file[name] = np.full(array.shape, np.nan if name == "image" else 7)
        elif kind == 5:
            file[name] = np.moveaxis(array, -1, 0)
        elif kind == 6:
            file[name] = h5py.SoftLink("/nowhere")
        elif kind == 7:
            file[name] = h5py.ExternalLink("none.h5", "/x")
    return out.getvalue()


def edit_settings(data: bytes, rng: Random) -> bytes:
    """Another value of one setting, of any type."""
    document = copy.deepcopy(json.loads(data))
    places = [(h, k) for h, k in _places(document) if not isinstance(h[k], dict)]
    holder, key = places[rng.integers(0, len(places))]
    odd = (0, -1, 1, 2, 2**31, 2**40, 1e308, 0.5, "", "x", "t1ce", [], [0, 0], [9], True, None)
    holder[key] = odd[rng.integers(0, len(odd))]
    return json.dumps(document).encode()


BY_KIND: dict[str, Mutation] = {
    "json": edit_json,
    "jsonl": edit_lines,
    "csv": edit_table,
    "npz": edit_arrays,
    "npy": edit_npy,
    "gz": edit_nifti,
    "h5": edit_hdf5,
    "settings": edit_settings,
}


def mutate(path: Path, data: bytes, rng: Random, kind: str = "") -> tuple[bytes, bool]:
    """A mutation of a file's content, and whether it is an edit rather than damage.

    Args:
      path: the file, whose ending chooses the edits.
      data: its content.
      rng: random numbers.
      kind: the edits instead, a key of `BY_KIND`.
    """
    edit = BY_KIND.get(kind or path.suffix.lstrip("."))
    if edit is None or rng.random() < 0.4:
        return damage(data, rng), False
    return edit(data, rng), True
