"""Importing the package is quick, and says what is missing."""

import subprocess
import sys

from processes import ROOT


def test_a_python_without_the_packages_gets_one_line():
    """As after `git clone`, without `source .venv/bin/activate`."""
    bare = [sys.executable, "-S", "-E"]  # -S: without site-packages
    done = subprocess.run([*bare, "-m", "brats_jax.predict"], capture_output=True, cwd=ROOT)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1 and line.startswith("error: the packages that brats_jax needs are")
    assert "source .venv/bin/activate" in line
    done = subprocess.run([*bare, "-c", "import brats_jax"], capture_output=True, cwd=ROOT)
    assert b"\nImportError: the packages that brats_jax needs are not installed" in done.stderr
    old = "import sys; sys.version_info = (3, 10); sys.version = '3.10.1 x'; import brats_jax"
    done = subprocess.run([sys.executable, "-c", old], capture_output=True, cwd=ROOT)
    assert b"brats_jax needs Python 3.11 or newer, and this is 3.10.1: " in done.stderr


def test_importing_the_package_loads_no_library_until_load_is_used():
    code = (
        "import sys, brats_jax; assert brats_jax.__version__; "
        "print([m for m in ('jax', 'numpy', 'nibabel') if m in sys.modules]); "
        "print(brats_jax.load.__module__)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert printed.split("\n")[:2] == ["[]", "brats_jax.inference.loading"]
