"""A program that writes checkpoints, in a bucket that is a folder."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from brats_jax.runs import bucket_lease, with_bucket
from brats_jax.runs.bucket import Bucket

# Counts to 6, a checkpoint at each number; continues from the checkpoint that is there. On SIGTERM
# it saves, as a training does. Its arguments: the folder, a pause, and a number where it waits.
PROGRAM = """
import os, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1])
run.mkdir(exist_ok=True)
def save(text):
    (run / "new").write_text(text)
    os.replace(run / "new", run / "last")
def stop(number, frame):
    save(f"{count} saved")
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
count = int((run / "last").read_text().split()[0]) if (run / "last").exists() else 0
with open(run / "metrics.jsonl", "a") as file:
    file.write(f"from {count}\\n")
while count < 6:
    count += 1
    save(str(count))
    time.sleep(60 if sys.argv[3:] == [str(count)] else float(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(with_bucket, "POLL_S", 0.02)
    monkeypatch.setattr(bucket_lease, "BEAT_S", 0.1)
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def call(tmp_path, pause="0", folder="run"):
    run, url = str(tmp_path / folder), f"file://{tmp_path}/bucket"
    program = [sys.executable, "-S", "-c", PROGRAM, run, pause]
    return with_bucket.main(["--run", run, url, "--", *program])


def in_bucket(tmp_path):
    bucket = Bucket(f"file://{tmp_path}/bucket")
    target = tmp_path / "from_bucket"
    shutil.rmtree(target, ignore_errors=True)
    bucket.pull(bucket.newest(), target)
    return (target / "last").read_text()


def test_a_run_is_in_the_bucket_at_its_end_and_comes_back_on_a_new_machine(tmp_path, capsys):
    assert call(tmp_path) == 0
    assert in_bucket(tmp_path) == "6"
    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(tmp_path / ".run.bucket")
    assert call(tmp_path) == 0
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == "from 0\nfrom 6\n"
    assert "downloads state" in capsys.readouterr().out
    assert not (tmp_path / "bucket" / "lease.json").exists()


def test_a_killed_machine_loses_only_what_followed_the_last_checkpoint(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(with_bucket.__file__).parents[2])}
    run, url = str(tmp_path / "run"), f"file://{tmp_path}/bucket"
    words = ["--run", run, url, "--", sys.executable, "-S", "-c", PROGRAM, run, "0.01", "3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "brats_jax.runs.with_bucket", *words], env=environment
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (tmp_path / "bucket" / "manifests").is_dir() and in_bucket(tmp_path) >= "3":
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = int(in_bucket(tmp_path).split()[0])
    assert kept == 3
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    shutil.rmtree(tmp_path / ".run.bucket", ignore_errors=True)
    assert call(tmp_path, folder="other") == 0
    assert (tmp_path / "other" / "metrics.jsonl").read_text() == f"from 0\nfrom {kept}\n"
    assert in_bucket(tmp_path) == "6"


def test_on_sigterm_the_last_upload_follows_the_save(tmp_path):
    def stop():
        while not [*tmp_path.glob("bucket/manifests/*")]:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    assert call(tmp_path, pause="60") == 128 + signal.SIGTERM
    assert in_bucket(tmp_path).endswith("saved")


def test_an_upload_that_fails_stops_no_training_and_is_tried_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(with_bucket, "RETRY_S", 0.1)
    original, failures = Bucket.push, iter(range(2))

    def push(self, *given):
        if next(failures, None) is not None:
            raise ConnectionError("no route to s3://me:word@bucket")
        return original(self, *given)

    monkeypatch.setattr(Bucket, "push", push)
    assert call(tmp_path, pause="0.3") == 0
    assert in_bucket(tmp_path) == "6"
    printed = capsys.readouterr().out
    assert printed.count("upload failed (ConnectionError: no route to s3://bucket)") == 1


def test_a_bucket_out_of_reach_at_the_end_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(with_bucket, "LAST_S", 0.0)
    monkeypatch.setattr(with_bucket, "RETRY_S", 0.1)

    def push(self, *given):
        raise ConnectionError("no route")

    monkeypatch.setattr(Bucket, "push", push)
    assert call(tmp_path) == 1
    assert "keep the folder, and give the same command again" in capsys.readouterr().err


def test_a_folder_of_another_origin_is_refused_and_an_older_one_moved_aside(tmp_path, capsys):
    assert call(tmp_path) == 0
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "last").write_text("1")
    assert call(tmp_path, folder="foreign") == 1
    assert "did not come from" in capsys.readouterr().err
    # Another machine, on which an empty folder was made before, goes on meanwhile.
    (tmp_path / "other").mkdir()
    assert call(tmp_path, folder="other") == 0
    assert call(tmp_path) == 0
    assert "the bucket has a newer state" in capsys.readouterr().out
    (aside,) = tmp_path.glob("run.before-*")
    assert (aside / "metrics.jsonl").read_text() == "from 0\n"
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == "from 0\nfrom 6\nfrom 6\n"


def test_a_store_is_pushed_once_and_pulled_where_it_is_missing(tmp_path, capsys):
    store, url = tmp_path / "store", f"file://{tmp_path}/bucket"
    store.mkdir()
    (store / "images").write_bytes(bytes(range(256)))
    assert with_bucket.main(["--push", str(store), url]) == 0
    assert with_bucket.main(["--pull", str(tmp_path / "new"), url]) == 0
    assert (tmp_path / "new" / "images").read_bytes() == bytes(range(256))
    assert with_bucket.main(["--pull", str(tmp_path / "new"), url]) == 0
    assert "is there, not downloaded" in capsys.readouterr().out
    (store / "images").write_bytes(bytes(256))
    assert with_bucket.main(["--push", str(store), url]) == 0
    assert with_bucket.main(["--pull", str(tmp_path / "new"), url]) == 1
    assert "images is not that of" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bucket", "new", "store"]
    assert with_bucket.main(["--pull", str(tmp_path / "no"), f"{url}2"]) == 1
    assert "nothing there" in capsys.readouterr().err


def test_a_bucket_out_of_reach_and_a_place_for_copies_are_known_before_the_command(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / ".run.bucket").write_text("")  # no folder can be made here
    assert call(tmp_path) == 1
    assert ".run.bucket cannot be made (File exists), which the copies" in capsys.readouterr().err

    def refused(url):  # some libraries connect at once
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("fsspec.core.url_to_fs", refused)
    assert with_bucket.main(["--pull", str(tmp_path / "x"), "ftp://me:word@host/x"]) == 1
    error = "error: ftp://host/x: ConnectionRefusedError: [Errno 111] Connection refused\n"
    assert capsys.readouterr().err == error
    assert not (tmp_path / "run").exists()
