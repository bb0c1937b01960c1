"""Settings of the C library's allocator. Importing this does not import JAX."""

import ctypes
import importlib.metadata
import os

# Parameters of mallopt (glibc's malloc.h): free memory at the end of the heap that is returned
# to the system, number of blocks that are mapped outside of the heap, number of heaps.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Stops glibc from returning freed memory to the system, which saves CPU time.

    XLA:CPU allocates the scratch space of a program for each run, hundreds of megabytes. glibc
    returns blocks of that size to the system and gets them again page by page, filled with zeros:
    a fifth of the processor time of a training step. With this, the process keeps its peak memory
    until it ends, in one heap, because only the main heap can grow that far.

    Call it before JAX creates its threads. No effect if the user configures malloc in the
    environment (MALLOC_*, GLIBC_TUNABLES), with another C library, or if JAX has an accelerator,
    which does not compute in this memory.

    Returns:
      Whether it took effect.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    only_cpu = os.environ.get("JAX_PLATFORMS") == "cpu"
    if not only_cpu and importlib.metadata.entry_points(group="jax_plugins"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    settings = ((_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0), (_ARENA_MAX, 1))
    return all([mallopt(name, value) == 1 for name, value in settings])
