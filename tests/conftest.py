"""Fixtures for every room."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

# Two devices, so that whatever is sharded is really divided; set before JAX starts.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pytest

from brats_jax.data.preparation import prepare
from brats_jax.data.store import Store


@pytest.fixture(scope="session")
def brats_files() -> ModuleType:
    """The module brats_files.py beside this one, which writes tiny BraTS data sets."""
    path = Path(__file__).with_name("brats_files.py")
    spec = importlib.util.spec_from_file_location("brats_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def small_store(tmp_path_factory) -> Store:
    """Eight phantom patients of 16 slices, 48 x 48."""
    path = tmp_path_factory.mktemp("small") / "store"
    prepare("phantom", path, patients=8, seed=0, shape=(16, 48, 48), workers=1)
    return Store.open(path)
