"""Commands work with closed standard streams, and write nothing of them into a file."""

import subprocess
import sys
from pathlib import Path

from brats_jax.data.store.reader import verify

ROOT = Path(__file__).parents[2]


def run(closed, module, *flags):
    command = " ".join((sys.executable, "-m", f"brats_jax.{module}", *flags, closed))
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)


def test_a_store_is_prepared_with_all_streams_closed(tmp_path):
    made = run(
        "<&- >&- 2>&-", "prepare", "--source=phantom", "--patients=1", "--shape=16,32,32",
        "--workers=1", f"--store={tmp_path / 'store'}",
    )  # fmt: skip
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    assert verify(tmp_path / "store") > 0


def test_an_error_ends_with_its_status_and_is_not_written_to_the_other_stream():
    refused = run("2>&-", "phantom")
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "")


def test_the_other_streams_are_used_as_ever(tmp_path):
    written = run("2>&-", "phantom", f"--cases={tmp_path}", "--patients=1", "--shape=16,32,32")
    assert (written.returncode, written.stdout) == (0, f"{tmp_path}/Phantom-0-001: written\n")
