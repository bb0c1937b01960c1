import zipfile

import numpy as np

from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.data.store import writer
from brats_jax.data.store.index_writer import write_index


def test_the_index_has_no_time_stamps(tmp_path):
    record = writer.write_case(tmp_path, PhantomSource(1, 1, (16, 32, 32)), "Phantom_001", "slice")
    files, summary = write_index(tmp_path, [record])
    with zipfile.ZipFile(tmp_path / "index.npz") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
    assert (summary.patients, summary.slices) == (1, 16)
    assert list(files) == sorted(files) and len(files) == 5
    with np.load(tmp_path / "index.npz") as index:
        assert index["tumour_offsets"][-1] == len(np.load(tmp_path / "tumour_pixels.npy"))
