"""Fixtures for every room."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

# Before JAX starts. Two devices, so that whatever is sharded is really divided; and code that
# runs for a moment only is not optimised, nor made by XLA:CPU's MLIR emitters: it compiles five
# times as fast. What the commands that tests start compile is so too.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0 "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Everything is kept in the folder of compiled programs (see below), even what takes no time.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import pytest

from brats_jax.data.preparation import prepare
from brats_jax.data.store import Store
from brats_jax.models import resnet

# Files that take a minute or more, longest first, so that no worker is left alone with one at
# the end. launch/test.sh keeps xdist from sorting files by their number of tests.
LONGEST = (
    "test_main.py",
    "test_train.py",
    "test_real_evaluation.py",
    "test_experiment.py",
    "test_processes.py",
    "test_feeding.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory) -> Path:
    """A folder in which all workers keep compiled programs: each is compiled once a session."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


@pytest.fixture(scope="module", autouse=True)
def whole_networks() -> Iterator[None]:
    """Whoever makes networks shallower has to take it back: later files would test others."""
    blocks = resnet.BLOCKS
    yield
    assert blocks == resnet.BLOCKS == (3, 4, 6, 3)


@pytest.fixture(scope="session")
def brats_files() -> ModuleType:
    """The module brats_files.py beside this one, which writes tiny BraTS data sets."""
    path = Path(__file__).with_name("brats_files.py")
    spec = importlib.util.spec_from_file_location("brats_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def example_runs(brats_files, tmp_path_factory) -> dict[str, Path]:
    """By normalisation a folder with cases/, store/ and run/; see prediction_examples.py."""
    import prediction_examples as examples

    with examples.shallow():
        return {
            how: examples.make_run(brats_files, tmp_path_factory.mktemp(how), how)
            for how in ("slice", "volume")
        }


@pytest.fixture(scope="session")
def small_store(tmp_path_factory) -> Store:
    """Eight phantom patients of 16 slices, 48 x 48."""
    path = tmp_path_factory.mktemp("small") / "store"
    prepare("phantom", path, patients=8, seed=0, shape=(16, 48, 48), workers=1)
    return Store.open(path)
