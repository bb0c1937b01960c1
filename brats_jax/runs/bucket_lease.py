"""The lease of a bucket: one machine at a time writes into it.

The holder keeps `lease.json` in the bucket, and changes it every BEAT_S. Another machine is refused
while it changes. A bucket cannot lock: the lease keeps machines apart that start minutes apart, and
`Bucket.push` compares the newest state before and after each upload, so that of two that started at
the same moment one ends, and the states of the other are whole.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from typing import Any

from brats_jax.errors import Busy
from brats_jax.runs.bucket import Bucket, Superseded
from brats_jax.runtime import machine
from brats_jax.runtime.console import print_line
from brats_jax.runtime.text import duration

BEAT_S = 15.0
WATCH_S = 50.0  # without a change of the lease: its machine has ended
# A lease whose time is so long ago is of a machine that has ended: clocks differ by less.
OLD_S = 600.0
_NAME = "lease.json"


class Lease:
    """The lease of this program on a bucket.

    Args:
      bucket: the bucket.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._beats = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def take(self) -> None:
        """Takes the lease, and keeps it in a thread.

        Raises:
          Busy: another machine has it.
        """
        found = self._read()
        if found is not None and not _has_ended(found):
            print_line(
                f"{self._bucket.shown}: was in use by {_holder(found)}; this machine takes over "
                f"unless that one gives a sign within {duration(WATCH_S)}"
            )
            self._watch(found)
        self._write()
        time.sleep(min(1.0, BEAT_S / 10))
        self.check()
        self._thread.start()

    def _watch(self, found: dict[str, Any]) -> None:
        until = time.monotonic() + WATCH_S
        while time.monotonic() < until:
            time.sleep(min(BEAT_S / 3, max(0.0, until - time.monotonic())))
            now = self._read()
            if now is None:  # it has ended
                return
            if now != found:
                raise Busy(
                    f"{self._bucket.shown}: in use by {_holder(now)}; wait for it or stop it, or "
                    "give another URL"
                )

    def check(self) -> None:
        """Raises Superseded if another machine has taken the lease."""
        found = self._read()
        if found is not None and found.get("token") != self._bucket.writer:
            raise Superseded(
                f"{self._bucket.shown}: taken over by {_holder(found)}; this machine ends, and "
                "uploads nothing more"
            )

    def release(self) -> None:
        """Gives the lease back."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        # The bucket may be out of reach, or the lease another machine's.
        with contextlib.suppress(Exception):
            self.check()
            self._bucket.remove(_NAME)

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_S):
            try:
                self.check()
                self._write()
            except Superseded:
                return  # `check` says so before the next upload
            except Exception:
                continue  # out of reach: another machine may take over

    def _write(self) -> None:
        self._beats += 1
        document = {
            "token": self._bucket.writer,
            "host": socket.gethostname(),
            "process": os.getpid(),
            **machine.origin(),
            "beat": f"{self._beats}-{secrets.token_hex(4)}",
            "time": time.time(),
        }
        self._bucket.write(json.dumps(document).encode(), _NAME)

    def _read(self) -> dict[str, Any] | None:
        content = self._bucket.read(_NAME)
        if not content:
            return None
        try:
            document = json.loads(content)
        except ValueError:
            return None
        return document if isinstance(document, dict) else None


def _holder(found: dict[str, Any]) -> str:
    return f"{found.get('host')}, process {found.get('process')}"


def _has_ended(found: dict[str, Any]) -> bool:
    """Whether a lease's program has certainly ended: long ago, or as a process of this machine."""
    at, process = found.get("time"), found.get("process")
    if isinstance(at, int | float) and time.time() - at > OLD_S:
        return True
    here = all(found.get(name) == value for name, value in machine.origin().items())
    return here and isinstance(process, int) and not machine.is_running(process)
