import mmap
import pickle

import numpy as np
import pytest

from brats_jax.data.store import memory_maps
from brats_jax.data.store.memory_maps import FileMaps
from brats_jax.errors import BratsError


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "flat.npy", np.arange(5000, dtype=np.uint8))
    np.save(tmp_path / "pixels.npy", np.arange(40, dtype=np.float16).reshape(10, 4))
    np.save(tmp_path / "none.npy", np.zeros((0, 4), np.float16))
    return tmp_path


def test_rows_of_four_are_one_number_each(folder):
    found = FileMaps(folder, "do something")
    array = found["pixels.npy"].array
    assert array.dtype == np.uint64 and array.shape == (10,)
    np.testing.assert_array_equal(array[3:4].view(np.float16), [12, 13, 14, 15])
    assert found["none.npy"].array.shape == (0,)
    assert found["flat.npy"] is found["flat.npy"] and len(found) == 3
    again = pickle.loads(pickle.dumps(found))
    assert len(again) == 0
    np.testing.assert_array_equal(again["flat.npy"].array, np.arange(5000, dtype=np.uint8))


def test_advice_is_of_whole_pages_that_hold_the_part(folder):
    class Map:
        asked = None

        def __len__(self):
            return 128 + 5000

        def madvise(self, option, start, length):
            assert option == mmap.MADV_WILLNEED
            self.asked = (start, length)

    mapped = memory_maps.Mapped(np.arange(5000, dtype=np.uint8), Map())
    mapped.soon(4000, 4500)  # bytes 4128 to 4628 of the file
    page = mmap.PAGESIZE
    start = 4128 // page * page
    assert mapped.map.asked == (start, 4628 - start)
    mapped.map.asked = None
    mapped.soon(7, 7)
    assert mapped.map.asked is None


def test_a_file_system_that_takes_no_advice(folder):
    class Map:
        def __len__(self):
            return 10

        def madvise(self, *_):
            raise OSError(11, "Resource temporarily unavailable")

    memory_maps.Mapped(np.arange(10, dtype=np.uint8), Map()).soon(0, 5)


def test_files_that_cannot_be_read(folder):
    (folder / "text.npy").write_text("no array")
    np.save(folder / "other.npy", np.arange(4, dtype=np.dtype(np.uint16).newbyteorder()))
    for name, message in (
        ("text.npy", "text.npy cannot be read .*: do something"),
        ("absent.npy", "absent.npy cannot be read .*: do something"),
        ("other.npy", "other.npy was written by a machine of the other byte order"),
    ):
        with pytest.raises(BratsError, match=message):
            FileMaps(folder, "do something")[name]


def test_more_files_are_asked_for_where_few_may_be_open(monkeypatch):
    class Limits:
        RLIM_INFINITY, RLIMIT_NOFILE = -1, 7
        now = (1024, 5000)

        def getrlimit(self, which):
            return self.now

        def setrlimit(self, which, limits):
            self.now = limits

    monkeypatch.setattr(memory_maps, "resource", Limits())
    assert memory_maps._open_files_allowed() == 2500 and memory_maps.resource.now == (5000, 5000)
    memory_maps.resource.now = (1024, 1024)
    assert memory_maps._open_files_allowed() == 512
    memory_maps.resource.now = (-1, -1)
    assert memory_maps._open_files_allowed() == 4096
