import contextlib

import pytest

from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.data.store.case_pool import CasePool


@pytest.mark.parametrize("workers", [1, 2])
def test_every_case_is_written_and_unfit_ones_get_a_reason(tmp_path, workers):
    source = PhantomSource(2, 1, (16, 32, 32))
    with contextlib.closing(CasePool(tmp_path, source, "slice", workers)) as pool:
        results = dict(pool.write(["Phantom_001", "Phantom_002", "Phantom_009"]))
    assert results["Phantom_001"].patient == "Phantom_001"
    assert "no patient 'Phantom_009'" in results["Phantom_009"]
    assert len(list((tmp_path / "cases").iterdir())) == 6
