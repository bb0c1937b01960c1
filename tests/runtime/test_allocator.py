"""Freed memory stays with the process."""

import os
import platform
import subprocess
import sys

import pytest

from brats_jax.runtime import allocator

FAULTS = """
import resource
import numpy as np
from brats_jax.runtime import allocator

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(1 << 26, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = allocator.keep_freed_memory()
faults()
print(kept, faults())
"""


def second_time(**environment):
    """(what keep_memory returned, page faults of filling 64 MiB once they were freed)."""
    ours = ("MALLOC_", "GLIBC_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


def test_with_an_accelerator_malloc_is_left_unchanged(monkeypatch):
    monkeypatch.setattr(allocator.importlib.metadata, "entry_points", lambda group: [group])
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # would raise
    assert not allocator.keep_freed_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_unless_the_environment_configures_malloc():
    kept, faults = second_time()
    assert kept and faults < 100
    kept, faults = second_time(MALLOC_MMAP_THRESHOLD_="65536")
    assert not kept and faults > 1000 * 4096 / os.sysconf("SC_PAGESIZE") / 4
