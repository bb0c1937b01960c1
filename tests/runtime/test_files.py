import errno
import json
import os
import re
import time

import pytest

from brats_jax.errors import BratsError
from brats_jax.runtime.files import (
    atomic_group,
    atomic_open,
    check_folder,
    make_folder,
    remove_stale,
    write_json,
    write_text,
)


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "sub" / "file"
    write_text(path, "old")
    with pytest.raises(KeyError), atomic_open(path) as file:
        file.write("half of it")
        assert path.read_text() == "old"
        raise KeyError
    assert [p.name for p in path.parent.iterdir()] == ["file"] and path.read_text() == "old"


def test_a_new_file_follows_the_umask(tmp_path):
    umask = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "")
    finally:
        os.umask(umask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_an_error_of_writing_names_the_file_and_another_files_error_keeps_its_name(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(OSError) as caught, atomic_open(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(path)
    with pytest.raises(OSError) as caught, atomic_open(path):
        (tmp_path / "another").read_text()
    assert caught.value.filename == str(tmp_path / "another")
    path.touch()
    with pytest.raises(OSError) as caught:
        write_text(path / "below", "")
    assert str(caught.value.filename).startswith(str(path))


def test_json_has_null_for_what_is_no_number_and_lists_for_tuples(tmp_path):
    document = {"a": (1, float("nan")), 2: {"b": float("-inf"), "c": 0.1}}
    write_json(tmp_path / "file", document)
    text = (tmp_path / "file").read_text()
    assert json.loads(text) == {"a": [1, None], "2": {"b": None, "c": 0.1}}
    assert text.endswith("}\n")


def test_an_output_folder_may_not_be_a_file(tmp_path):
    make_folder(tmp_path / "a" / "b", "--output")
    make_folder(tmp_path / "a" / "b", "--output")
    check_folder(tmp_path / "none", "--output")
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    with pytest.raises(BratsError, match="file is a file: choose another --output"):
        check_folder(tmp_path / "file", "--output")
    with pytest.raises(BratsError, match=r"below cannot be written \(Not a directory\)"):
        make_folder(tmp_path / "file" / "below", "--output")


def test_only_old_temporary_files_of_the_given_names_are_removed(tmp_path):
    old = time.time() - 7200
    for name, age in (
        (".a.npy.12345678", old),
        (".a.npy.1234567_", None),
        (".b.txt.12345678", old),
        (".a.npy", old),
        ("a.npy", old),
    ):
        (tmp_path / name).touch()
        if age:
            os.utime(tmp_path / name, (age, age))
    remove_stale(tmp_path, re.compile(r".*\.npy"))
    assert {p.name for p in tmp_path.iterdir()} == {
        ".a.npy.1234567_", ".b.txt.12345678", ".a.npy", "a.npy"
    }  # fmt: skip


class TestAGroupOfFiles:
    """a and b, for which `last` vouches."""

    @pytest.fixture
    def group(self, tmp_path):
        for name in ("a", "b", "last"):
            write_text(tmp_path / name, "old")
        return tmp_path

    def contents(self, folder):
        return {path.name: path.read_text() for path in folder.iterdir()}

    def write(self, folder):
        with atomic_group(folder / "last") as open_file:
            for name in ("last", "a", "b"):
                open_file(folder / name).write(b"new")

    def test_is_replaced_as_a_whole(self, group):
        self.write(group)
        assert self.contents(group) == {"a": "new", "b": "new", "last": "new"}

    def test_an_error_leaves_the_old_files(self, group):
        with pytest.raises(KeyError), atomic_group(group / "last") as open_file:
            open_file(group / "a").write(b"new")
            raise KeyError
        assert self.contents(group) == {"a": "old", "b": "old", "last": "old"}

    @pytest.mark.parametrize("number", range(3))
    def test_a_stop_while_they_are_replaced_leaves_no_last_beside_other_files(
        self, group, monkeypatch, number
    ):
        replace, calls = os.replace, []

        def stopped(source, target):
            if len(calls) == number:
                raise KeyboardInterrupt
            calls.append(target)
            replace(source, target)

        monkeypatch.setattr(os, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            self.write(group)
        assert set(self.contents(group)) == {"a", "b"}
