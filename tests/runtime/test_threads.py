import contextvars
import ctypes
import functools
import gc
import os
import signal
import sys
import threading
import time
import weakref

import numpy as np
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


def test_an_interruptible_call_returns_and_raises_like_the_function():
    assert threads.interruptible(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        threads.interruptible(lambda: 1 // 0)


def test_an_interruptible_call_that_fails_leaves_nothing_in_memory():
    """Without the collector of circles, which runs seldom."""
    data = np.zeros(3)
    left = weakref.ref(data)
    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError):
            threads.interruptible(functools.partial(lambda array: 1 // 0, data))
        del data
        assert left() is None
    finally:
        gc.enable()


def test_an_interruptible_call_sees_the_variables_of_its_context():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(3)
    assert threads.interruptible(variable.get) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="zeros are a valid mutex on Linux only")
def test_a_signal_ends_the_wait_for_native_code_at_once():
    """The call waits in a lock of C, as for a compilation, which ends after five seconds."""
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    libc.pthread_mutex_lock(mutex)
    unlocking = threading.Timer(5, libc.pthread_mutex_unlock, (mutex,))
    unlocking.start()
    signalling = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    signalling.start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            threads.interruptible(lambda: libc.pthread_mutex_lock(mutex))
        assert time.monotonic() - began < 4
    finally:
        unlocking.cancel()
        libc.pthread_mutex_unlock(mutex)
