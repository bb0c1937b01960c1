"""Comparison of the training steps of two checkouts."""

import shutil
from pathlib import Path

import pytest

from benchmarks import before


def test_each_checkout_runs_its_own_package(capsys, tmp_path):
    """This checkout and a copy of it."""
    root, copy = Path(before.__file__).parents[1], tmp_path / "copy"
    for name in ("brats_jax", "benchmarks"):
        shutil.copytree(root / name, copy / name)
    sizes = ("--stage=pretrain", "--width=4", "--batch=2", "--patch=32", "--turns=2", "--pairs=1")
    before.main([f"--other={copy}", *sizes])
    first, *each, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("pretrain, width 4, batch 2: ") and "over 1 pairs of" in first
    for line, folder in zip(each, (root, copy), strict=True):
        assert str(folder / "brats_jax" / "__init__.py") in line
    with pytest.raises(SystemExit, match="is no checkout"):
        before.main([f"--other={tmp_path}", *sizes])
