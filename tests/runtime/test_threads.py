import threading

import pytest

from brats_jax.runtime import threads


@pytest.fixture(autouse=True)
def three_processors(monkeypatch):
    monkeypatch.setattr(threads, "available_cpus", lambda: 3)
    threads.set_limit(8)
    yield
    threads.set_limit(8)


def test_results_are_in_order_and_computed_in_several_threads():
    together = threading.Barrier(3, timeout=20)  # passes only when three are at work at once

    def work(k):
        together.wait()
        return k * k

    assert threads.parallel_map(work, range(3)) == [0, 1, 4]
    assert threads.parallel_map(work, []) == []


def test_a_limit_of_one_computes_in_the_calling_thread():
    threads.set_limit(0)
    assert set(threads.parallel_map(lambda _: threading.get_ident(), range(9))) == {
        threading.get_ident()
    }


def test_the_first_items_exception_is_raised():
    def work(k):
        if k:
            raise ValueError(k)

    with pytest.raises(ValueError, match=r"^1$"):
        threads.parallel_map(work, range(5))


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 155])
def test_a_split_range_covers_every_index_once(length):
    covered = [k for block in threads.split_range(length) for k in range(block.start, block.stop)]
    assert covered == list(range(length)) and len(threads.split_range(length)) <= 16
