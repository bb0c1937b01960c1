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
        ((1, 0, 2, 3), "ET over NCR/NET is larger in T1 "),
        ((0, 2, 1, 3), "ET over NCR/NET is larger in T2 "),
        ((0, 3, 2, 1), "ET over NCR/NET is larger in FLAIR "),
        ((2, 1, 0, 3), "CSF is brighter in T1 than in T2"),
        ((0, 1, 3, 2), "CSF is brighter in FLAIR than in T2"),
        ((3, 1, 2, 0), "ED is brighter in T1"),
    ],
)
def test_exchanged_modalities_are_found(case, order, says):
    assert says in signs(case.images[..., list(order)], case.labels)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ((0, 2, 1, 3), "NCR/NET and ED look exchanged"),
        ((0, 3, 2, 1), "ET and NCR/NET look exchanged"),
        ((0, 1, 3, 2), "ET and ED look exchanged"),
        ((0, 2, 3, 1), "exchanged"),
        ((0, 3, 1, 2), "exchanged"),
    ],
)
def test_exchanged_labels_are_found(case, order, says):
    assert says in signs(case.images, np.array(order, np.uint8)[case.labels])


def test_classes_of_a_few_pixels_give_no_verdict(case):
    labels = np.zeros_like(case.labels)
    labels[16, 40:44, 40:44] = np.array([1, 1, 3, 2])
    normalised = normalise_crops(case.images, "slice")
    sums = tissue_audit.tissue_sums(normalised, crops.cut(labels, normalised.boxes))
    assert not tissue_audit.is_judged(sums) and tissue_audit.contradictions(sums) == []
