"""A store is read as it was written, or refused in one line; so are the cases of a preparation."""

import dataclasses
import json
import random
import shutil

import numpy as np
import pytest

from brats_jax.data.patches import PatchPlan
from brats_jax.data.store import writer
from brats_jax.data.store.layout import INDEX, MANIFEST, TUMOUR_PIXELS, FileEntry, Manifest
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError

PHANTOM = {"patients": 2, "shape": (16, 20, 18), "workers": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "store"
    prepare("phantom", path, **PHANTOM)
    return path


@pytest.fixture(scope="module")
def earlier(whole, tmp_path_factory):
    """The same as version 0.1.0 wrote it: no CRC, and documents without a checksum of their own."""
    path = tmp_path_factory.mktemp("stores") / "earlier"
    shutil.copytree(whole, path)
    for file in sorted(path.glob("**/*.json")):
        document = json.loads(file.read_text())
        del document["sha256"]
        for name, entry in document["files"].items():
            del entry["crc32"]
            if file.name == MANIFEST and name.endswith(".json"):
                document["files"][name] = FileEntry.of([(path / name).read_bytes()]).to_json()
                del document["files"][name]["crc32"]
        file.write_text(json.dumps(document))
    return path


def flip(path, rng):
    content = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def contents(path):
    """Everything that is read of a store."""
    store = Store.open(path)
    images, labels = store.read(range(store.num_slices))
    records = [store.case(patient).to_json() for patient in store.patients]
    for record in records:
        record.pop("files"), record.pop("sha256", None)
    facts = [store.patients, store.subjects, store.manifest.normalisation]
    arrays = [images, labels, store.tumour_pixels, store.pixels, store.box, store.slice_number]
    return [*(array.tobytes() for array in arrays), json.dumps([facts, records])]


@pytest.mark.parametrize("kind", ["whole", "earlier"])
def test_one_flipped_bit_in_any_file_is_refused_or_changes_nothing(kind, request, tmp_path):
    path, copy, rng = request.getfixturevalue(kind), tmp_path / "copy", random.Random(0)
    shutil.copytree(path, copy)
    before = contents(path)
    refused = 0
    for file in sorted(path.rglob("*.*")):
        if kind == "earlier" and file.name == MANIFEST:
            continue  # it has no checksum
        for _ in range(6):
            flip(copy / file.relative_to(path), rng)
            try:
                assert contents(copy) == before
            except BratsError as error:
                refused += 1
                assert str(copy) in str(error) and "\n" not in str(error)
                assert "prepare the store again into another folder" in str(error)
            shutil.copy(file, copy / file.relative_to(path))
    assert refused >= 6 * (len(list(path.rglob("*.*"))) - 2)


def test_a_file_is_compared_when_it_is_first_used_and_only_then(whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    store = Store.open(copy)
    (first, other) = store.patients
    store.read(store.slices_of(first))
    for patient in store.patients:
        flip(copy / "cases" / f"{patient}.labels.npy", random.Random(0))
    store.read(store.slices_of(first))
    with pytest.raises(BratsError, match=f"{other}.labels.npy has changed since it was written"):
        store.read(store.slices_of(other))


def test_tumour_pixels_are_compared_before_they_place_a_patch(whole, tmp_path):
    """Evaluation and calibration do not read them, and give the same slices."""
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    rng = random.Random(0)
    flip(copy / TUMOUR_PIXELS, rng)
    store, intact = Store.open(copy), Store.open(whole)
    everything = np.arange(store.num_slices)
    (mine, _), (theirs, _) = store.read(everything), intact.read(everything)
    assert mine.tobytes() == theirs.tobytes()
    plan = PatchPlan(store, everything, patch_size=16, tumour_probability=1.0, seed=0)
    with pytest.raises(BratsError, match=f"{TUMOUR_PIXELS} has changed since it was written"):
        plan.examples(0, 8)


def test_no_command_opens_a_store_whose_index_has_a_flipped_bit(whole, tmp_path):
    copy, rng = tmp_path / "copy", random.Random(1)
    shutil.copytree(whole, copy)
    for _ in range(50):
        flip(copy / INDEX, rng)
        with pytest.raises(BratsError, match=f"{INDEX} has changed since it was written"):
            Store.open(copy)
        shutil.copy(whole / INDEX, copy)


def test_a_manifest_that_does_not_list_the_index_is_refused(whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    manifest = Manifest.from_json(json.loads((whole / MANIFEST).read_text()))
    files = {name: entry for name, entry in manifest.files.items() if name != INDEX}
    changed = dataclasses.replace(manifest, files=files, sha256="").sealed()
    writer.write_document(copy / MANIFEST, changed)
    with pytest.raises(BratsError, match=f"does not list {INDEX}: copy it again"):
        Store.open(copy)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "json"])
def test_a_case_that_has_changed_since_it_was_written_is_written_again(whole, tmp_path, name):
    """A preparation that was stopped before its last case."""
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    manifest = Manifest.from_json(json.loads((store / MANIFEST).read_text()))
    for file in (MANIFEST, INDEX, "tumour_pixels.npy"):
        (store / file).unlink()
    writer.write_document(store / "preparation.json", manifest.settings)
    flip(store / "cases" / f"{manifest.patients[0]}.{name}", random.Random(1))
    lines = []
    prepare("phantom", store, **PHANTOM, say=lines.append)
    assert "1 of 2 cases already there" in lines
    assert contents(store) == contents(whole)


def test_a_crc_is_that_of_the_parts_of_a_file():
    array = np.arange(10, dtype=np.float16)
    entry = FileEntry.of([b"head", array.data.cast("B")])
    assert entry.bytes == 24 and entry.is_of(b"head" + array.tobytes())
    assert not entry.is_of(b"heaD" + array.tobytes()) and not entry.is_of(b"")
    assert dataclasses.replace(entry, crc32=None).is_of(b"head" + array.tobytes())
