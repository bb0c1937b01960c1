"""Files and names that cannot be read or printed: one line each, skippable where it is a case."""

import csv
import os
import shutil

import h5py
import numpy as np
import pytest

from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.detect import open_source
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.runtime.files import write_text


@pytest.fixture(scope="module")
def cases(tmp_path_factory, brats_files):
    root = tmp_path_factory.mktemp("cases")
    for seed, name in enumerate(("A", "B")):
        brats_files.write_nifti_case(root, name, brats_files.make_case(seed))
    return root


def missing_link(path):
    path.symlink_to("/nowhere/x")


def link_loop(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (missing_link, "it is a link to /nowhere/x, which is not there"),
        (link_loop, "its links lead in a circle"),
        (os.mkfifo, "it is"),
        (lambda path: path.mkdir(), "has no t2 volume"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
    ],
)
def test_an_unreadable_volume_is_one_line_and_skippable(tmp_path, cases, damage, reason):
    shutil.copytree(cases, tmp_path / "source")
    path = tmp_path / "source" / "B" / "B_t2.nii.gz"
    path.unlink()
    damage(path)
    options = {"workers": 1, "options": ReadOptions(require_labels=True)}
    with pytest.raises(BratsError, match="--skip_bad_cases") as error:
        prepare(tmp_path / "source", tmp_path / "store", **options)
    assert reason in str(error.value) and "\n" not in str(error.value)
    manifest = prepare(tmp_path / "source", tmp_path / "store", skip_bad_cases=True, **options)
    assert manifest.patients == ("A",) and reason in manifest.skipped["B"]


def test_names_of_any_bytes_are_kept_through_the_store(tmp_path, cases):
    names = {"A": os.fsdecode(b"M\xfcnchen"), "B": "line\nend"}
    for old, new in names.items():
        for path in (cases / old).iterdir():
            (tmp_path / "source" / new).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "source" / new / path.name.replace(old, new, 1))
    prepare(tmp_path / "source", tmp_path / "store", workers=1)
    store = Store.open(tmp_path / "store")
    assert sorted(store.patients) == sorted(names.values())
    for name in names.values():
        assert store.case(name).patient == name
        assert store.read(store.slices_of(name))[0].any()
    write_text(tmp_path / "x.csv", ",".join(names.values()).replace("\n", " "))
    lines = (tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()
    assert next(csv.reader(lines))[0] == "M\\udcfcnchen"


def test_a_name_too_long_for_a_store_is_one_line(tmp_path, cases):
    name = "x" * 230
    for path in (cases / "A").iterdir():
        (tmp_path / "source" / "A").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "source" / "A" / path.name.replace("A", name, 1))
    with pytest.raises(BratsError, match="has 230 bytes, more than 200: rename its files"):
        prepare(tmp_path / "source", tmp_path / "store", workers=1)


def test_a_folder_for_each_volume_is_read(tmp_path, cases):
    for path in (cases / "A").iterdir():
        folder = tmp_path / "A" / path.name
        folder.mkdir(parents=True)
        shutil.copy(path, folder / f"00000057_brain{path.name[1:]}")
    source = open_source(str(tmp_path))
    assert source.patients() == ["A"] and not source.problems()
    np.testing.assert_array_equal(source.read("A").labels, open_source(str(cases)).read("A").labels)


@pytest.mark.parametrize("number", ["40000", "-1", "9" * 150])
def test_an_impossible_slice_number_is_a_problem_of_its_volume(tmp_path, brats_files, number):
    volumes = brats_files.make_case()
    brats_files.write_kaggle(tmp_path, 1, volumes)
    (path, *_) = brats_files.write_kaggle(tmp_path, 2, volumes)
    shutil.copy(path, path.with_name(f"volume_2_slice_{number}.h5"))
    with pytest.raises(BratsError, match="no volume of the release has a slice"):
        prepare(tmp_path, tmp_path / "store", workers=1)
    manifest = prepare(tmp_path, tmp_path / "store", workers=1, skip_bad_cases=True)
    assert manifest.patients == ("BraTS20_Training_001",)


def test_another_hdf5_file_is_skipped_with_its_volume(tmp_path, brats_files):
    volumes = brats_files.make_case()
    for volume in (1, 2):
        files = brats_files.write_kaggle(tmp_path, volume, volumes)
    with h5py.File(files[3], "w") as file:
        file.create_group("image")
    manifest = prepare(tmp_path, tmp_path / "store", workers=1, skip_bad_cases=True)
    assert "is a group, not a data set" in manifest.skipped["BraTS20_Training_002"]
