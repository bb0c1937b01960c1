import numpy as np
import pytest

from brats_jax.data import crops
from brats_jax.data.normalise import normalise_crops
from brats_jax.data.sources.detect import open_source
from brats_jax.data.store import tissue_audit


@pytest.fixture(scope="module")
def case():
    source = open_source("phantom", patients=1, seed=0, shape=(32, 96, 96))
    return source.read(source.patients()[0])


def signs(images: np.ndarray, labels: np.ndarray) -> str:
    normalised = normalise_crops(images, "slice")
    normalised = normalised.widened(crops.boxes_of(labels != 0))
    sums = tissue_audit.tissue_sums(normalised, crops.cut(labels, normalised.boxes))
    assert tissue_audit.is_judged(sums)
    pooled = tissue_audit.pooled([sums, sums])
    assert tissue_audit.contradictions(pooled) == tissue_audit.contradictions(sums)
    return "; ".join(tissue_audit.contradictions(sums))


def test_a_right_case_is_not_accused(case):
    assert signs(case.images, case.labels) == ""


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ((1, 0, 2, 3), "T1 and T1Gd"),
        ((0, 2, 1, 3), "T1Gd and T2"),
        ((0, 3, 2, 1), "T1Gd and FLAIR"),
        ((2, 1, 0, 3), "T1 and T2"),
        ((0, 1, 3, 2), "T2 and FLAIR"),
        ((3, 1, 2, 0), "T1 and FLAIR"),
    ],
)
def test_exchanged_modalities_are_found(case, order, says):
    assert signs(case.images[..., list(order)], case.labels).startswith(f"{says} look exchanged; ")


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ((0, 2, 1, 3), "NCR/NET and ED"),
        ((0, 3, 2, 1), "NCR/NET and ET"),
        ((0, 1, 3, 2), "ED and ET"),
        ((0, 2, 3, 1), "NCR/NET, ED and ET"),
        ((0, 3, 1, 2), "NCR/NET, ED and ET"),
    ],
)
def test_exchanged_labels_are_found(case, order, says):
    labels = np.array(order, np.uint8)[case.labels]
    assert signs(case.images, labels).startswith(f"{says} look exchanged; ")


def test_without_et_vessels_tell_t1gd_from_t1():
    rng = np.random.default_rng(0)
    images = 300 + 20 * rng.standard_normal((8, 120, 120, 4)).astype(np.float32)
    images[:, ::10, :, 1] += 90  # thin lines in T1Gd alone
    images[:, 80:90, 80:90] += [-90, -90, 250, -90]  # CSF
    labels = np.zeros((8, 120, 120), np.uint8)
    labels[:, 50:70, 50:70] = 2
    labels[:, 55:65, 55:65] = 1
    images[labels == 2] += [0, 0, 100, 150]
    images[labels == 1] += [-20, -20, 200, 100]
    images[:, :2] = 0
    assert signs(images, labels) == ""
    exchanged = signs(images[..., [1, 0, 2, 3]], labels)
    assert exchanged.startswith("T1 and T1Gd look exchanged; vessels are brighter in T1")


def test_sums_of_version_0_1_0_are_judged_by_what_they_have(case):
    normalised = normalise_crops(case.images[..., [0, 1, 3, 2]], "slice")
    normalised = normalised.widened(crops.boxes_of(case.labels != 0))
    sums = tissue_audit.tissue_sums(normalised, crops.cut(case.labels, normalised.boxes))
    document = sums.to_json()
    for name in ("products", "differences", "inner", "fine_squares", "fine_cubes"):
        del document[name]
    document |= {name: document[name][:2] for name in ("border", "outer")}
    old = tissue_audit.TissueSums.from_json(document)
    for one in (old, tissue_audit.pooled([old, sums])):
        assert "CSF is brighter in FLAIR" in "; ".join(tissue_audit.contradictions(one))


def test_classes_of_a_few_pixels_give_no_verdict(case):
    labels = np.zeros_like(case.labels)
    labels[16, 40:44, 40:44] = np.array([1, 1, 3, 2])
    normalised = normalise_crops(case.images, "slice")
    sums = tissue_audit.tissue_sums(normalised, crops.cut(labels, normalised.boxes))
    assert not tissue_audit.is_judged(sums) and tissue_audit.contradictions(sums) == []
