"""This machine and its processes: whether a process id in a file is that of a process here."""

import os
import socket
from pathlib import Path


def boot_id() -> str:
    """The boot of this kernel, within which flock works, if it does; without /proc the host."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def process_space() -> str:
    """The space of this program's process ids; containers of one machine differ in it."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def origin() -> dict[str, str]:
    """Machine and space of process ids; a process id with the same two is one of a process here."""
    return {"machine": boot_id(), "processes": process_space()}


def is_running(process: int) -> bool:
    """Whether there is a process of this id here."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
