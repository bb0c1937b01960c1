"""Every convention on label maps that can be scored with a pencil, and on real cases."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from tally_examples import tally_of, two_patients

from brats_jax.evaluation import conventions
from brats_jax.evaluation.conventions import Scores, volume_counts
from brats_jax.evaluation.tallies import SCORED, SegmentationTally


def by_key(tally: SegmentationTally) -> dict[tuple[str, ...], Scores]:
    scores = conventions.scores_of(tally)
    table = {score.key: score for score in scores}
    assert len(table) == len(scores), "two scores under one name"
    return table


@pytest.fixture(scope="module")
def scores() -> dict[tuple[str, ...], Scores]:
    prediction, truth, sizes = two_patients()
    return by_key(tally_of(prediction, truth, sizes))


@pytest.mark.parametrize(
    ("over", "of", "convention", "mean", "count"),
    [
        # ED is in slices 1 and 2: Dice 1, and 2*12/(16+12) where NCR was taken for ED.
        ("all slices", "ED", "present_only", (1 + 24 / 28) / 2, 2),
        ("all slices", "ED", "paper", (1 + 24 / 28) / 5, 5),
        ("all slices", "ED", "both_empty_1", (1 + 24 / 28 + 3) / 5, 5),
        ("tumour slices", "ED", "paper", (1 + 24 / 28) / 2, 2),
        # NCR: one slice holds it, and it was missed.
        ("all slices", "NCR/NET", "present_only", 0.0, 1),
        ("all slices", "NCR/NET", "both_empty_1", 4 / 5, 5),
        ("tumour slices", "NCR/NET", "both_empty_1", 1 / 2, 2),
        # ET: invented in a slice without tumour, which tumour slices do not see.
        ("all slices", "ET", "present_only", 0.0, 1),
        ("tumour slices", "ET", "present_only", math.nan, 0),
        ("tumour slices", "ET", "both_empty_1", 1.0, 2),
        ("all slices", "WT", "present_only", 2 / 3, 3),
        ("all slices", "TC", "paper", 0.0, 5),
    ],
)
def test_dice_of_slices(scores, over, of, convention, mean, count) -> None:
    score = scores["slice", over, of, "dice", convention]
    assert score.count() == count
    assert score.mean() == pytest.approx(mean, nan_ok=True)


def test_the_ceiling_of_the_papers_convention_is_the_share_of_slices_with_the_class(scores) -> None:
    assert scores["slice", "all slices", "ED", "in_truth", ""].mean() == pytest.approx(2 / 5)
    perfect = two_patients()[1]
    best = by_key(tally_of(perfect, perfect, (3, 2)))
    for of in ("NCR/NET", "ED", "ET", "WT", "TC"):
        ceiling = best["slice", "all slices", of, "in_truth", ""].mean()
        assert best["slice", "all slices", of, "dice", "paper"].mean() == pytest.approx(ceiling)


@pytest.mark.parametrize(
    ("of", "metric", "convention", "values"),
    [
        # In space the slices are added up: A has ED 28 of 28 found, and 4 too many.
        ("ED", "dice", "present_only", [2 * 28 / (32 + 28), math.nan]),
        ("ED", "dice", "brats2020", [2 * 28 / (32 + 28), 1.0]),
        ("ET", "dice", "brats2020", [1.0, 0.0]),
        ("ET", "hd95_mm", "brats2020", [0.0, math.sqrt(240**2 + 240**2 + 155**2)]),
        ("ET", "hd95_mm", "brats2023", [0.0, 374.0]),
        ("ET", "hd95_mm", "present_only", [math.nan, math.nan]),
        ("WT", "hd95_mm", "present_only", [0.0, math.nan]),
        ("WT", "asd_mm", "both_present", [0.0, math.nan]),
        ("WT", "nsd", "present_only", [1.0, 0.0]),
        ("NCR/NET", "sensitivity", "present_only", [0.0, math.nan]),
        # A: 4 of 4 missed; of WT, 32 of 32 found; ET in neither mask. B: ET only in the prediction.
        ("NCR/NET", "sensitivity", "brats2023", [0.0, 1.0]),
        ("WT", "sensitivity", "brats2023", [1.0, 0.0]),
        ("ET", "sensitivity", "brats2023", [1.0, 0.0]),
        ("ET", "specificity", "", [1.0, 127 / 128]),
    ],
)
def test_volumes(scores, of, metric, convention, values) -> None:
    score = scores["patient", "volumes", of, metric, convention]
    np.testing.assert_allclose(score.values, values, rtol=1e-6)
    assert score.patient.tolist() == [0, 1]


def test_slices_of_one_patient_are_averaged_before_patients_are(scores) -> None:
    score = scores["slice", "all slices", "ED", "dice", "present_only"]
    assert score.by_patient() == {0: pytest.approx((1 + 24 / 28) / 2)}


def test_a_patient_with_slices_missing_has_no_volume() -> None:
    prediction, truth, sizes = two_patients()
    found = by_key(tally_of(prediction, truth, sizes, whole=[True, False]))
    assert found["patient", "volumes", "ED", "dice", "present_only"].patient.tolist() == [0]
    none = by_key(tally_of(prediction, truth, sizes, whole=[False, False]))
    assert {key[0] for key in none} == {"slice"}
    # The slices themselves are scored all the same.
    key = ("slice", "all slices", "ED", "dice", "paper")
    assert none[key].values.tolist() == found[key].values.tolist()


def test_spacing_reaches_the_distances() -> None:
    truth = np.zeros((3, 8, 8), np.uint8)
    truth[1, 2:6, 2:6] = 2
    prediction = np.roll(truth, 1, axis=0)  # one slice off
    found = by_key(tally_of(prediction, truth, (3,), spacing_mm=(1.0, 1.0, 2.5)))
    assert found["patient", "volumes", "ED", "hd95_mm", "brats2020"].values.tolist() == [2.5]
    # The plate's far face, half of its area, is as far from the other's.
    assert found["patient", "volumes", "ED", "hd95_mm", "brats2023"].values.tolist() == [2.5]


def test_brats_2023_measures_surfaces_by_area() -> None:
    truth = np.zeros((14, 14, 14), np.uint8)
    truth[2:12, 2:12, 2:12] = 2
    prediction = truth.copy()
    prediction[:2, 6:8, 6:8] = 2  # a rod of 2 x 2 on the middle of a face, 2 high
    tally = tally_of(prediction, truth, (14,))
    key = ("patient", "volumes", "ED")
    found = by_key(tally)
    # By area the rod is 4 + 16 of about 616 mm^2; 95 % of the area lies nearer than its foot.
    assert found[*key, "hd95_mm", "brats2023"].values.tolist() == [0.0]
    nsd = found[*key, "nsd_area", "present_only"].values[0]
    assert 0.97 < nsd < 1 and nsd != found[*key, "nsd", "present_only"].values[0]
    alone = by_key(tally_of(prediction, np.where(truth == 2, 3, 0), (14,)))
    assert alone[*key, "hd95_mm", "brats2023"].values.tolist() == [374.0]
    assert alone[*key, "nsd_area", "present_only"].values.tolist() == [0.0]
    absent = alone["patient", "volumes", "NCR/NET", "nsd_area", "present_only"].values
    assert np.isnan(absent).all()
    assert ("patient", "volumes", "background", "hd95_mm", "brats2023") not in found


def real_labels() -> Iterator[np.ndarray]:
    """uint8[H, W, D] of the real cases: one with ET, and those without."""
    with_et = 0
    for path in sorted(Path(os.environ["BRATS_REAL_DATA"]).rglob("*_seg.nii.gz")):
        truth = np.asarray(nib.load(path).dataobj).astype(np.uint8)
        truth[truth == 4] = 3
        if (truth == 3).any():
            with_et += 1
            if with_et > 1:
                continue
        yield truth


@pytest.mark.real
@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="BRATS_REAL_DATA is not set")
def test_real_cases_agree_with_scipy() -> None:
    """Dice, ASD and HD95 in space of shifted truths, against transforms of volumes."""
    without_et = 0
    for truth in real_labels():
        without_et += not (truth == 3).any()
        prediction = np.roll(truth, (2, -1, 1), axis=(0, 1, 2))
        stacked = [np.ascontiguousarray(np.moveaxis(v, -1, 0)) for v in (prediction, truth)]
        found = by_key(tally_of(*stacked, (truth.shape[-1],)))
        for name in ("WT", "TC", "ET"):
            p, t = (np.isin(v, SCORED[name]) for v in (prediction, truth))
            dice, hd95, asd = _reference(p, t)
            key = ("patient", "volumes", name)
            assert found[*key, "dice", "brats2020"].values[0] == pytest.approx(dice, abs=1e-6)
            assert found[*key, "hd95_mm", "brats2020"].values[0] == pytest.approx(hd95, abs=1e-3)
            asd_mm = found[*key, "asd_mm", "both_present"].values[0]
            assert asd_mm == pytest.approx(asd, abs=1e-3, nan_ok=True)
    assert without_et


def _reference(p: np.ndarray, t: np.ndarray) -> tuple[float, float, float]:
    if not p.any() and not t.any():
        return 1.0, 0.0, math.nan
    if not p.any() or not t.any():
        return 0.0, math.sqrt(240**2 + 240**2 + 155**2), math.nan
    # The distances are between voxels of the two: nothing beyond the box around them counts.
    box = ndimage.find_objects((p | t).astype(np.int8))[0]
    p, t = (np.pad(m[box], 1) for m in (p, t))
    edges = [m & ~ndimage.binary_erosion(m) for m in (p, t)]
    far = [ndimage.distance_transform_edt(~e) for e in edges]
    both = np.concatenate([far[1][edges[0]], far[0][edges[1]]])
    dice = 2 * (p & t).sum() / (p.sum() + t.sum())
    return float(dice), float(np.percentile(both, 95)), float(both.mean())


def test_volume_counts_are_the_slices_added_up() -> None:
    prediction, truth, sizes = two_patients()
    counts = volume_counts(tally_of(prediction, truth, sizes))
    ed = list(SCORED).index("ED")
    assert counts[:, ed].tolist() == [[28, 4, 0], [0, 0, 0]]
