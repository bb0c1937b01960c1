import numpy as np
import pytest

from brats_jax.data.store.channel_audit import (
    ChannelAudit,
    ClassSum,
    ContrastSums,
    complaint,
    contrast_sums,
    describe,
    fitting_order,
    judge,
)


def case(et, ncr, slices=2):
    """Slices with two ET pixels of value `et` and one NCR pixel of value `ncr`, per channel."""
    images = np.zeros((slices + 1, 3, 3, 4), dtype=np.float16)
    labels = np.zeros((slices + 1, 3, 3), dtype=np.uint8)
    labels[:-1, 0, :2], labels[:-1, 1, 0] = 3, 1
    images[:-1, 0, :2], images[:-1, 1, 0] = et, ncr
    # A slice with ET alone does not count: it has no NCR to compare with.
    labels[-1, 2], images[-1] = 3, 100
    return images, labels


def test_a_contrast_computed_by_hand():
    sums = contrast_sums(*case([1, 3, -1, 0], [1, 0.5, 2, 0]))
    assert sums == ContrastSums(2, ClassSum(4, (4, 12, -4, 0)), ClassSum(2, (2, 1, 4, 0)))
    audit = judge([sums])
    assert audit.to_json() == {
        "verdict": "confirmed",
        "slices": 2,
        "patients": 1,
        "contrast": {"t1": 0, "t1gd": 2.5, "t2": -3, "flair": 0},
        "looks_like_t1gd": "t1gd",
        "ignored": False,
    }
    assert "T1Gd +2.50" in describe(audit)


def test_patients_are_pooled_by_pixel():
    one = contrast_sums(*case([0, 1, 0, 0], [0, 0, 0, 0], slices=1))
    three = contrast_sums(*case([0, 5, 0, 0], [0, 0, 0, 0], slices=3))
    none = contrast_sums(np.zeros((1, 2, 2, 4)), np.zeros((1, 2, 2), dtype=np.uint8))
    audit = judge([one, none, three])
    assert audit.contrast["t1gd"] == 4 and audit.patients == 2 and audit.slices == 4


def test_an_audit_needs_both_classes():
    images, labels = case([1, 1, 1, 1], [0, 0, 0, 0])
    labels[labels == 1] = 2
    audit = judge([contrast_sums(images, labels)])
    assert audit.verdict == "not possible" and "not possible" in describe(audit)
    assert judge([]).to_json() == {
        "verdict": "not possible",
        "slices": 0,
        "patients": 0,
        "ignored": False,
    }


@pytest.mark.parametrize("et, found", [([0, 1, 2, 0], "t2"), ([-1, -1, -2, -3], None)])
def test_a_brighter_channel_contradicts_the_order(et, found):
    audit = judge([contrast_sums(*case(et, [0, 0, 0, 0]))])
    assert audit.verdict == "contradicted" and audit.looks_like_t1gd == found
    assert "--ignore_audit" in complaint(audit, None)
    assert ChannelAudit.from_json(audit.to_json()) == audit


@pytest.mark.parametrize(
    "order, found, fits",
    [
        # Read as the loaders assume, the true files show T1Gd in the third channel.
        ("t1,t1gd,t2,flair", "t2", "flair,t1,t1gd,t2"),
        ("flair,t1,t1gd,t2", "t1", "t1,t1gd,t2,flair"),
    ],
)
def test_the_suggested_order_fits(order, found, fits):
    assert ",".join(fitting_order(order.split(","), found)) == fits
    audit = ChannelAudit(
        verdict="contradicted", slices=1, patients=1, contrast={"t1": 0.0}, looks_like_t1gd=found
    )
    assert f"--channel_order={fits} would fit" in complaint(audit, order.split(","))


@pytest.mark.parametrize("found", ["flair", "t2"])
def test_no_order_is_suggested_that_no_release_has(found):
    audit = ChannelAudit(
        verdict="contradicted",
        slices=1,
        patients=1,
        contrast={"t1": 0.0, "t1gd": -0.1, "t2": 0.0, "flair": 0.0, found: 0.3},
        looks_like_t1gd=found,
    )
    line = complaint(audit, ("flair", "t1", "t1gd", "t2"))
    assert "would fit" not in line and f"read as {found} looks like T1Gd, or the labels" in line


def test_exchanged_labels_are_named_instead_of_an_order():
    audit = judge([contrast_sums(*case([-0.2, -0.8, 0.4, 0.1], [0, 0, 0, 0]))])
    assert audit.looks_like_t1gd == "t2"
    line = complaint(audit, ("flair", "t1", "t1gd", "t2"))
    assert "ET and NCR look exchanged" in line and "--channel_order" not in line
