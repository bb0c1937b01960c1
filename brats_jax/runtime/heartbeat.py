"""Claims beside a lock file, which hold where flock does not reach: between machines.

On many clusters flock works within one machine only, or does nothing. The holder of a lock
therefore also keeps a claim, the file `LOCK.alive`: its host, its process and the time, renewed
every BEAT_S. Decisions never compare the clocks of two machines: the age of a claim is the
difference of two modification times of the file system, and a claim is taken over only after it
has not changed for a while that the taker measures itself.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from brats_jax.errors import BUSY_STATUS, Busy
from brats_jax.runtime import machine
from brats_jax.runtime.console import print_line
from brats_jax.runtime.files import file_system_time
from brats_jax.runtime.text import duration

BEAT_S = 10.0  # between two signs of life
# Without a sign for so long, a claim may be a dead process's: a node that swaps, or a file server
# that restarts, is slow for less.
STALE_S = 120.0
WATCH_S = 25.0  # without a sign while a stale claim is watched: it is taken over
_DECIDING_S = 30.0  # a decision takes milliseconds; after this its process has been killed
_BYTES = 512  # of a claim, always: one write replaces it as a whole


@dataclasses.dataclass(frozen=True)
class Claim:
    """The content of a claim.

    Attributes:
      host, process: its holder.
      machine: the boot of the holder's kernel, within which flock works, if it does at all.
      processes: the holder's space of process ids; containers of one machine differ in it.
      token: differs between any two claims.
      time: of the last sign of life, for people.
      beats: signs of life so far.
    """

    host: str
    process: int
    machine: str
    processes: str
    token: str
    time: str = ""
    beats: int = 0

    @property
    def holder(self) -> str:
        """'HOST, process N'."""
        return f"{self.host}, process {self.process}"


def path_of(lock: Path) -> Path:
    """The claim of a lock file."""
    return lock.with_name(f"{lock.name}.alive")


def living_holder(lock: Path) -> str | None:
    """The holder by its claim, of a lock whose flock is free; None: no claim, or a dead one."""
    claim = _read(lock)
    if claim is None or _is_dead(claim, lock) or _age_s(lock) > STALE_S:
        return None
    return claim.holder


@contextlib.contextmanager
def claimed(lock: Path, name: str, deadline: float) -> Iterator[None]:
    """Claims the lock file, of which this process has the flock, within the body.

    If another process takes the lock over, because this one was suspended, this one ends at once:
    both would write into the same folder.

    Args:
      lock: the lock file.
      name: name of the locked thing, for messages.
      deadline: of `time.monotonic()`; how long to try.

    Raises:
      Busy: another process has a claim.
    """
    mine = Claim(
        host=socket.gethostname(),
        process=os.getpid(),
        machine=machine.boot_id(),
        processes=machine.process_space(),
        token=secrets.token_hex(8),
    )
    descriptor = _take(lock, name, mine, deadline)
    ended = threading.Event()
    beats = threading.Thread(
        target=_keep_alive, args=(lock, name, mine, descriptor, ended), daemon=True
    )
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        os.close(descriptor)
        if _is_mine(lock, mine):
            path_of(lock).unlink(missing_ok=True)


def _take(lock: Path, name: str, mine: Claim, deadline: float) -> int:
    """Writes the claim; returns its open file, for the signs of life."""
    watched: Claim | None = None
    while True:
        with _deciding(lock):
            found = _read(lock)
            if found is None or found == watched or _is_dead(found, lock):
                return _write_new(lock, mine)
        age = _age_s(lock)
        gave_sign = watched is not None and found.token == watched.token
        if age > STALE_S and not gave_sign:
            print_line(
                f"{name}: {found.holder} gave no sign for {duration(age)}; its lock is taken over "
                f"unless one comes within {WATCH_S:.0f} s"
            )
            time.sleep(WATCH_S)
            watched = found
        elif time.monotonic() > deadline:
            raise Busy(
                f"{name}: in use by {found.holder}; wait for it or stop it; if it was killed, "
                f"its lock is free {STALE_S:.0f} s later"
            )
        else:
            time.sleep(0.05)


@contextlib.contextmanager
def _deciding(lock: Path) -> Iterator[None]:
    """Only one process at a time, of all machines, reads and replaces the claim.

    Creating a file that must not exist is atomic on every file system, flock is not.
    """
    path = lock.with_name(f"{lock.name}.deciding")
    while True:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            break
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                seen = path.stat()
                if file_system_time(path.parent) - seen.st_mtime > _DECIDING_S:
                    _remove_killed(path, seen)
            time.sleep(0.02)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _remove_killed(path: Path, seen: os.stat_result) -> None:
    """Removes what a process left that was killed while it decided; not its successor's."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    path.rename(aside)
    if not os.path.samestat(seen, aside.stat()):
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()


def _keep_alive(
    lock: Path, name: str, mine: Claim, descriptor: int, ended: threading.Event
) -> None:
    last = time.monotonic()
    while not ended.wait(BEAT_S):
        with contextlib.suppress(OSError):  # a file server that restarts
            found = _read(lock)
            lost = found.token != mine.token if found else time.monotonic() - last > STALE_S
            if lost:
                _end_without_lock(name, found)
            mine = dataclasses.replace(mine, beats=mine.beats + 1)
            os.pwrite(descriptor, _content(mine), 0)
            os.utime(descriptor)
            os.fsync(descriptor)  # else the file server gets it at the end
            last = time.monotonic()


def _end_without_lock(name: str, found: Claim | None) -> None:
    by = found.holder if found else "another process"
    print(
        f"error: {name}: taken over by {by}, because this process gave no sign for {STALE_S:.0f} "
        "s; it ends without saving",
        file=sys.stderr,
        flush=True,
    )
    os._exit(BUSY_STATUS)


def _write_new(lock: Path, mine: Claim) -> int:
    """Replaces the claim by a new file: a process that still has the old one open cannot harm."""
    path = path_of(lock)
    temporary = path.with_name(f"{path.name}.{mine.token}")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            os.pwrite(descriptor, _content(mine), 0)
            os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:  # a full disk
        error.filename, error.filename2 = str(path), None
        raise
    return descriptor


def _content(claim: Claim) -> bytes:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    document = dataclasses.asdict(dataclasses.replace(claim, time=now))
    return json.dumps(document).encode().ljust(_BYTES - 1) + b"\n"


def _read(lock: Path) -> Claim | None:
    """The claim; None if there is none. One that cannot be parsed is taken over when it is old."""
    try:
        text = path_of(lock).read_text(errors="replace")
    except FileNotFoundError:
        return None
    try:
        document = json.loads(text)
        return Claim(**document | {"process": int(document["process"])})
    except (ValueError, TypeError, KeyError, RecursionError):
        return Claim("an unnamed host", 0, "", "", token=text)


def _is_mine(lock: Path, mine: Claim) -> bool:
    try:
        found = _read(lock)
    except OSError:
        return False
    return found is not None and found.token == mine.token


def _is_dead(claim: Claim, lock: Path) -> bool:
    """Whether the claim's process has certainly ended; this one must have the flock of `lock`."""
    if claim.machine != machine.boot_id():
        return False
    if _excludes_others(lock):
        return True
    return claim.processes == machine.process_space() and not machine.is_running(claim.process)


def _excludes_others(lock: Path) -> bool:
    """Whether flock works within this machine: the lock that this process has is refused."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:  # no flock at all
        return False
    finally:
        os.close(descriptor)


def _age_s(lock: Path) -> float:
    """Seconds since the claim's last sign of life, by the clock of the file system."""
    try:
        return file_system_time(lock.parent) - path_of(lock).stat().st_mtime
    except FileNotFoundError:
        return 0.0
