"""Stores of the same patients in several planes, read as one."""

import pickle
import shutil

import jax
import numpy as np
import pytest
from plane_examples import PHANTOM

from brats_jax.data import device_store, patches
from brats_jax.data.patches import PatchPlan
from brats_jax.data.planes import PLANES
from brats_jax.data.slice_facts import SliceFacts
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.several_planes import SeveralPlanes, open_planes
from brats_jax.errors import BratsError
from brats_jax.runtime.devices import data_mesh

SIZES = {"axial": (32, 24), "coronal": (32, 16), "sagittal": (24, 16)}  # of the phantoms


@pytest.fixture(scope="module")
def planes(plane_stores) -> SeveralPlanes:
    return open_planes(plane_stores["axial"], [plane_stores[p].path for p in PLANES[1:]])


def test_slices_of_every_store_are_read_with_the_largest_size(planes, plane_stores):
    assert planes.slice_shape == (32, 24) and planes.num_slices == 5 * (16 + 24 + 32)
    begin = 0
    for plane, (height, width) in SIZES.items():
        store = plane_stores[plane]
        own = np.arange(store.num_slices)
        images, labels = planes.read(begin + own)
        expected, true = store.read(own)
        assert expected.shape[1:3] == (height, width)
        np.testing.assert_array_equal(images[:, :height, :width], expected)
        np.testing.assert_array_equal(labels[:, :height, :width], true)
        outside = np.broadcast_to(store.background[:, None, None], images.shape)
        np.testing.assert_array_equal(images[:, height:], outside[:, height:])
        np.testing.assert_array_equal(images[:, :, width:], outside[:, :, width:])
        assert not labels[:, height:].any() and not labels[:, :, width:].any()
        np.testing.assert_array_equal(
            planes.neighbours(begin + own, 2), begin + store.neighbours(own, 2)
        )
        begin += store.num_slices


def test_pixels_of_the_tumour_and_of_a_class_are_found_in_the_slices_as_read(planes):
    chosen = np.flatnonzero(planes.has_tumour)
    for index in chosen[:: len(chosen) // 12].tolist():
        labels = planes.read([index])[1][0].reshape(-1)
        numbers = np.arange(*planes.tumour_offsets[index : index + 2])
        np.testing.assert_array_equal(planes.tumour_positions(numbers), np.flatnonzero(labels))
        for number in (1, 2, 3):
            found = planes.pixels_of_class(index, number)
            np.testing.assert_array_equal(found, np.flatnonzero(labels == number))
    assert {planes.patients[p] for p in planes.patient_of[chosen]} > {*planes.patients[5:]}


def test_a_set_of_patients_keeps_its_slices_and_gets_those_of_other_planes(planes):
    """Of the same persons alone, so that nobody comes into two sets."""
    store = planes.stores[0]
    some = np.flatnonzero(np.isin(store.patient_of, (1, 3)) & store.has_tumour)
    found = planes.in_all_planes(some)
    np.testing.assert_array_equal(found[: len(some)], some)
    others = found[len(some) :]
    assert len(others) == 2 * (24 + 32) and others.min() >= store.num_slices
    persons = {planes.subjects[p] for p in planes.patient_of[found]}
    assert persons == {store.subjects[1], store.subjects[3]}


def test_slices_of_one_store_are_drawn_as_from_the_store_itself(planes, plane_stores):
    """Other stores change neither numbers nor patches of the first one."""
    store, slices = plane_stores["axial"], np.arange(10, 70)
    options = {"patch_size": 16, "tumour_probability": 0.7, "seed": 3}
    for sampling in patches.SAMPLINGS:
        ours, theirs = (
            patches.cut(
                one, PatchPlan(one, slices, sampling=sampling, **options).examples(5, 9), 16
            )
            for one in (planes, store)
        )
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_patches_lie_within_the_slice_itself_or_at_its_edge_where_it_is_smaller(planes):
    """Patches of 20 x 20 in slices of 32 x 24, 32 x 16 and 24 x 16: each place as often."""
    chosen = np.arange(planes.num_slices)
    plan = PatchPlan(planes, chosen, patch_size=20, tumour_probability=0.0, seed=0)
    drawn = plan.examples(0, 4 * planes.num_slices)
    sizes = planes.shapes(drawn.slices)
    assert {tuple(size) for size in sizes.tolist()} == {*SIZES.values()}
    for size in SIZES.values():
        here = (sizes == size).all(axis=1)
        for begins, extent in ((drawn.rows[here], size[0]), (drawn.columns[here], size[1])):
            counts = np.bincount(begins, minlength=20)
            places = max(extent - 20, 0) + 1
            assert counts[places:].sum() == 0
            assert counts[:places].min() > 0.5 * here.sum() / places


@pytest.mark.parametrize("sampling", patches.SAMPLINGS)
def test_tumour_patches_of_every_plane_hold_tumour_and_are_cut_alike_on_the_device(
    planes, sampling
):
    chosen = np.flatnonzero(planes.has_tumour)
    facts = SliceFacts(planes, context=1)
    options = {"patch_size": 16, "tumour_probability": 1.0, "seed": 0}
    plan = PatchPlan(planes, chosen, sampling=sampling, facts=facts, **options)
    plan, read = pickle.loads(pickle.dumps((plan, planes)))  # as a loader process gets them
    drawn = plan.examples(0, 64)
    begins = np.cumsum([one.num_slices for one in planes.stores])
    assert {*np.searchsorted(begins, drawn.slices, side="right").tolist()} == {0, 1, 2}
    cut = patches.cut(read, drawn, 16)
    assert (cut["label"] > 0).any(axis=(1, 2)).all()
    mesh = data_mesh()
    resident = device_store.DeviceStore(planes, facts.with_neighbours(chosen), mesh)
    gathered = jax.jit(lambda arrays, places: device_store.gather(arrays, places, 16, mesh))(
        resident.arrays, resident.positions(drawn)
    )
    for name, values in cut.items():
        np.testing.assert_array_equal(np.asarray(gathered[name]), values, err_msg=name)


def test_a_damaged_file_of_another_plane_is_found(plane_stores, tmp_path):
    path = tmp_path / "coronal"
    shutil.copytree(plane_stores["coronal"].path, path)
    planes = open_planes(plane_stores["axial"], [path])
    damaged = path / "cases" / f"{planes.stores[1].patients[2]}.images.npy"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    planes.check(np.arange(planes.stores[0].num_slices))
    with pytest.raises(BratsError, match="has changed since it was written"):
        planes.check(np.arange(planes.num_slices))


def test_stores_that_do_not_belong_together_are_refused(plane_stores, tmp_path):
    axial, coronal = plane_stores["axial"], plane_stores["coronal"]
    with pytest.raises(BratsError, match=r"has axial slices, as another of the\s+stores"):
        open_planes(axial, [axial.path])
    with pytest.raises(BratsError, match="has coronal slices"):
        open_planes(axial, [coronal.path, coronal.path])
    with pytest.raises(BratsError, match="there is no store at"):
        open_planes(axial, [tmp_path / "none"])
    for name, changes, message in (
        ("robust", {"normalisation": "robust"}, "is normalised by robust"),
        ("fewer", {"patients": 4}, r"has other patients than .* \(Phantom_005\)"),
        ("seed", {"seed": 1}, "has other labels or modalities of Phantom_001"),
    ):
        same = {**PHANTOM, "normalisation": "volume", "plane": "coronal"}
        prepare("phantom", tmp_path / name, **{**same, **changes})
        with pytest.raises(BratsError, match=message):
            open_planes(axial, [tmp_path / name])
