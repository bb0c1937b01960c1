"""Importing the package is quick."""

import subprocess
import sys

from processes import ROOT


def test_importing_the_package_loads_no_library_until_load_is_used():
    code = (
        "import sys, brats_jax; assert brats_jax.__version__; "
        "print([m for m in ('jax', 'numpy', 'nibabel') if m in sys.modules]); "
        "print(brats_jax.load.__module__)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert printed.split("\n")[:2] == ["[]", "brats_jax.inference.loading"]
