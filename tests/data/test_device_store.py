"""Slices in device memory: what is cut from them, and where they are kept."""

import jax
import numpy as np
import pytest
from meshes import mesh_of

from brats_jax.data import device_store
from brats_jax.data.device_store import DeviceStore, bytes_needed, choose_placement, gather
from brats_jax.data.patches import PatchPlan, cut
from brats_jax.data.slice_facts import SliceFacts
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.data.whole_slices import whole_slice_batches
from brats_jax.errors import BratsError
from brats_jax.runtime import devices


@pytest.mark.parametrize("count", [1, 2])
def test_patches_cut_on_the_devices_have_the_bits_of_those_cut_on_the_host(
    small_store, plan, count
):
    mesh = mesh_of(count)
    resident = DeviceStore(small_store, np.arange(20, 60), mesh)
    arrays = resident.arrays
    assert arrays.images.shape[1:] == (256, 4) and len(arrays.first) == 40
    # What is not there is background.
    assert arrays.labels.size < 0.6 * 40 * 48 * 48
    cut_there = jax.jit(lambda arrays, numbers: gather(arrays, numbers, 16, mesh))
    drawn = plan.examples(0, 40)
    numbers = devices.put_batch(resident.positions(drawn), mesh)
    batch = cut_there(resident.arrays, numbers)
    assert len(batch["image"].sharding.device_set) == count
    expected = cut(small_store, drawn, 16)
    assert batch.keys() == expected.keys()
    for name, array in expected.items():
        assert batch[name].dtype == array.dtype
        np.testing.assert_array_equal(batch[name], array)
    # One pass: every slice once, and each device has a half of its own.
    shares = [np.asarray(s.data) for s in numbers["slice"].addressable_shards]
    assert sorted(np.concatenate(shares)) == list(range(40))


def test_patches_around_classes_are_those_of_the_host_and_hold_all_classes(small_store):
    slices, mesh = np.arange(20, 60), mesh_of(1)
    options = {"patch_size": 16, "tumour_probability": 1.0, "seed": 3, "sampling": "classes"}
    drawn = PatchPlan(small_store, slices, **options).examples(0, 40)
    assert np.isin(drawn.slices, slices).all() and small_store.has_tumour[drawn.slices].all()
    resident = DeviceStore(small_store, slices, mesh)
    batch = jax.jit(lambda arrays, numbers: gather(arrays, numbers, 16, mesh))(
        resident.arrays, devices.put_batch(resident.positions(drawn), mesh)
    )
    expected = cut(small_store, drawn, 16)
    for name, array in expected.items():
        np.testing.assert_array_equal(batch[name], array)
    for number in (1, 2, 3):
        assert (expected["label"] == number).any(axis=(1, 2)).mean() >= 0.2


@pytest.mark.parametrize("count", [1, 2])
def test_neighbours_cut_on_the_devices_have_the_bits_of_those_cut_on_the_host(
    small_store, context_plan, count
):
    mesh, facts = mesh_of(count), SliceFacts(small_store, context=1)
    resident = DeviceStore(small_store, facts.with_neighbours(np.arange(20, 60)), mesh)
    drawn = context_plan.examples(0, 40)
    numbers = devices.put_batch(resident.positions(drawn), mesh)
    batch = jax.jit(lambda arrays, numbers: gather(arrays, numbers, 16, mesh))(
        resident.arrays, numbers
    )
    expected = cut(small_store, drawn, 16)
    assert batch.keys() == expected.keys() == {"image", "label", "seed", "neighbours"}
    for name, array in expected.items():
        np.testing.assert_array_equal(batch[name], array)


def test_slices_that_fill_no_whole_block_are_all_copied(small_store, monkeypatch):
    slices = np.array([70, 3, 3, 9, 50, 11, 12, 40, 41])  # 8 of them
    plain = DeviceStore(small_store, slices, mesh_of(1)).arrays
    monkeypatch.setattr(device_store, "BLOCK", 5)
    arrays = DeviceStore(small_store, slices, mesh_of(1)).arrays
    assert len(arrays.images) % 5
    for one, other in zip(arrays, plain, strict=True):
        np.testing.assert_array_equal(one, other)
    for k, index in enumerate(np.unique(slices)):
        image, label = small_store.flat(index)
        rows = slice(arrays.first[k], arrays.first[k] + -(-len(label) // 256))
        np.testing.assert_array_equal(arrays.images[rows].reshape(-1, 4)[: len(label)], image)
        np.testing.assert_array_equal(arrays.labels[rows].reshape(-1)[: len(label)], label)


def test_empty_slices_are_background(tmp_path, brats_files):
    """Air at the end of a volume: boxes of no pixels, the last one after all rows."""
    volumes = brats_files.make_case(0, shape=(32, 32, 5))
    volumes = {name: volume.copy() for name, volume in volumes.items()}
    for volume in volumes.values():
        volume[:, :, [0, 4]] = 0
    brats_files.write_nifti_case(tmp_path / "source", "A", volumes)
    prepare(tmp_path / "source", tmp_path / "store", workers=1)
    store, mesh = Store.open(tmp_path / "store"), mesh_of(1)
    assert not store.box[0].any() and not store.box[4].any() and store.box[3].any()
    plan = PatchPlan(store, np.arange(5), patch_size=16, tumour_probability=0.0, seed=0)
    resident = DeviceStore(store, np.arange(5), mesh)
    assert int(resident.arrays.first[-1]) < len(resident.arrays.images)
    drawn = plan.examples(0, 20)
    batch = gather(resident.arrays, devices.put_batch(resident.positions(drawn), mesh), 16, mesh)
    for name, array in cut(store, drawn, 16).items():
        np.testing.assert_array_equal(batch[name], array)


def accelerator_with(memory):
    """A mesh of one accelerator with so many bytes."""

    class Accelerator:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": memory}

    class Mesh:
        devices = np.array([Accelerator()])
        local_devices = (devices[0],)
        size = 1

    return Mesh()


def test_a_placement_is_chosen_by_size(small_store):
    slices, mesh = np.arange(20), mesh_of(1)
    needed = bytes_needed(small_store, slices)
    arrays = DeviceStore(small_store, slices, mesh).arrays
    assert needed == sum(array.nbytes for array in arrays) < 0.7 * 20 * 48 * 48 * 9
    assert choose_placement("host", small_store, slices, mesh) == "host"
    assert choose_placement("auto", small_store, slices, mesh) == "host"  # on CPU
    assert choose_placement("device", small_store, slices, mesh) == "device"
    assert choose_placement("device", small_store, slices, accelerator_with(1.12 * needed))
    with pytest.raises(BratsError, match=r"slices take 0.0 GB.*--config.data.placement=host"):
        choose_placement("device", small_store, slices, accelerator_with(needed / 0.95))


@pytest.mark.parametrize(("factor", "placement"), [(2.0, "device"), (1.99, "host")])
def test_on_an_accelerator_half_the_memory_decides(small_store, factor, placement):
    mesh = accelerator_with(factor * bytes_needed(small_store, np.arange(20)))
    assert choose_placement("auto", small_store, np.arange(20), mesh) == placement


def test_batches_say_which_modalities_are_present_where_some_are_missing(mixed_store, small_store):
    slices = np.arange(mixed_store.num_slices)
    plan = PatchPlan(mixed_store, slices, patch_size=16, tumour_probability=0.5, seed=3)
    drawn, mesh = plan.examples(0, 192), mesh_of(1)
    expected = cut(mixed_store, drawn, 16)
    resident = DeviceStore(mixed_store, slices, mesh)
    numbers = devices.put_batch(resident.positions(drawn), mesh)
    batch = jax.jit(lambda *given: gather(*given, 16, mesh))(resident.arrays, numbers)
    assert batch.keys() == expected.keys() == {"image", "label", "seed", "present"}
    for name, array in expected.items():
        np.testing.assert_array_equal(batch[name], array)
    of_slice = [mixed_store.patients[p] for p in mixed_store.patient_of[drawn.slices]]
    here = {n: tuple(row) for n, row in zip(of_slice, expected["present"].tolist(), strict=True)}
    assert here["U2"] == (True, True, False, False) and here["No T2"] == (True, True, False, True)
    assert len(here) == 12 and sum(all(row) for row in here.values()) == 10
    (whole,) = whole_slice_batches(mixed_store, slices[-40:], 40)
    np.testing.assert_array_equal(whole["present"], mixed_store.presence(slices[-40:])["present"])
    # Batches of stores without missing modalities stay as they were.
    whole = PatchPlan(small_store, slices[:9], patch_size=16, tumour_probability=0.5, seed=3)
    assert "present" not in cut(small_store, whole.examples(0, 1), 16)
    assert "present" not in next(whole_slice_batches(small_store, slices[:2], 2))
