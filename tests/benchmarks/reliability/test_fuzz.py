"""A few hundred mutations of the readers that need no trained network; the same each time."""

import warnings

import numpy as np
import pytest

from benchmarks.reliability import mutations
from benchmarks.reliability.fuzz import fuzz, table
from benchmarks.reliability.fuzz_readers import make_readers


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return make_readers(tmp_path_factory.mktemp("fuzz") / "here", trained=False)


def test_damaged_and_edited_files_end_in_one_line_or_the_same_result(readers):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counts = fuzz(readers, 400, seed=1)
    failures = {name: count.failures for name, count in counts.items() if count.failed}
    assert failures == {}, table(counts)
    assert sum(count.refused for count in counts.values()) > 150


def test_equal_seeds_give_equal_mutations(readers):
    path = readers[0].files[0]
    data = path.read_bytes()
    first, second = (
        [mutations.mutate(path, data, rng) for _ in range(20)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert first == second
    # An edit may write what is there already: which one, depends on the version of zlib.
    assert sum(mutated != data for mutated, _ in first) >= 15
