"""The wheel: built, installed into a folder of its own and used from another."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("brats_jax", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE")


def run(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the installed wheel alone; its dependencies are those of the tests."""
    root = tmp_path_factory.mktemp("wheel")
    # A copy, to which a ready model is added, and because setuptools takes stale files from a build
    # folder of earlier calls.
    (root / "source").mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / "source" / name)
    ready = root / "source" / "brats_jax" / "weights" / "mine"
    ready.mkdir(parents=True)
    (ready / "config.json").write_text('{"schema": "brats_jax.weights"}')
    (ready / "model.safetensors").write_bytes(b"weights")
    built = run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={root / 'dist'}"),
        cwd=root / "source",
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (root / "dist").glob("*.whl")
    done = run(
        *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"),
        *(f"--target={root / 'site'}", str(wheel)),
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(root / "source")
    return root / "site"


def test_an_installed_package_brings_its_configurations(installed, tmp_path):
    done = run(
        *(sys.executable, "-m", "brats_jax.main", "--config=configs/demo.py"),
        *("--config.model.width=8", "--config.data.store=nowhere"),
        cwd=tmp_path,
        PYTHONPATH=str(installed),
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "nowhere" in done.stderr and "brats_jax.prepare" in done.stderr


def test_an_installed_package_brings_its_ready_models(installed, tmp_path):
    assert (installed / "brats_jax/weights/mine/model.safetensors").read_bytes() == b"weights"
    code = "import brats_jax; brats_jax.load('yours')"
    done = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert re.search("'yours': no run there.* a ready model: .*mine", done.stderr)
    code = "import brats_jax; print(brats_jax.load('small').trained.place)"
    done = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert done.stdout.strip() == "small", done.stderr


def test_an_installed_package_writes_a_report(installed, finished, tmp_path):
    workdir, *_ = finished
    where = "import brats_jax; print(brats_jax.__file__)"
    found = run(sys.executable, "-c", where, cwd=tmp_path, PYTHONPATH=str(installed))
    assert found.stdout.startswith(str(installed))
    done = run(
        *(str(installed / "bin" / "brats-jax"), "report", f"--workdir={workdir}"),
        cwd=tmp_path,
        PYTHONPATH=str(installed),
    )
    assert done.returncode == 0, done.stderr
    page = (workdir / "report.html").read_text()
    assert "<style>" in page and "<script>" in page
