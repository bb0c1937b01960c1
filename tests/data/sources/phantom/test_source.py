"""The phantom is deterministic, labelled like BraTS, and looks like it to a statistician."""

import os
import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.sources.base import Case
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.data.sources.phantom.source import PhantomSource, lay_out
from brats_jax.errors import BratsError
from brats_jax.evaluation.yardsticks import terms

SHAPE = (52, 80, 80)  # voxels of 3 mm
T1, T1GD, T2, FLAIR = (MODALITIES.index(m) for m in ("t1", "t1gd", "t2", "flair"))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    source = PhantomSource(8, seed=3, shape=SHAPE)
    return [source.read(patient) for patient in source.patients()]


def test_a_case_has_the_documented_form(cases):
    case = cases[0]
    assert case.patient == "Phantom_001"
    assert case.images.shape == (*SHAPE, 4) and case.images.dtype == np.float32
    assert case.labels.shape == SHAPE and case.labels.dtype == np.uint8
    assert case.slice_numbers.tolist() == list(range(SHAPE[0]))
    assert case.spacing_mm == pytest.approx((3.0, 3.0, 155 / 52))
    # LPS voxels in RAS millimetres: x and y count down.
    assert np.diag(case.affine) == pytest.approx((-3.0, -3.0, 155 / 52, 1.0))


def test_a_patient_depends_on_seed_and_position_alone(cases):
    again = pickle.loads(pickle.dumps(PhantomSource(5, seed=3, shape=SHAPE)))
    third = again.read("Phantom_003")  # not read after its predecessors, in a smaller set
    assert np.array_equal(third.images, cases[2].images)
    assert np.array_equal(third.labels, cases[2].labels)
    other = PhantomSource(5, seed=4, shape=SHAPE).read("Phantom_003")
    assert not np.array_equal(other.labels, third.labels)
    assert not np.array_equal(cases[0].labels, cases[1].labels)


def test_a_smaller_shape_is_the_same_patient(cases):
    finer = PhantomSource(8, seed=3, shape=(104, 160, 160)).read("Phantom_006")
    coarser = cases[5]
    for value, tolerance in ((0, 0.02), (1, 0.15), (2, 0.1), (3, 0.15)):
        ml = [(c.labels == value).sum() * np.prod(c.spacing_mm) / 1000 for c in (finer, coarser)]
        assert ml[1] == pytest.approx(ml[0], rel=tolerance)
    medians = [[np.median(c.images[c.labels > 0, m]) for m in range(4)] for c in (finer, coarser)]
    assert medians[1] == pytest.approx(medians[0], rel=0.05)  # the same scanner
    spread = [
        np.argwhere(c.labels > 0).mean(0) * np.array(c.spacing_mm)[[2, 0, 1]]
        for c in (finer, coarser)
    ]
    assert np.linalg.norm(spread[0] - spread[1]) < 4  # mm


def test_background_is_zero_and_the_brain_is_whole_numbers(cases):
    for case in cases:
        brain = (case.images != 0).all(-1)
        assert np.array_equal(brain, (case.images != 0).any(-1))
        assert not case.labels[~brain].any()
        assert np.array_equal(case.images, np.round(case.images))
        assert case.images[brain].min() > 0 and case.images.max() <= 32767


def test_one_patient_in_eight_has_no_enhancing_tumour(cases):
    present = [set(np.unique(case.labels)) for case in cases]
    assert all(labels >= {0, 1, 2} and labels <= {0, 1, 2, 3} for labels in present)
    without = [case for case, labels in zip(cases, present, strict=True) if 3 not in labels]
    assert len(without) == 1 and without[0].notes == ("no ET",)


def z_scores(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """float[voxels, 4] intensities over the brain, and the labels of the same voxels."""
    brain = (case.images != 0).any(-1)
    voxels = case.images[brain]
    return (voxels - voxels.mean(0)) / voxels.std(0), case.labels[brain]


def test_tissues_contrast_as_in_mri(cases):
    means = {}
    for index, case in enumerate(cases):
        layout = lay_out(SHAPE, 3, index)
        box = case.images[layout.voxels.grid.box]
        z = np.stack(
            [layout.voxels.gather(np.ascontiguousarray(v)) for v in np.moveaxis(box, -1, 0)]
        )
        z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
        normal = sum(layout.tumour.values()) < 0.05
        for name in ("csf", "ventricle", "grey", "white"):
            inside = (layout.tissue[name] > 0.9) & normal
            assert inside.sum() > 50
            means.setdefault(name, []).append(z[:, inside].mean(1))
        assert layout.label.dtype == np.uint8
    csf, fluid, grey, white = (
        np.array(means[name]) for name in ("csf", "ventricle", "grey", "white")
    )
    for modality in (T1, T1GD):
        assert np.all(csf[:, modality] < np.minimum(grey, white)[:, modality] - 1)
        assert np.mean(np.abs(csf - fluid)[:, modality]) < 0.6
    # FLAIR suppresses the fluid of the ventricles more than that between the folds.
    assert np.all(fluid[:, FLAIR] < np.minimum(grey, white)[:, FLAIR] - 1)
    assert np.all(fluid[:, FLAIR] < csf[:, FLAIR] - 1)
    assert np.all(csf[:, T2] > np.maximum(grey, white)[:, T2] + 1)
    assert np.all(white[:, (T1, T1GD)] > grey[:, (T1, T1GD)] + 0.2)
    assert np.all(white[:, T2] < grey[:, T2] - 0.2)
    assert np.all(white[:, FLAIR] < grey[:, FLAIR] + 0.15)
    assert white[:, FLAIR].mean() < grey[:, FLAIR].mean() - 0.2


def test_tumour_contrasts_as_in_mri(cases):
    uptake = []
    for case in cases:
        z, label = z_scores(case)
        normal, necrosis, oedema = (z[label == value].mean(0) for value in (0, 1, 2))
        assert oedema[FLAIR] > normal[FLAIR] + 0.7
        assert oedema[T2] > normal[T2]
        assert necrosis[T2] > normal[T2] + 0.5
        if (label == 3).any():
            enhancing = z[label == 3].mean(0)
            assert enhancing[T1GD] > max(normal[T1GD], necrosis[T1GD], oedema[T1GD]) + 0.6
            uptake.append(enhancing[T1GD] - enhancing[T1])
    assert min(uptake) > 0 and np.mean(uptake) > 0.8  # the agent is bright, not the tissue


def test_the_channel_audit_confirms_t1gd(cases):
    contrasts = []
    for case in cases:
        z, label = z_scores(case)
        if (label == 3).any():
            contrasts.append(z[label == 3].mean(0) - z[label == 1].mean(0))
    assert np.argmax(np.mean(contrasts, 0)) == T1GD
    assert sum(np.argmax(c) == T1GD for c in contrasts) >= len(contrasts) - 1


def test_classes_overlap_so_that_no_threshold_segments_them(cases):
    """For the best single threshold of the best modality, Dice stays far from 1."""
    best = []
    for case in cases:
        z, label = z_scores(case)
        tumour = label > 0
        scores = []
        for modality in (T2, FLAIR):
            for threshold in np.linspace(0, 3, 31):
                above = z[:, modality] > threshold
                scores.append(2 * (above & tumour).sum() / (above.sum() + tumour.sum()))
        best.append(max(scores))
    assert 0.3 < np.mean(best) < 0.8


def test_voxels_tell_little_about_the_flair_of_other_patients(cases):
    """In real cases the nine numbers of the yardstick explain 15 % of the brain's variance."""
    ratios = []
    scored = [z_scores(case)[0].astype(np.float64) for case in cases]
    for left_out, unseen in enumerate(scored):
        others = np.concatenate([z for k, z in enumerate(scored) if k != left_out])
        features = [
            np.stack(terms(z[:, [T1, T1GD]], ("t1", "t1gd")), axis=1) for z in (others, unseen)
        ]
        fit = np.linalg.lstsq(features[0], others[:, FLAIR], rcond=None)[0]
        ratios.append(np.mean((unseen[:, FLAIR] - features[1] @ fit) ** 2))
    assert 0.8 < np.mean(ratios) < 0.97


def test_tumours_are_as_large_as_in_patients(cases):
    share = [(case.labels > 0).any((1, 2)).mean() for case in cases]
    assert 0.3 < np.mean(share) < 0.55 and max(share) > 1.3 * min(share)
    for case in cases:
        ml = np.prod(case.spacing_mm) / 1000
        assert 1100 < (case.images != 0).any(-1).sum() * ml < 1900
        assert 3 < (case.labels > 0).sum() * ml < 400


@pytest.mark.real
@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="BRATS_REAL_DATA is not set")
def test_class_means_are_those_of_real_cases(cases):
    """Every class in every modality within one standard deviation of the brain."""

    def class_means(read: Iterable[Case]) -> np.ndarray:
        means = []
        for case in read:
            z, label = z_scores(case)
            rows = [z[label == value] for value in range(4)]
            means.append([r.mean(0) if len(r) > 100 else np.full(4, np.nan) for r in rows])
        return np.nanmean(means, axis=0)

    folder = Path(os.environ["BRATS_REAL_DATA"])
    source = NiftiSource(folder, sorted(folder.rglob("*.nii*")))
    real = class_means(source.read(patient) for patient in source.patients())
    assert np.abs(class_means(cases) - real).max() < 1.0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"patients": 0}, "at least 1"),
        ({"patients": 1, "seed": -1}, "negative"),
        ({"patients": 1, "shape": (8, 64, 64)}, "three sizes"),
    ],
)
def test_impossible_phantoms_are_refused(arguments, message):
    with pytest.raises(BratsError, match=message):
        PhantomSource(**arguments)


def test_an_unknown_patient_is_refused_with_the_known_ones():
    with pytest.raises(BratsError, match="Phantom_001 to Phantom_002"):
        PhantomSource(2).read("Phantom_003")
