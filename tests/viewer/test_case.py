import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from viewer_example import SHAPE, make_case

from brats_jax.data.scans.resample import Grid
from brats_jax.errors import BratsError
from brats_jax.viewer import CaseView, case_view


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


def test_volumes_are_in_millilitres(case):
    # 250, 1000 and 250 voxels of 2 mm3.
    assert case.volumes_ml(case.labels) == {"NCR/NET": 0.5, "ED": 2.0, "ET": 0.5, "WT": 3.0}


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
    found = SimpleNamespace(scan=scan, labels=case.labels, entropy=entropy)
    model = SimpleNamespace(
        facts=lambda scan: {"model": f"of {scan.name}"}, describe_case=lambda scan: {"case": 1}
    )
    view = case_view(model, found, case.truth)
    assert (view.name, view.spacing_mm) == ("Case_9", (2.0, 1.0, 3.0))
    assert (view.facts, view.record) == ({"model": "of Case_9"}, {"case": 1})
    np.testing.assert_allclose(view.uncertainty, 0.5, rtol=1e-6)
    assert view.truth is case.truth and view.labels is case.labels
    assert case_view(model, found, record={"case": 2}).record == {"case": 2}
