"""Stores of coronal and sagittal slices, cut from the same volumes."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from plane_examples import PHANTOM
from unlabelled_examples import made_cases, source_of

from brats_jax.data.planes import PLANES, slices_along
from brats_jax.data.splits import make_splits
from brats_jax.data.store.other_planes import in_plane
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.data.store.several_planes import open_planes
from brats_jax.errors import BratsError
from brats_jax.evaluation.panel_slices import slices_to_draw
from brats_jax.evaluation.slices import voxel_spacing_mm


@pytest.mark.parametrize("plane", PLANES[1:])
def test_images_and_labels_are_those_of_the_axial_store(plane_stores, plane):
    axial, other = plane_stores["axial"], plane_stores[plane]
    assert other.plane == plane and other.patients == axial.patients
    for patient in axial.patients:
        images, labels = axial.read(np.array(axial.slices_of(patient)))
        found, found_labels = other.read(np.array(other.slices_of(patient)))
        np.testing.assert_array_equal(found_labels, slices_along(labels, plane))
        # The means are sums in another order.
        np.testing.assert_allclose(found, slices_along(images, plane), rtol=2e-3, atol=2e-3)
    assert other.whole.all() and other.fingerprint != axial.fingerprint
    slices = {"coronal": 24, "sagittal": 32}[plane]
    assert len(other.slices_of(axial.patients[0])) == slices
    assert set(other.slice_number) == set(range(slices))
    tumour = slices_along(axial.read(np.array(axial.slices_of(axial.patients[0])))[1], plane) > 0
    np.testing.assert_array_equal(other.has_tumour[:slices], tumour.any(axis=(1, 2)))


def test_pictures_are_drawn_of_axial_slices_alone(plane_stores):
    """They mark the patient's right and left."""
    drawn = {
        plane: len(slices_to_draw(store, np.flatnonzero(store.has_tumour), 2))
        for plane, store in plane_stores.items()
    }
    assert drawn == {"axial": 2, "coronal": 0, "sagittal": 0}


def test_patients_are_split_alike_in_every_plane(plane_stores):
    digests = {make_splits(store, num_folds=3).digest for store in plane_stores.values()}
    assert len(digests) == 1


def test_spacing_follows_the_plane_and_voxels_that_are_no_cubes_are_noted(plane_stores):
    name = plane_stores["axial"].patients[0]
    x, y, z = plane_stores["axial"].case(name).spacing_mm
    assert len({x, y, z}) == 3
    found = {plane: voxel_spacing_mm(store, name) for plane, store in plane_stores.items()}
    assert found == {"axial": (x, y, z), "coronal": (x, z, y), "sagittal": (y, z, x)}
    assert not plane_stores["axial"].case(name).notes
    (note,) = plane_stores["coronal"].case(name).notes
    assert note.startswith(f"coronal slices, {y:g} mm apart, have pixels of {x:g} x {z:g} mm")


def test_the_manifest_names_another_plane_alone(plane_stores):
    documents = {
        plane: json.loads((store.path / "manifest.json").read_text())
        for plane, store in plane_stores.items()
    }
    assert "plane" not in documents["axial"] and "plane" not in documents["axial"]["settings"]
    assert documents["coronal"]["plane"] == documents["coronal"]["settings"]["plane"] == "coronal"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plane": "coronal"}, "--plane=coronal needs --normalisation=volume or robust"),
        ({"plane": "oblique"}, "unknown plane 'oblique'; valid: axial, coronal, sagittal"),
    ],
)
def test_what_cannot_be_cut_is_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(BratsError, match=message):
        prepare("phantom", tmp_path / "store", **options, **PHANTOM)
    assert not (tmp_path / "store").exists()


def test_a_store_keeps_its_plane(plane_stores, tmp_path):
    path = tmp_path / "coronal"
    shutil.copytree(plane_stores["coronal"].path, path)
    with pytest.raises(BratsError, match="plane was coronal, now axial"):
        prepare("phantom", path, normalisation="volume", **PHANTOM)
    case = dataclasses.replace(made_cases(1)[0], patient="new")
    images, labels = (
        array if array is None else array[:, :32, :24] for array in (case.images, case.labels)
    )
    more = source_of(dataclasses.replace(case, images=images, labels=labels))
    prepare(["phantom", more], path, add=True, **PHANTOM)
    grown = Store.open(path)
    assert grown.plane == "coronal" and len(grown.slices_of("new")) == 24
    # Beside a store that has not grown it is taken as it was.
    _, beside = open_planes(plane_stores["axial"], [path]).stores
    assert beside.fingerprint == plane_stores["coronal"].fingerprint


def test_a_volume_that_lacks_slices_is_refused():
    case = made_cases(1)[0]
    numbers = np.delete(np.arange(len(case.images) + 1), 3)
    holes = dataclasses.replace(case, slice_numbers=numbers)
    assert in_plane(holes, "axial") is holes
    with pytest.raises(BratsError, match="slices of its volume are missing, and --plane=sagittal"):
        in_plane(holes, "sagittal")
