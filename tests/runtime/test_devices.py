"""What the compiler is asked for, and the memory that the C library keeps.

The latter is counted in page faults, in a process of its own.
"""

import os
import platform
import subprocess
import sys
import types

import numpy as np
import pytest

from brats_jax.runtime import devices

FAULTS = """
import resource
import numpy as np
from brats_jax.runtime import devices

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(1 << 26, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = devices.keep_freed_memory()
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


@pytest.mark.parametrize(
    ("platform", "deterministic", "options"),
    [
        ("cuda", True, {"xla_gpu_exclude_nondeterministic_ops": True}),
        ("gpu", True, {"xla_gpu_exclude_nondeterministic_ops": True}),
        ("gpu", False, {}),
        ("cpu", True, {}),
        ("tpu", True, {}),
    ],
)
def test_only_a_gpu_has_to_be_asked_for_the_same_bits(platform, deterministic, options):
    device = types.SimpleNamespace(platform=platform)
    mesh = types.SimpleNamespace(devices=np.array([device, device]))
    assert devices.compiler_options(mesh, deterministic=deterministic) == options


def test_where_jax_has_an_accelerator_memory_is_left_alone(monkeypatch):
    monkeypatch.setattr(devices.importlib.metadata, "entry_points", lambda group: [group])
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(devices.ctypes, "CDLL", None)  # would raise
    assert not devices.keep_freed_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_unless_the_user_says_how():
    kept, faults = second_time()
    assert kept and faults < 100
    kept, faults = second_time(MALLOC_MMAP_THRESHOLD_="65536")
    assert not kept and faults > 1000 * 4096 / os.sysconf("SC_PAGESIZE") / 4
