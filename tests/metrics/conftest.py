"""Fixtures for several tests of metrics."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def real_cases() -> ModuleType:
    """The module golden/real_cases.py, which makes predictions of real segmentations."""
    path = Path(__file__).parents[1] / "golden" / "real_cases.py"
    spec = importlib.util.spec_from_file_location("real_cases", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
