import zipfile

import numpy as np
import pytest

from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.data.store import writer
from brats_jax.data.store.layout import case_files
from brats_jax.errors import Busy

NAME = "Phantom_001"


@pytest.fixture
def source():
    return PhantomSource(1, 1, (16, 32, 32))


def test_a_finished_case_is_recognised_until_a_file_changes(tmp_path, source):
    record = writer.write_case(tmp_path, source, NAME, "slice")
    assert writer.finished_case(tmp_path, NAME, "") == record
    assert writer.finished_case(tmp_path, NAME, "another state") is None
    images = tmp_path / case_files(NAME)[0]
    images.write_bytes(images.read_bytes()[:-1])
    assert writer.finished_case(tmp_path, NAME, "") is None
    writer.discard_case(tmp_path, NAME)
    assert not list((tmp_path / "cases").iterdir())


def test_the_index_has_no_time_stamps(tmp_path, source):
    record = writer.write_case(tmp_path, source, NAME, "slice")
    files, summary = writer.write_index(tmp_path, [record])
    with zipfile.ZipFile(tmp_path / "index.npz") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
    assert (summary.patients, summary.slices) == (1, 16)
    assert list(files) == sorted(files) and len(files) == 5
    with np.load(tmp_path / "index.npz") as index:
        assert index["tumour_offsets"][-1] == len(np.load(tmp_path / "tumour_pixels.npy"))


def test_a_second_writer_is_refused_and_an_empty_folder_removed(tmp_path):
    store = tmp_path / "s"
    with writer.sole_writer(store), pytest.raises(Busy, match="in use by"):  # noqa: SIM117
        with writer.sole_writer(store):
            pass
    assert not store.exists()
