"""Comparison of the training steps of two checkouts."""

import shutil
from pathlib import Path

import pytest

from benchmarks import before

# What a training step does not read.
UNREAD = shutil.ignore_patterns("template", "weights")


def test_each_checkout_runs_its_own_package(capsys, tmp_path, monkeypatch):
    """Two copies of this checkout, of one block a stage: what takes the time is compiling."""
    assert Path(before.__file__).is_relative_to(before.ROOT) and (before.ROOT / "tests").is_dir()
    one, other = tmp_path / "one", tmp_path / "other"
    for name in ("brats_jax", "benchmarks"):
        shutil.copytree(before.ROOT / name, one / name, ignore=UNREAD)
    resnet = one / "brats_jax" / "models" / "resnet.py"
    deep = resnet.read_text()
    assert deep.count("\nBLOCKS = (3, 4, 6, 3)") == 1
    resnet.write_text(deep.replace("\nBLOCKS = (3, 4, 6, 3)", "\nBLOCKS = (1, 1, 1, 1)"))
    shutil.copytree(one, other)
    monkeypatch.setattr(before, "ROOT", one)
    sizes = ("--stage=pretrain", "--width=4", "--batch=2", "--patch=32", "--turns=2", "--pairs=1")
    before.main([f"--other={other}", *sizes])
    first, *each, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("pretrain, width 4, batch 2: ") and "over 1 pairs of" in first
    for line, folder in zip(each, (one, other), strict=True):
        assert str(folder / "brats_jax" / "__init__.py") in line
    with pytest.raises(SystemExit, match="is no checkout"):
        before.main([f"--other={tmp_path}", *sizes])
