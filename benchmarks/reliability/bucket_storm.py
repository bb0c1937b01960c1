"""Kills a training on machines that are taken away, with its run folder in an object store.

    python benchmarks/reliability/bucket_storm.py              # 20 kills
    python benchmarks/reliability/bucket_storm.py --kills=5 --folder=KEPT

Needs s3fs and moto[server], which serves the protocol of S3 on the loopback. A training runs once
undisturbed, without a bucket. Then `launch/with_bucket.sh` runs it with its folder in the bucket:
both are killed (SIGKILL) after a random time, all local folders but the store and the compiled
programs are removed, and the same command is given again, until the kills are used up and the
training has ended by itself. An attempt that ends before its kill is compared, and the next ones
begin with an empty bucket. Compares the SHA-256 of every file's numbers, texts and arrays (weights,
metrics, scores) of what is then in the bucket with the undisturbed run. Exits with 1 if one
differs, or is left over or gone.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from absl import logging

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks import measure  # noqa: E402
from benchmarks.reliability.kill_storm import Count, Step, compare, steps  # noqa: E402
from brats_jax.runs.bucket import Bucket  # noqa: E402

BUCKET = "storm"
TRAINING = (
    "--workdir=run", "--config.folds=0", "--config.evaluation.panels=0",
    "--config.evaluation.slices=tumour",
)  # fmt: skip


def start_server(log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Starts an object server; (process, address)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    output = log.open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=output,
        stderr=output,
    )
    address = f"http://127.0.0.1:{port}"
    while True:
        try:
            urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
            return process, address
        except OSError:
            if process.poll() is not None:
                raise SystemExit(f"the object server ended: see {log}") from None
            time.sleep(0.2)


def training() -> list[str]:
    """The command that is killed: both stages on the phantom, checkpoints every three steps."""
    (main,) = (step for step in steps() if step.command == "main")
    flags = [flag for flag in main.flags if not flag.startswith(("--workdir", "--config.folds"))]
    return [sys.executable, "-m", "brats_jax.main", *flags, *TRAINING]


def start(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Starts a command in a folder, in a session of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    log = (folder / "log").open("ab")
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
    )


def finish(words: list[str], folder: Path) -> float:
    """Runs a command to its end; seconds."""
    begin = time.monotonic()
    if status := start(words, folder).wait():
        raise SystemExit(f"{words[-1]} ended with {status}: see {folder / 'log'}")
    return time.monotonic() - begin


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a command and its children at once, as the end of a machine does."""
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    ).stdout.split()
    for child in (process.pid, *map(int, children)):
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def remove_machine(folder: Path) -> None:
    """Removes what the machine had: all but the log, the store and the compiled programs."""
    for path in folder.iterdir():
        if path.name not in ("log", "store", "cache"):
            shutil.rmtree(path, ignore_errors=True)


def compare_bucket(url: str, whole: Path, target: Path, count: Count) -> None:
    """Downloads the run from the bucket and compares it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    bucket = Bucket(url)
    newest = bucket.newest()
    assert newest is not None
    bucket.pull(newest, target / "run")
    compare(Step("main", (), ("run",)), whole, target, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="to keep results and logs in; new")
    arguments = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        whole, machine = folder / "undisturbed", folder / "machine"
        for path in (whole, machine):
            path.mkdir(parents=True)
        server, address = start_server(folder / "server.log")
        os.environ |= {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "local-test",
            "AWS_SECRET_ACCESS_KEY": "local-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        try:
            storm(whole, machine, folder / "fetched", arguments.kills, arguments.seed)
        finally:
            server.kill()
            server.wait()


def storm(whole: Path, machine: Path, target: Path, kills: int, seed: int) -> None:
    """Runs, kills, compares, prints, and exits."""
    import s3fs

    (prepare,) = (step for step in steps() if step.command == "prepare")
    finish([sys.executable, "-m", "brats_jax.prepare", *prepare.flags], whole)
    finish(training(), whole)
    for lock in [*(whole / "run").rglob("lock")]:  # empty files, which stay on their machine
        lock.unlink()
    for name in ("store", "cache"):
        shutil.copytree(whole / name, machine / name)
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.mkdir(BUCKET)
    url = f"s3://{BUCKET}/run"
    words = ["bash", f"{ROOT}/launch/with_bucket.sh", "--run", "run", url, "--", *training()]
    seconds = finish(words, machine)  # with compiled programs, as every attempt
    count, draw = Count(), random.Random(seed)
    compare_bucket(url, whole, target, count)
    files.rm(f"{BUCKET}/run", recursive=True)
    remove_machine(machine)
    downloads = 0
    while count.kills < kills:
        process = start(words, machine)
        try:
            status = process.wait(timeout=draw.uniform(0.1, 1.1) * seconds)
        except subprocess.TimeoutExpired:
            kill(process)
            count.kills += 1
        else:
            if status:
                raise SystemExit(f"the command ended with {status}: see {machine / 'log'}")
            compare_bucket(url, whole, target, count)
            files.rm(f"{BUCKET}/run", recursive=True)
        remove_machine(machine)
        downloads = (machine / "log").read_text().count("downloads state")
        print(f"{count.kills} kills, {count.compared} compared, {downloads} continued", flush=True)
    finish(words, machine)
    compare_bucket(url, whole, target, count)
    print(
        f"{count.kills} kills, {downloads} attempts continued from the bucket, {count.compared} "
        f"results compared, {len(count.differ)} differ, {len(count.left_over)} files left over or "
        f"gone; an undisturbed run with its bucket takes {seconds:.0f} s"
    )
    for line in [*count.differ, *count.left_over][:10]:
        print(f"    {line}")
    print(measure.where())
    sys.exit(0 if count.sound else 1)


if __name__ == "__main__":
    main()
