import json
import secrets
import threading
import time

import pytest

from brats_jax.errors import Busy
from brats_jax.runs import bucket_lease
from brats_jax.runs.bucket import Bucket, Superseded
from brats_jax.runs.bucket_lease import Lease


@pytest.fixture
def buckets(monkeypatch):
    """Two programs at the same place in memory; time runs fast."""
    monkeypatch.setattr(bucket_lease, "BEAT_S", 0.05)
    monkeypatch.setattr(bucket_lease, "WATCH_S", 0.6)
    # The process of a lease is this one, which runs: as if it were on another machine.
    url = f"memory://{secrets.token_hex(8)}/run"
    return Bucket(url), Bucket(url)


def test_a_second_machine_is_refused_while_the_first_gives_signs(buckets, monkeypatch):
    monkeypatch.setattr(bucket_lease, "WATCH_S", 30.0)
    first, second = map(Lease, buckets)
    first.take()
    with pytest.raises(Busy, match=r"in use by .*, process .*; wait for it or stop it"):
        second.take()
    first.check()
    first.release()
    second.take()
    second.release()
    assert buckets[0].read("lease.json") is None


def test_the_lease_of_a_machine_that_ended_is_taken_over_and_the_old_one_notices(buckets):
    first, second = map(Lease, buckets)
    first.take()
    first._ended.set()  # the machine was taken away
    second.take()
    with pytest.raises(Superseded, match="taken over by"):
        first.check()
    first.release()  # leaves the lease of the other alone
    second.check()
    second.release()


@pytest.mark.parametrize("change", [{"time": time.time() - 3600}, {"process": 2**22 + 1}])
def test_a_lease_of_long_ago_or_of_an_ended_process_is_no_hindrance(buckets, change, monkeypatch):
    first, second = map(Lease, buckets)
    first.take()
    first._ended.set()
    first._thread.join()
    document = json.loads(buckets[0].read("lease.json"))
    buckets[0].write(json.dumps(document | change).encode(), "lease.json")
    monkeypatch.setattr(bucket_lease, "WATCH_S", 60.0)
    begin = time.monotonic()
    second.take()
    assert time.monotonic() - begin < 5
    second.release()


def test_a_lease_that_is_given_back_while_it_is_watched_is_taken(buckets):
    first, second = map(Lease, buckets)
    first.take()
    first._ended.set()
    threading.Timer(0.1, first.release).start()
    second.take()
    second.check()
    second.release()
