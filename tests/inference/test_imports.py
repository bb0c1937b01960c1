"""Inference stands on its own: neither the training nor libraries that it can wait for."""

import pkgutil
import subprocess
import sys

import pytest
from processes import ROOT

import brats_jax.inference

MODULES = [
    "brats_jax.inference",
    *(f"brats_jax.inference.{m.name}" for m in pkgutil.iter_modules(brats_jax.inference.__path__)),
]
UNWANTED = (
    "brats_jax.training",
    "brats_jax.experiments",
    "brats_jax.evaluation",
    "grain",
    "tensorboardX",
    # Half of the time until the first case is read, and not needed for it.
    "matplotlib",
    "orbax",
    "scipy",
)


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """By module of the package, the unwanted modules that importing it adds to those before."""
    code = (
        "import importlib, sys\n"
        f"for name in {MODULES}:\n"
        "    importlib.import_module(name)\n"
        f"    found = [m for m in sys.modules if m.startswith({UNWANTED})]\n"
        "    print(name, *found)\n"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    return {name: found for name, *found in map(str.split, printed.splitlines())}


@pytest.mark.parametrize("module", MODULES)
def test_inference_imports_no_training(imported, module):
    assert imported[module] == []
