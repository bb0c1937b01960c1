"""Fixtures for every room."""

import fcntl
import gc
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

# Before JAX starts. Two devices, so that whatever is sharded is really divided; and code that
# runs for a moment only is not optimised, nor made by XLA:CPU's MLIR emitters: it compiles five
# times as fast. It is not compiled in parts either: with a worker on each core that takes a quarter
# more. What the commands that tests start compile is so too.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0 "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters "
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Everything is kept in the folder of compiled programs (see below), even what takes no time.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Without this variable Python keeps compiled modules: tests start some hundred processes, and each
# would compile the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# No test reports to a tracker of the person who runs it.
os.environ.pop("WANDB_PROJECT", None)
os.environ.pop("MLFLOW_TRACKING_URI", None)

import jax
import numpy as np
import pytest

from brats_jax.data.patches import PatchPlan
from brats_jax.data.slice_facts import SliceFacts
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.models import resnet
from brats_jax.runs.folder import GridFolder, RunFolder

sys.dont_write_bytecode = False  # of this process, as above of those that it starts
# A shell starts a background command (`pytest &`) with Ctrl-C ignored, and the commands that tests
# start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Files that take half a minute or more, longest first, so that no worker is left alone with one
# at the end. launch/test.sh keeps xdist from sorting files by their number of tests.
LONGEST = (
    "test_main.py",
    "test_earlier_runs.py",
    "test_real_evaluation.py",
    "test_trainer.py",
    "test_distributed.py",
    "test_notebook.py",
    "test_experiment.py",
    "test_fusions.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


def pytest_collection_finish() -> None:
    """Tracing makes many objects that live on: the collector need not look at them so often."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """One folder for all workers of a session."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def once(shared_folder) -> Callable[[str, Callable[[Path], object]], Path]:
    """once(name, make): a folder that the first worker to want it makes, for all to read."""

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, whole = shared_folder / name, shared_folder / f"{name}.whole"
        with (shared_folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait here
            if not whole.exists():
                make(folder)
                whole.touch()
        return folder

    return made


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(shared_folder) -> Path:
    """A folder in which all workers keep compiled programs: each is compiled once a session.

    So do the programs that tests start. It is where 'auto' keeps them with `shared_folder` as
    XDG_CACHE_HOME. BRATS_JAX_TEST_CACHE names a folder that outlives the session, for who runs one
    file again and again.
    """
    folder = shared_folder / "brats_jax" / "compiled"
    if kept := os.environ.get("BRATS_JAX_TEST_CACHE"):
        folder = Path(kept)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
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


@pytest.fixture(scope="module")
def shallow() -> Iterator[None]:
    """One block a stage: what is tested with it does not depend on depth, compiling does."""
    import prediction_examples as examples

    with examples.shallow():
        yield


@pytest.fixture(scope="session")
def example_runs(brats_files, once) -> dict[str, Path]:
    """By normalisation a folder with cases/, store/ and run/; see prediction_examples.py."""
    import prediction_examples as examples

    with examples.shallow():
        return {
            how: once(f"example_{how}", partial(examples.make_run, brats_files, normalisation=how))
            for how in ("slice", "volume")
        }


@pytest.fixture(scope="session")
def plane_runs(brats_files, once) -> dict[str, Path]:
    """By plane a run of one fold; their stores and cases/ are beside them."""
    import prediction_examples as examples

    with examples.shallow():
        folder = once("planes", partial(examples.make_plane_runs, brats_files))
    return {plane: folder / plane for plane in examples.PLANES}


@pytest.fixture(scope="session")
def small_store(once) -> Store:
    """Eight phantom patients of 16 slices, 48 x 48."""

    def make(path: Path) -> None:
        prepare("phantom", path, patients=8, seed=0, shape=(16, 48, 48), workers=1)

    return Store.open(once("small_store", make))


@pytest.fixture(scope="session")
def plane_stores(once) -> dict[str, Store]:
    """By plane, a store of the same five phantoms of 16 slices, 32 x 24."""
    import plane_examples

    folder = once("plane_stores", plane_examples.make)
    return {plane: Store.open(folder / plane) for plane in plane_examples.PLANES}


@pytest.fixture(scope="session")
def mixed_store(once) -> Store:
    """Patients with and without labels, and with missing modalities; see unlabelled_examples.py."""
    import unlabelled_examples

    return Store.open(once("mixed_store", unlabelled_examples.make_store))


@pytest.fixture
def empty_figures(monkeypatch) -> None:
    """Figures are saved without content: drawing takes most of the time of a report."""
    monkeypatch.setattr("matplotlib.figure.Figure.draw", lambda *_: None)


@pytest.fixture
def plan(small_store) -> PatchPlan:
    """Patches of 16 x 16 from forty of its slices."""
    return PatchPlan(small_store, np.arange(20, 60), patch_size=16, tumour_probability=0.5, seed=3)


@pytest.fixture
def context_plan(small_store) -> PatchPlan:
    """The same patches, with a slice on each side."""
    facts = SliceFacts(small_store, context=1)
    slices = np.arange(20, 60)
    options = {"patch_size": 16, "tumour_probability": 0.5, "seed": 3, "facts": facts}
    return PatchPlan(small_store, slices, **options)


@pytest.fixture(scope="module")
def model(example_runs, shallow):
    """Both folds of the example run with volume normalisation, loaded to segment."""
    from brats_jax import inference

    return inference.load(example_runs["volume"] / "run")


@pytest.fixture(scope="module")
def finished(small_store, compiled_programs, once, shallow, tmp_path_factory):
    """(run folder, configuration, summary) of a run of both stages; the folder is one's own."""
    from experiment_examples import config_of

    from brats_jax.evaluation import summary
    from brats_jax.experiments import experiment

    config = config_of(small_store, compiled_programs)
    whole = once("finished", lambda folder: experiment.run(config, folder))
    workdir = tmp_path_factory.mktemp("run") / "run"
    shutil.copytree(whole, workdir)
    return workdir, config, summary.summarise_run(RunFolder(workdir), config.data.num_folds)


@pytest.fixture
def grid(tmp_path) -> GridFolder:
    """The folder of a grid of stand-ins; see grid_examples.py."""
    import grid_examples

    return grid_examples.make(tmp_path / "grid")
