import subprocess
import sys

import numpy as np

from brats_jax.data.whole_slices import whole_slice_batches


def test_every_slice_comes_once_and_the_filling_is_marked(small_store):
    indices = np.array([3, 9, 1, 40, 7])
    batches = list(whole_slice_batches(small_store, indices, 3))
    assert [b["valid"].tolist() for b in batches] == [[True] * 3, [True, True, False]]
    index = np.concatenate([b["index"][b["valid"]] for b in batches])
    np.testing.assert_array_equal(index, indices)
    assert batches[1]["index"][2] == 3  # filled from the beginning
    np.testing.assert_array_equal(batches[1]["image"][1], small_store.read([7])[0][0])
    np.testing.assert_array_equal(batches[1]["label"][0], small_store.read([40])[1][0])


def test_batches_are_filled_up_to_what_the_devices_share(small_store):
    indices = np.array([3, 9, 1, 40, 7])
    batches = list(whole_slice_batches(small_store, indices, 2, filled_to=3))
    assert [b["index"].tolist() for b in batches] == [[3, 9, 3], [1, 40, 3], [7, 3, 9]]
    assert [b["valid"].sum() for b in batches] == [2, 2, 1]
    third = list(whole_slice_batches(small_store, indices, 2, slice(2, 3), filled_to=3))
    for whole, mine in zip(batches, third, strict=True):
        np.testing.assert_array_equal(mine["image"], whole["image"][2:])


def test_no_slices_give_no_batches():
    assert list(whole_slice_batches(None, np.array([], int), 4)) == []


def test_reading_ahead_keeps_the_order_and_can_be_abandoned(small_store):
    indices = np.arange(30)[::-1]
    batches = whole_slice_batches(small_store, indices, 2)
    first = [next(batches)["index"].tolist() for _ in range(3)]
    assert first == [[29, 28], [27, 26], [25, 24]]
    batches.close()
    again = [b["index"] for b in whole_slice_batches(small_store, indices, 2)]
    np.testing.assert_array_equal(np.concatenate(again), indices)


def test_whole_slices_need_no_grain():
    program = "import brats_jax.data.whole_slices, sys; sys.exit('grain' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
