"""Damaged programs in the folder of compiled ones."""

import os
import subprocess
import sys
import zlib

import pytest

from brats_jax.runtime.compiled_programs import remove_damaged

WHOLE = zlib.compress(bytes(range(256)) * 40)


def test_truncated_and_empty_programs_are_removed_and_others_stay(tmp_path):
    for name, data in (("whole", WHOLE), ("cut", WHOLE[:-5]), ("empty", b""), ("other", b"text")):
        (tmp_path / f"{name}-cache").write_bytes(data)
    (tmp_path / "notes.txt").write_bytes(b"text")
    removed = remove_damaged(tmp_path)
    assert [path.name for path in removed] == ["cut-cache", "empty-cache", "other-cache"]
    kept = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert kept == {"whole-cache", "notes.txt"}


def test_only_programs_written_since_the_last_call_are_read(tmp_path):
    old, new = tmp_path / "old-cache", tmp_path / "new-cache"
    old.write_bytes(WHOLE)
    remove_damaged(tmp_path)
    time = old.stat().st_mtime_ns
    old.write_bytes(WHOLE[:9])
    os.utime(old, ns=(time, time))
    assert not remove_damaged(tmp_path) and old.exists()
    new.write_bytes(WHOLE[:9])
    os.utime(new, ns=(time + 1, time + 1))
    assert remove_damaged(tmp_path) == [new]


def test_a_missing_folder_and_one_without_write_permission_are_no_errors(tmp_path):
    assert remove_damaged(tmp_path / "none") == []
    (tmp_path / "file").write_bytes(b"")
    assert remove_damaged(tmp_path / "file") == []


def test_programs_in_zstd_are_checked_where_it_is_installed(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    data = zstandard.ZstdCompressor().compress(bytes(range(256)) * 40)
    (tmp_path / "whole-cache").write_bytes(data)
    (tmp_path / "cut-cache").write_bytes(data[:-5])
    assert [path.name for path in remove_damaged(tmp_path)] == ["cut-cache"]


SCRIPT = """
import sys
import jax
from brats_jax.runtime import devices
devices.use_compilation_cache(sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.jit(lambda x: x * 2 + 1)(20))
"""


def test_a_program_of_a_killed_process_is_compiled_and_kept_again(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}

    def run() -> str:
        arguments = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path)]
        done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run().strip() == "41"
    programs = sorted(tmp_path.glob("*-cache"))
    sizes = [path.stat().st_size for path in programs]
    assert programs
    for path in programs:
        path.write_bytes(path.read_bytes()[:100])
    assert run().strip() == "41"
    assert [path.stat().st_size for path in programs] == sizes
