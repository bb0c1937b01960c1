import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from brats_jax.runtime import temporaries
from brats_jax.runtime.files import write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from brats_jax.runtime.files import atomic_open
with atomic_open(Path(sys.argv[1])) as file:
    file.write("half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def writing(tmp_path):
    """A process that writes tmp_path/file and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path / "file"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"writing\n"
        yield process
        process.kill()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(
    writing, tmp_path
):
    (left,) = names(tmp_path)
    temporaries.remove_leftovers(tmp_path)
    assert names(tmp_path) == [left]
    writing.kill()
    writing.wait()
    assert names(tmp_path) == [left]
    write_text(tmp_path / "another", "")  # of the same folder
    assert names(tmp_path) == ["another"]


def test_only_own_names_are_removed(tmp_path):
    others = [".notes.txt.swp", ".file.12345678", "file.brats_jax-00000000-abcdefgh", ".file"]
    for name in others:
        (tmp_path / name).touch()
    temporaries.remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(others)


def test_those_of_another_machine_are_removed_when_they_are_old(tmp_path):
    """Its locks may not be seen here."""
    young, old = (tmp_path / f".file.brats_jax-0000000{k}-abcdefgh" for k in (1, 2))
    for path in (young, old):
        path.touch()
    past = time.time() - temporaries.OLD_S - 1
    os.utime(old, (past, past))
    temporaries.remove_leftovers(tmp_path)
    assert names(tmp_path) == [young.name]


def test_where_locks_exclude_nobody_nothing_young_is_removed(writing, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    (left,) = names(tmp_path)
    temporaries.remove_leftovers(tmp_path)
    assert names(tmp_path) == [left]


def test_a_file_that_was_removed_before_it_was_locked_is_created_again(tmp_path, monkeypatch):
    flock, removed = fcntl.flock, []

    def late(descriptor, operation):
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write_text(tmp_path / "file", "text")
    assert removed and names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127, "\udcff" * 255])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "text"


def without_temporary_folders(monkeypatch):
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [])
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/")  # so that it is restored
    monkeypatch.delenv("TMPDIR")


def test_memory_serves_where_no_folder_can_be_written(monkeypatch, tmp_path):
    without_temporary_folders(monkeypatch)
    monkeypatch.setattr(temporaries, "MEMORY", tmp_path)
    temporaries.use_memory_if_no_folder()
    with tempfile.TemporaryDirectory() as folder:
        assert Path(folder).parent == tmp_path
    assert os.environ["TMPDIR"] == str(tmp_path)  # of worker processes


def test_without_memory_too_the_command_goes_on(monkeypatch, tmp_path):
    """Most commands need no temporary folder; one that does names it in its error."""
    without_temporary_folders(monkeypatch)
    monkeypatch.setattr(temporaries, "MEMORY", tmp_path / "none")
    temporaries.use_memory_if_no_folder()
    assert tempfile.tempdir is None and "TMPDIR" not in os.environ


def test_a_folder_for_temporary_files_stays(monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    before = tempfile.gettempdir()
    temporaries.use_memory_if_no_folder()
    assert tempfile.gettempdir() == before and "TMPDIR" not in os.environ
