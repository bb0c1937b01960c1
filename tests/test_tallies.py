"""Tallies on disk: what is written comes back, and what is not a tally is refused in one line."""

import dataclasses

import numpy as np
import pytest
from tally_examples import slices_of, tally_of, two_patients

from brats_jax.errors import BratsError
from brats_jax.tallies import ReconstructionTally, SegmentationTally


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
    pretext = ReconstructionTally(slices, {"slice/mse": np.float32([0.5, np.nan])})
    pretext.save(tmp_path / "p.npz", {})
    for before, after in zip(
        flat(pretext), flat(ReconstructionTally.load(tmp_path / "p.npz")[0]), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_bad_files_are_named(tmp_path) -> None:
    prediction, truth, sizes = two_patients()
    path = tmp_path / "t.npz"
    with pytest.raises(BratsError, match=r"t\.npz: not there"):
        SegmentationTally.load(path)
    tally_of(prediction, truth, sizes).save(path, {})
    with pytest.raises(BratsError, match=r"of 'segment', not .* of 'pretrain'"):
        ReconstructionTally.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BratsError, match=r"t\.npz: cannot be read"):
        SegmentationTally.load(path)
    np.savez(path, head=np.array([object()], dtype=object))  # a pickle inside: never opened
    with pytest.raises(BratsError, match=r"t\.npz: cannot be read"):
        SegmentationTally.load(path)
