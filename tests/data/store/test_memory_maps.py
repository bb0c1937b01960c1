import mmap
import pickle
import threading
import time

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


def test_a_pixel_of_four_modalities_is_one_number(folder):
    found = FileMaps(folder, "do something")
    array = found["pixels.npy"].array
    assert array.dtype == np.uint64 and array.shape == (10,)
    np.testing.assert_array_equal(array[3:4].view(np.float16), [12, 13, 14, 15])
    assert found["none.npy"].array.shape == (0,)
    assert found["flat.npy"] is found["flat.npy"] and len(found) == 3
    again = pickle.loads(pickle.dumps(found))
    assert len(again) == 0
    np.testing.assert_array_equal(again["flat.npy"].array, np.arange(5000, dtype=np.uint8))


def test_prefetching_covers_whole_pages(folder):
    class Map:
        asked = None

        def __len__(self):
            return 128 + 5000

        def madvise(self, option, start, length):
            assert option == mmap.MADV_WILLNEED
            self.asked = (start, length)

    mapped = memory_maps.Mapped(np.arange(5000, dtype=np.uint8), Map())
    mapped.prefetch(4000, 4500)  # bytes 4128 to 4628 of the file
    page = mmap.PAGESIZE
    start = 4128 // page * page
    assert mapped.map.asked == (start, 4628 - start)
    mapped.map.asked = None
    mapped.prefetch(7, 7)
    assert mapped.map.asked is None


def test_a_file_system_without_prefetching_is_read_all_the_same(folder):
    class Map:
        def __len__(self):
            return 10

        def madvise(self, *_):
            raise OSError(11, "Resource temporarily unavailable")

    memory_maps.Mapped(np.arange(10, dtype=np.uint8), Map()).prefetch(0, 5)


def test_unreadable_files_are_refused(folder):
    (folder / "text.npy").write_text("no array")
    np.save(folder / "other.npy", np.arange(4, dtype=np.dtype(np.uint16).newbyteorder()))
    for name, message in (
        ("text.npy", "text.npy cannot be read .*: do something"),
        ("absent.npy", "absent.npy cannot be read .*: do something"),
        ("other.npy", "other.npy was written by a machine of the other byte order"),
    ):
        with pytest.raises(BratsError, match=message):
            FileMaps(folder, "do something")[name]


def test_the_limit_on_open_files_is_raised(monkeypatch):
    class Limits:
        RLIM_INFINITY, RLIMIT_NOFILE = -1, 7
        now = (1024, 5000)

        def getrlimit(self, which):
            return self.now

        def setrlimit(self, which, limits):
            self.now = limits

    monkeypatch.setattr(memory_maps, "resource", Limits())
    assert memory_maps.maps_allowed() == 2500 and memory_maps.resource.now == (5000, 5000)
    memory_maps.resource.now = (1024, 1024)
    assert memory_maps.maps_allowed() == 512
    memory_maps.resource.now = (-1, -1)
    assert memory_maps.maps_allowed() == 4096


def test_the_least_recently_used_map_is_dropped_while_threads_read(tmp_path):
    for k in range(6):
        np.save(tmp_path / f"{k}.npy", np.full(100, k, np.uint8))
    found = FileMaps(tmp_path, "do something", most=2)
    view = found["0.npy"].array[10:20]
    order = np.random.default_rng(0).integers(0, 6, 500).tolist()
    failures = []

    def work():
        failures.extend(k for k in order if not (found[f"{k}.npy"].array == k).all())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(found) == 2
    assert view.tolist() == [0] * 10  # outlives its map


def test_headers_are_read_by_one_thread_at_a_time(folder, monkeypatch):
    inside, most, load = [], [], np.load

    def slow(*args, **options):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        loaded = load(*args, **options)
        inside.pop()
        return loaded

    monkeypatch.setattr(np, "load", slow)
    found = FileMaps(folder, "do something")
    names = ["flat.npy", "pixels.npy", "none.npy"]
    threads = [threading.Thread(target=found.__getitem__, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and most == [1, 1, 1]
