"""Tallies on disk: what is written comes back, and what is not a tally is refused in one line."""

import dataclasses
import json

import numpy as np
import pytest
from tally_examples import slices_of, tally_of, two_patients

from brats_jax.errors import BratsError
from brats_jax.evaluation.tallies import PretrainingTally, SegmentationTally
from brats_jax.runs.evaluated import has_tally


def flat(value) -> list[np.ndarray]:
    if dataclasses.is_dataclass(value):
        return [a for f in dataclasses.fields(value) for a in flat(getattr(value, f.name))]
    if isinstance(value, dict):
        return [a for name in sorted(value) for a in [np.array(name), *flat(value[name])]]
    return [a for v in value for a in flat(v)] if isinstance(value, tuple) else [np.asarray(value)]


def test_what_is_written_comes_back(tmp_path) -> None:
    prediction, truth, sizes = two_patients()
    tally = tally_of(prediction, truth, sizes)
    tally.save(tmp_path / "t.npz", {"fold": 3})
    again, facts = SegmentationTally.load(tmp_path / "t.npz")
    assert facts == {"fold": 3}
    for before, after in zip(flat(tally), flat(again), strict=True):
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype

    slices = slices_of((2,), np.array([True, False]), [True])
    pretraining = PretrainingTally(
        slices,
        {"slice/mse": np.float32([0.5, np.nan])},
        {"mean": {"slice/mse": np.float32([1, np.nan])}},
    )
    pretraining.save(tmp_path / "p.npz", {})
    for before, after in zip(
        flat(pretraining), flat(PretrainingTally.load(tmp_path / "p.npz")[0]), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_bad_files_are_named(tmp_path) -> None:
    prediction, truth, sizes = two_patients()
    path = tmp_path / "t.npz"
    with pytest.raises(BratsError, match=r"t\.npz: not there"):
        SegmentationTally.load(path)
    tally_of(prediction, truth, sizes).save(path, {})
    with pytest.raises(BratsError, match="a tally of 'segment', not of 'pretrain'"):
        PretrainingTally.load(path)
    assert has_tally(path, "segment") and not has_tally(path, "pretrain")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert not has_tally(path, "segment")
    with pytest.raises(BratsError, match=r"t\.npz: cannot be read"):
        SegmentationTally.load(path)
    np.savez(path, head=np.array([object()], dtype=object))  # a pickle inside: never opened
    with pytest.raises(BratsError, match=r"t\.npz: cannot be read"):
        SegmentationTally.load(path)


def test_damage_inside_the_file_is_told_with_what_to_do(tmp_path) -> None:
    prediction, truth, sizes = two_patients()
    path = tmp_path / "t.npz"
    tally_of(prediction, truth, sizes).save(path, {})
    with np.load(path) as file:
        arrays = dict(file)
    whole = path.read_bytes()
    remedy = r"t\.npz: cannot be read .*; remove it, and give the command that trained again"
    rng = np.random.default_rng(0)
    for _ in range(40):  # bits that fall over on a disk
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 8):
            damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            SegmentationTally.load(path)
        except BratsError as error:
            assert str(error).count("\n") == 0
    for name in ("counts", "regions", "slices.whole", "surface.n_gt"):
        np.savez(path, **{key: array for key, array in arrays.items() if key != name})
        with pytest.raises(BratsError, match=remedy):
            SegmentationTally.load(path)


def test_an_older_tally_is_refused_with_the_remedy(tmp_path) -> None:
    prediction, truth, sizes = two_patients()
    path = tmp_path / "t.npz"
    tally_of(prediction, truth, sizes).save(path, {})
    with np.load(path) as file:
        arrays = dict(file)
    head = {**json.loads(str(arrays["head"])), "version": 1}
    np.savez(path, **{**arrays, "head": np.array(json.dumps(head))})
    assert not has_tally(path, "segment")
    with pytest.raises(BratsError, match=r"brats_jax\.tally 1.*; remove it, and give the command"):
        SegmentationTally.load(path)
