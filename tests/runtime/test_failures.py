import errno
import os
import resource

import pytest

from brats_jax.errors import BratsError
from brats_jax.runtime import failures


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (BratsError("t1.nii.gz: cannot be read"), "t1.nii.gz: cannot be read"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), "a: No space left on device; free"),
        (OSError(errno.EACCES, "Permission denied", b"a"), "a: Permission denied; give write"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "DIR: File name too long; choose a"),
        (OSError("HDF5 failed"), "DIR: HDF5 failed"),
        (MemoryError(), "DIR: not enough memory"),
        (KeyError("what"), "DIR: unexpected KeyError: 'what'"),
        (ValueError("no such colour\nin any map"), "DIR: unexpected ValueError: no such colour;"),
    ],
)
def test_every_error_becomes_one_line(error, line):
    described = failures.describe(error, "DIR")
    assert described.startswith(line) and "\n" not in described


def test_a_file_that_is_too_large_is_told_with_the_limit():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    error = OSError(errno.EFBIG, os.strerror(errno.EFBIG), "a.nii.gz")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**40, before[1]))
        described = failures.describe(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert described.startswith("a.nii.gz: File too large; the limit on the size of a file is 1,0")
    assert "ulimit -f" in described


def test_only_errors_of_the_program_are_unexpected():
    assert failures.is_expected(OSError()) and failures.is_expected(BratsError())
    assert not failures.is_expected(TypeError())


def test_a_path_that_no_file_system_takes_is_no_folder(tmp_path):
    assert failures.is_folder(tmp_path)
    assert not failures.is_folder("a" * 300) and not failures.is_folder(None)
