"""Damaged programs in the folder of compiled ones."""

import os
import subprocess
import sys
import zlib
from types import SimpleNamespace

import pytest

from brats_jax.runtime.compiled_programs import remove_damaged

WHOLE = zlib.compress(bytes(range(256)) * 40)


def name_of(program: str) -> str:
    """The name under which JAX keeps a program."""
    return f"jit_{program}-{'0af5' * 16}-cache"


def test_truncated_and_empty_programs_are_removed(tmp_path):
    for name, data in (("whole", WHOLE), ("cut", WHOLE[:-5]), ("empty", b"")):
        (tmp_path / name_of(name)).write_bytes(data)
    removed = remove_damaged(tmp_path)
    assert [path.name for path in removed] == [name_of("cut"), name_of("empty")]
    assert (tmp_path / name_of("whole")).read_bytes() == WHOLE


def test_files_that_are_no_programs_stay(tmp_path):
    """The user may give any folder."""
    for name in ("notes.txt", "my-cache", f"scans-{'0a' * 20}-cache"):
        (tmp_path / name).write_bytes(b"text")
    (tmp_path / name_of("folder")).mkdir()
    assert remove_damaged(tmp_path) == [] and len(list(tmp_path.iterdir())) == 4


def test_only_programs_written_since_the_last_call_are_read(tmp_path):
    old, new = tmp_path / name_of("old"), tmp_path / name_of("new")
    old.write_bytes(WHOLE)
    remove_damaged(tmp_path)
    time = old.stat().st_mtime_ns
    old.write_bytes(WHOLE[:9])
    os.utime(old, ns=(time, time))
    assert not remove_damaged(tmp_path) and old.exists()
    new.write_bytes(WHOLE[:9])
    os.utime(new, ns=(time + 1, time + 1))
    assert remove_damaged(tmp_path) == [new]


def test_a_missing_folder_and_a_file_in_its_place_are_no_errors(tmp_path):
    assert remove_damaged(tmp_path / "none") == []
    (tmp_path / "file").write_bytes(b"")
    assert remove_damaged(tmp_path / "file") == []


@pytest.mark.parametrize("module", ("compression.zstd", "zstandard"))
def test_programs_in_zstd_are_read_by_the_module_that_is_there(tmp_path, monkeypatch, module):
    """JAX writes zstd where Python or a package has it; a stand-in for both takes b'end' as end."""

    class Broken(Exception):
        pass

    def decompress(data):
        if not data.endswith(b"end"):
            raise Broken

    for name in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    for name, text in (("whole", b"end"), ("cut", b"en")):
        (tmp_path / name_of(name)).write_bytes(b"\x28\xb5\x2f\xfd" + text)
    assert remove_damaged(tmp_path) == []  # without a module nothing is known of them
    (tmp_path / ".brats_jax_checked").unlink()
    stand_in = SimpleNamespace(decompress=decompress, ZstdError=Broken)
    monkeypatch.setitem(sys.modules, "compression", SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, module, stand_in)
    assert [path.name for path in remove_damaged(tmp_path)] == [name_of("cut")]


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
