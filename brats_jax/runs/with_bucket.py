"""Runs a command with its run folder kept in a bucket; `launch/with_bucket.sh` calls it.

    python -m brats_jax.runs.with_bucket [--store FOLDER URL]... --run FOLDER URL -- COMMAND...
    python -m brats_jax.runs.with_bucket --push FOLDER URL      (or --pull)

Downloads what is not there, starts COMMAND, and uploads FOLDER whenever the command has replaced a
file in it, which it does at every checkpoint. docs/buckets.md.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import ClassVar

from brats_jax.errors import BUSY_STATUS, BratsError, Busy
from brats_jax.runs.bucket import Bucket, Manifest, Superseded, is_empty
from brats_jax.runs.bucket_lease import Lease
from brats_jax.runs.bucket_snapshot import Facts, Snapshots, files_of, state_of
from brats_jax.runtime.console import print_line
from brats_jax.runtime.document import Document, read_if_readable
from brats_jax.runtime.failures import print_error
from brats_jax.runtime.redact import first_line, without_secrets
from brats_jax.runtime.signals import die_with_parent
from brats_jax.runtime.text import plural

POLL_S = 1.0
RETRY_S = 20.0  # after an upload that failed
LAST_S = 120.0  # for the last upload, with its repetitions
END_S = 30.0  # for a command that has lost its bucket


@dataclass(frozen=True)
class LocalState(Document):
    """Beside a run folder: the bucket's states that its content follows.

    Attributes:
      url: of the bucket.
      manifests: names; two while an upload is on its way.
    """

    SCHEMA: ClassVar[str] = "brats_jax.bucket_local"
    url: str
    manifests: tuple[str, ...] = ()


class Synchronised:
    """A folder that is kept in a bucket.

    Args:
      folder: the folder.
      bucket: the bucket.
      check: raises if this machine may not write into the bucket any more.
    """

    def __init__(
        self, folder: Path, bucket: Bucket, check: Callable[[], None] = lambda: None
    ) -> None:
        self.folder, self.bucket, self._check = folder, bucket, check
        beside = folder.with_name(f".{folder.name}.bucket")
        self._document = beside / "state.json"
        self._snapshots = Snapshots(folder, beside / "snapshot")
        self._before: Manifest | None = None
        self._uploaded: dict[str, Facts] | None = None  # the state of the last upload

    def fetch(self) -> None:
        """Makes the folder that of the bucket's newest state.

        Raises:
          BratsError: the folder is another one than the bucket's.
        """
        newest = self._before = self.bucket.newest()
        if newest is None:
            return
        self.bucket.settle(newest)
        if os.path.lexists(self.folder) and not is_empty(self.folder):
            known = read_if_readable(self._document, LocalState)
            if known is None or known.url != self.bucket.shown:
                raise BratsError(
                    f"{self.folder} exists, and did not come from {self.bucket.shown}, which has a "
                    "state, too: move the folder away, or give another URL"
                )
            if newest.name in known.manifests:
                return
            aside = self._aside(newest.generation)
            os.rename(self.folder, aside)
            print_line(f"{self.folder}: the bucket has a newer state; the old folder is {aside}")
        print_line(
            f"{self.folder}: downloads state {newest.generation} of {self.bucket.shown}, "
            f"{plural(len(newest.sizes), 'file')}, {sum(newest.sizes.values()) / 1e6:,.1f} MB"
        )
        self.bucket.pull(newest, self.folder, partial(self._note, newest))

    def prepare(self) -> None:
        """Makes the folder of copies: the command need not run if it cannot be made.

        Raises:
          BratsError: it cannot.
        """
        beside = self._document.parent
        try:
            beside.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BratsError(
                f"{beside} cannot be made ({error.strerror}), which the copies of {self.folder} "
                "need: give a run folder within a folder that can be written"
            ) from None

    def _aside(self, generation: int) -> Path:
        for number in range(1, 1000):
            path = self.folder.with_name(f"{self.folder.name}.before-{generation}-{number}")
            if not os.path.lexists(path):
                return path
        raise BratsError(f"{self.folder}: too many folders of earlier states beside it")

    def _note(self, *states: Manifest | None) -> None:
        names = tuple(state.name for state in states if state is not None)
        LocalState(self.bucket.shown, names).write(self._document)

    @property
    def changed(self) -> bool:
        """Whether the folder has another state than was last uploaded."""
        return self.folder.is_dir() and state_of(self.folder) != self._uploaded

    def upload(self) -> None:
        """Uploads the folder's state of this moment."""
        state, files = self._snapshots.take()
        after = (self._before.generation if self._before else 0) + 1
        # Noted first: a kill between the two would make this folder look like another one.
        self._note(self._before, Manifest(generation=after, writer=self.bucket.writer))
        self._before = self.bucket.push(files, self._before, self._check)
        self._uploaded = state
        self._note(self._before)

    def close(self) -> None:
        """Removes the copy of the last state."""
        shutil.rmtree(self._document.with_name("snapshot"), ignore_errors=True)


class Command:
    """A command that runs, and what signals do to it.

    Args:
      arguments: its words.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.stopping = threading.Event()
        try:
            self.process = subprocess.Popen(
                arguments,
                # Ctrl-C comes to this program, which passes it on once.
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        except OSError as error:
            raise BratsError(f"{arguments[0]} cannot be started ({error.strerror})") from None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if not self.stopping.is_set():
            self.stopping.set()
            self.signal(number)

    def signal(self, number: int) -> None:
        """Signals the command and its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def ends_within(self, seconds: float) -> bool:
        """Waits for the end."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def status(self) -> int:
        """The exit status as a shell has it."""
        code = self.process.returncode
        return code if code >= 0 else 128 - code


def run(folder: Path, url: str, arguments: Sequence[str]) -> int:
    """Runs a command with its folder kept in a bucket; returns the exit status.

    Raises:
      Busy: another machine uses the bucket.
      BratsError: the folder is not the bucket's.
    """
    bucket = Bucket(url)
    lease = Lease(bucket)
    lease.take()
    try:
        kept = Synchronised(folder, bucket, lease.check)
        kept.fetch()
        kept.prepare()
        command = Command(arguments)
        try:
            _synchronise(kept, command)
        except Superseded as error:
            print_error(str(error))
            command.signal(signal.SIGTERM)
            if not command.ends_within(END_S):
                command.signal(signal.SIGKILL)
                command.ends_within(END_S)
            return BUSY_STATUS
        kept_all = _finish(kept)
        return command.status if kept_all else command.status or 1
    finally:
        lease.release()


def _synchronise(kept: Synchronised, command: Command) -> None:
    """Uploads after every change until the command has ended."""
    failed, again = False, 0.0
    while not command.ends_within(POLL_S):
        if time.monotonic() < again or not kept.changed:
            continue
        try:
            kept.upload()
        except Superseded:
            raise
        except Exception as error:
            if not failed:
                print_line(
                    f"note: {kept.bucket.shown}: upload failed ({first_line(error)}); the command "
                    "goes on, and the upload is tried again"
                )
            failed, again = True, time.monotonic() + RETRY_S
            continue
        if failed:
            print_line(f"note: {kept.bucket.shown}: uploaded again")
            failed = False


def _finish(kept: Synchronised) -> bool:
    """The last upload; whether the bucket has all."""
    until = time.monotonic() + LAST_S
    while True:
        try:
            if kept.folder.is_dir():
                kept.upload()
            kept.close()
            return True
        except Exception as error:
            if isinstance(error, Superseded) or time.monotonic() > until:
                print_error(
                    f"{kept.bucket.shown} does not have the last state of {kept.folder} "
                    f"({first_line(error)}): keep the folder, and give the same command again"
                )
                return False
        time.sleep(min(2.0, RETRY_S))


def push(folder: Path, url: str) -> None:
    """Uploads a folder once, such as a store."""
    if not folder.is_dir():
        raise BratsError(f"{folder}: no such folder")
    bucket = Bucket(url)
    lease = Lease(bucket)
    lease.take()
    try:
        before = bucket.newest()
        if before is not None:
            bucket.settle(before)
        state = bucket.push(files_of(folder), before, lease.check)
        print_line(
            f"{bucket.shown}: state {state.generation}, {plural(len(state.sizes), 'file')}, "
            f"{sum(state.sizes.values()) / 1e6:,.1f} MB"
        )
    finally:
        lease.release()


def pull(folder: Path, url: str) -> None:
    """Downloads a folder, such as a store, unless the same is there.

    Raises:
      BratsError: nothing is in the bucket; the folder has other content.
    """
    bucket = Bucket(url)
    newest = bucket.newest()
    if newest is None:
        raise BratsError(f"{bucket.shown}: nothing there; upload it with --push FOLDER URL")
    if folder.is_dir() and not is_empty(folder):
        if differing := newest.differing(folder):
            raise BratsError(
                f"{folder}: {differing[0]} is not that of {bucket.shown} ({len(differing):,} of "
                f"{len(newest.sizes):,} files differ): move the folder away, or name another"
            )
        print_line(f"{folder}: is there, not downloaded")
        return
    print_line(
        f"{folder}: downloads {bucket.shown}, {plural(len(newest.sizes), 'file')}, "
        f"{sum(newest.sizes.values()) / 1e6:,.1f} MB"
    )
    bucket.pull(newest, folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="with_bucket", description=(__doc__ or "").split("\n")[0])
    two = {"nargs": 2, "metavar": ("FOLDER", "URL")}
    parser.add_argument("--store", action="append", default=[], **two)  # type: ignore[arg-type]
    for name in ("--run", "--push", "--pull"):
        parser.add_argument(name, **two)  # type: ignore[arg-type]
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    command = given.command[given.command[:1] == ["--"] :]
    if sum(value is not None for value in (given.run, given.push, given.pull)) != 1:
        parser.error("give one of --run, --push and --pull")
    if bool(given.run) != bool(command):
        parser.error("give --run FOLDER URL and, after --, the command that works in FOLDER")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if given.push or given.pull:
            folder, url = given.push or given.pull
            (push if given.push else pull)(Path(folder).absolute(), url)
            return 0
        for folder, url in given.store:
            pull(Path(folder).absolute(), url)
        return run(Path(given.run[0]).absolute(), given.run[1], command)
    except Busy as error:
        print_error(str(error))
        return BUSY_STATUS
    except BratsError as error:
        print_error(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:  # of the bucket's library
        url = (given.run or given.push or given.pull)[1]
        print_error(f"{without_secrets(url.rstrip('/'))}: {first_line(error)}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
