"""Stores of coronal and sagittal slices, cut from the same volumes."""

import dataclasses
import json

import numpy as np
import pytest
from unlabelled_examples import made_cases, source_of

from brats_jax.data.planes import PLANES, slices_along
from brats_jax.data.splits import make_splits
from brats_jax.data.store.other_planes import in_plane
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.panels import slices_to_draw
from brats_jax.evaluation.slices import voxel_spacing_mm

PHANTOM = {"patients": 5, "seed": 0, "shape": (16, 32, 24), "workers": 1}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """By plane, a store of the same five phantoms."""
    folder = tmp_path_factory.mktemp("planes")
    for plane in PLANES:
        prepare("phantom", folder / plane, normalisation="volume", plane=plane, **PHANTOM)
    return {plane: Store.open(folder / plane) for plane in PLANES}


@pytest.mark.parametrize("plane", PLANES[1:])
def test_images_and_labels_are_those_of_the_axial_store(stores, plane):
    axial, other = stores["axial"], stores[plane]
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


def test_pictures_are_drawn_of_axial_slices_alone(stores):
    """They mark the patient's right and left."""
    drawn = {p: len(slices_to_draw(s, np.flatnonzero(s.has_tumour), 2)) for p, s in stores.items()}
    assert drawn == {"axial": 2, "coronal": 0, "sagittal": 0}


def test_patients_are_split_alike_in_every_plane(stores):
    digests = {make_splits(store, num_folds=3).digest for store in stores.values()}
    assert len(digests) == 1


def test_spacing_follows_the_plane_and_voxels_that_are_no_cubes_are_noted(stores):
    name = stores["axial"].patients[0]
    x, y, z = stores["axial"].case(name).spacing_mm
    assert len({x, y, z}) == 3
    found = {plane: voxel_spacing_mm(store, name) for plane, store in stores.items()}
    assert found == {"axial": (x, y, z), "coronal": (x, z, y), "sagittal": (y, z, x)}
    assert not stores["axial"].case(name).notes
    (note,) = stores["coronal"].case(name).notes
    assert note.startswith(f"coronal slices, {y:g} mm apart, have pixels of {x:g} x {z:g} mm")


def test_the_manifest_names_another_plane_alone(stores):
    documents = {
        plane: json.loads((store.path / "manifest.json").read_text())
        for plane, store in stores.items()
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


def test_a_store_keeps_its_plane(stores, tmp_path):
    path = stores["coronal"].path
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


def test_a_volume_that_lacks_slices_is_refused():
    case = made_cases(1)[0]
    numbers = np.delete(np.arange(len(case.images) + 1), 3)
    holes = dataclasses.replace(case, slice_numbers=numbers)
    assert in_plane(holes, "axial") is holes
    with pytest.raises(BratsError, match="slices of its volume are missing, and --plane=sagittal"):
        in_plane(holes, "sagittal")
