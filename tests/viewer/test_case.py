import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from viewer_example import SHAPE, make_case

from brats_jax.data.modalities import REGIONS
from brats_jax.data.scans.resample import Grid
from brats_jax.errors import BratsError
from brats_jax.metrics.overlap import dice, region_counts
from brats_jax.viewer import CaseView, case_view
from brats_jax.viewer.case import dice_words


@pytest.fixture(scope="module")
def case() -> CaseView:
    return make_case()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": np.zeros((*SHAPE, 3))}, r"images are \[14, 40, 32, 3\]; give \[D, H, W, 4\]"),
        (
            {"truth": np.zeros((3, 3, 3), int)},
            r"truth has the shape \[3, 3, 3\], images \[14",
        ),
        ({"labels": np.full(SHAPE, 4)}, "labels has other values than 0 to 3"),
        ({"uncertainty": np.full(SHAPE, 1.5)}, "not within 0 and 1"),
        ({"uncertainty": np.full(SHAPE, np.nan)}, "not within 0 and 1"),
        ({"images": np.full((*SHAPE, 4), np.nan)}, "not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_line(case, change, message):
    with pytest.raises(BratsError, match=message) as error:
        dataclasses.replace(case, **change)
    assert str(error.value).startswith("Case_1: ") and "\n" not in str(error.value)


def test_the_dice_of_regions_is_that_of_their_counts():
    labels, truth = np.array([[[1, 1, 2, 3, 0, 0]]]), np.array([[[1, 2, 2, 0, 2, 0]]])
    # WT: 3 of 4 and 4 voxels; TC: 1 of 3 and 1; ET: 0 of 1 and 0.
    assert (
        dice_words(labels, truth)
        == "3D Dice against the truth: WT 0.750, TC 0.500, ET 0.000 (none in the truth)"
    )
    no_et = np.where(labels == 3, 0, labels)
    assert dice_words(no_et, truth).endswith("TC 0.667, no ET in either")
    assert dice_words(truth, labels).endswith("ET 0.000 (none predicted)")
    rng = np.random.default_rng(0)
    labels, truth = rng.integers(0, 4, (2, 5, 6, 7), np.uint8)
    expected = dice(region_counts(labels[None], truth[None], [*REGIONS.values()]))[0]
    numbers = zip(REGIONS, np.asarray(expected), strict=True)
    assert dice_words(labels, truth).endswith(", ".join(f"{n} {d:.3f}" for n, d in numbers))


def test_volumes_are_in_millilitres(case):
    # 250, 1000 and 250 voxels of 2 mm3.
    expected = {"WT": 3.0, "TC": 1.0, "ET": 0.5, "NCR/NET": 0.5, "ED": 2.0}
    assert list(case.volumes_ml(case.labels).items()) == list(expected.items())  # and this order


def test_the_region_of_interest_is_the_tumour_or_else_the_brain(case):
    assert (case.region_of_interest() == (case.labels != 0) | (case.truth != 0)).all()
    healthy = CaseView("Case_2", case.images, np.zeros(SHAPE, np.uint8))
    assert (healthy.region_of_interest() == case.brain).all()


def test_labels_are_drawn_over_t1gd_if_it_is_present(case):
    assert case.under == "t1gd"
    images = case.images.copy()
    images[..., 1] = 0
    lacking = dataclasses.replace(case, images=images)
    assert lacking.present == ("t1", "t2", "flair") and lacking.under == "t1"


def test_the_view_of_a_prediction_needs_no_network(case):
    affine = np.diag([-2.0, -1.0, 3.0, 1.0])
    scan = SimpleNamespace(name="Case_9", images=case.images, grid=Grid(affine, (40, 32, 14)))
    entropy = np.full(SHAPE, np.log(2), np.float32)
    volumes = {
        "WT": SimpleNamespace(low_ml=1.0, high_ml=2.5),
        "ET": SimpleNamespace(low_ml=None, high_ml=None),
    }
    found = SimpleNamespace(scan=scan, labels=case.labels, entropy=entropy, volumes=volumes)
    model = SimpleNamespace(
        facts=lambda scan: {"model": f"of {scan.name}"}, describe_case=lambda scan: {"case": 1}
    )
    view = case_view(model, found, case.truth)
    assert (view.name, view.spacing_mm) == ("Case_9", (2.0, 1.0, 3.0))
    assert (view.facts, view.record) == ({"model": "of Case_9"}, {"case": 1})
    np.testing.assert_allclose(view.uncertainty, 0.5, rtol=1e-6)
    assert view.uncertainty_is.startswith("entropy of the class probabilities divided by ln 4")
    assert not case.uncertainty_is.startswith("entropy")  # an array of another program
    assert view.truth is case.truth and view.labels is case.labels
    assert case_view(model, found, record={"case": 2}).record == {"case": 2}
    assert view.notes == () and view.ranges_ml == {"WT": (1.0, 2.5)}
    assert case_view(model, found, record={"notes": ["a", "b"]}).notes == ("a", "b")
