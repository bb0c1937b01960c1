"""Yardsticks: least squares per voxel over the training slices, and nothing else."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from brats_jax.data.brain import brain_mask
from brats_jax.data.modalities import MODALITIES
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.evaluation import yardsticks
from brats_jax.metrics import image

T1, T1GD, T2, FLAIR = range(4)
PAPER = (("t1", "t1gd"), ("flair",))


class ImagesAsStore:
    """What a fit reads of a store, from images float64[N, H, W, 4] of one patient."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.slice_shape = images, images.shape[1:3]
        self.background = images[:, 0, 0]
        self.patient_of = np.zeros(len(images), np.int32)
        self.present = np.ones((1, 4), bool)

    def flat(self, index: int) -> tuple[np.ndarray, None]:
        """All pixels are in the box but those of the first row, which are background."""
        return self.images[index, 1:].reshape(-1, 4), None


@pytest.fixture
def images() -> np.ndarray:
    made = np.random.default_rng(0).normal(size=(3, 9, 8, 4))
    made[:, 0] = made[:, :1, :1].mean(axis=2)  # the background
    return made


def polynomial(x: np.ndarray) -> np.ndarray:
    a, b = x[..., T1], x[..., T1GD]
    return 0.5 - a + 2 * b + 0.25 * a**2 - b**2 + 3 * a * b + a**3 - 0.5 * b**3 + 4 * np.maximum(
        b - a, 0
    )  # fmt: skip


def test_a_target_made_of_the_nine_terms_is_predicted_exactly(images):
    images[..., FLAIR] = polynomial(images)
    regression, mean = yardsticks.fit(ImagesAsStore(images), np.arange(3), *PAPER)
    np.testing.assert_allclose(regression.predict(images)[..., 0], images[..., FLAIR], atol=1e-9)
    expected = [0.5, -1, 2, 0.25, -1, 3, 1, -0.5, 4]
    np.testing.assert_allclose(regression.coefficients[:, 0], expected, atol=1e-9)
    assert list(regression.to_json()["flair"]) == [
        "1", "T1", "T1Gd", "T1^2", "T1Gd^2", "T1 * T1Gd", "T1^3", "T1Gd^3", "max(T1Gd - T1, 0)",
    ]  # fmt: skip
    assert mean.predict(images)[1, 2, 3, 0] == pytest.approx(images[..., FLAIR].mean())
    # A target that is no such polynomial is not.
    images[..., FLAIR] = np.sin(3 * images[..., T1])
    other, _ = yardsticks.fit(ImagesAsStore(images), np.arange(3), *PAPER)
    assert np.abs(other.predict(images)[..., 0] - images[..., FLAIR]).mean() > 0.1


def test_the_sums_by_slice_give_least_squares_over_all_pixels_at_once(small_store):
    chosen = np.arange(3, small_store.num_slices, 2)
    regression, mean = yardsticks.fit(small_store, chosen, *PAPER)
    x = small_store.read(chosen)[0].astype(np.float64).reshape(-1, 4)
    a, b = x[:, T1], x[:, T1GD]
    terms = [np.ones_like(a), a, b, a**2, b**2, a * b, a**3, b**3, np.maximum(b - a, 0)]
    solution, *_ = np.linalg.lstsq(np.stack(terms, 1), x[:, FLAIR], rcond=None)
    np.testing.assert_allclose(regression.coefficients[:, 0], solution, rtol=1e-6, atol=1e-9)
    assert mean.coefficients.item() == pytest.approx(x[:, FLAIR].mean())


def test_any_inputs_and_several_targets_have_their_terms(images):
    inputs = ("flair", "t1", "t2")
    shown = yardsticks.term_names(inputs)
    assert len(shown) == 1 + 3 * 3 + 3 and "FLAIR * T2" in shown and "max" not in " ".join(shown)
    assert len(yardsticks.term_names(("t2",))) == 4
    store = ImagesAsStore(images)
    store.images[..., T1GD] = images[..., FLAIR] * images[..., T2] - images[..., T1] ** 3
    (regression, _) = yardsticks.fit(store, np.arange(3), inputs, ("t1gd",))
    np.testing.assert_allclose(regression.predict(images)[..., 0], images[..., T1GD], atol=1e-9)
    both = yardsticks.fit(store, np.arange(3), ("t1", "t2"), ("flair", "t1gd"))
    for one, k in itertools.product(both, (0, 1)):
        target = (("flair",), ("t1gd",))[k]
        alone = yardsticks.fit(store, np.arange(3), ("t1", "t2"), target)[both.index(one)]
        np.testing.assert_allclose(one.coefficients[:, k], alone.coefficients[:, 0])


def test_equal_inputs_are_no_obstacle(images):
    images[..., T1GD] = images[..., T1]
    images[..., FLAIR] = 2 * images[..., T1] + 1
    regression, _ = yardsticks.fit(ImagesAsStore(images), np.arange(3), *PAPER)
    np.testing.assert_allclose(regression.predict(images)[..., 0], images[..., FLAIR], atol=1e-6)


def test_a_target_among_the_inputs_has_no_yardstick(images):
    assert yardsticks.fit(ImagesAsStore(images), np.arange(3), ("t1", "flair"), ("flair",)) == ()


def test_patients_without_an_input_or_the_target_do_not_count(mixed_store):
    every = np.arange(mixed_store.num_slices)
    needed = mixed_store.present[:, [MODALITIES.index(m) for m in ("t1", "t1gd", "flair")]]
    whole = every[needed.all(axis=1)[mixed_store.patient_of]]
    assert 0 < len(whole) < len(every)
    regression, _ = yardsticks.fit(mixed_store, every, *PAPER)
    expected, _ = yardsticks.fit(mixed_store, whole, *PAPER)
    np.testing.assert_array_equal(regression.coefficients, expected.coefficients)
    assert yardsticks.fit(mixed_store, np.setdiff1d(every, whole), *PAPER) == ()


@pytest.mark.real
@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="no real cases")
@pytest.mark.parametrize("how", ["slice", "volume"])
def test_real_cases_have_the_figures_of_the_documentation(how, tmp_path):
    """Leave one of six patients out; every fourth slice."""
    source = Path(os.environ["BRATS_REAL_DATA"])
    prepare(str(source), tmp_path / how, normalisation=how)
    store = Store.open(tmp_path / how)
    every = np.arange(0, store.num_slices, 4)
    if how == "volume":
        every = every[store.has_tumour[every]]
    found: dict[str, list[float]] = {}
    for patient in range(len(store.patients)):
        mine = store.patient_of[every] == patient
        images = store.read(every[mine])[0].astype(np.float32)
        target = images[..., FLAIR]
        brain = np.asarray(brain_mask(images))
        data_range = image.data_range(target)
        for one in yardsticks.fit(store, every[~mine], *PAPER):
            guess = one.predict(images)[..., 0]
            shown = np.asarray(data_range) > 0  # of slices with brain
            scores = {
                "mse": np.asarray(image.mse(guess, target))[shown],
                "psnr": np.asarray(image.psnr(guess, target, data_range))[shown],
                "ssim": np.asarray(image.ssim(guess, target, data_range))[shown],
                "brain": np.square(guess - target)[brain].mean(keepdims=True),
            }
            for name, values in scores.items():
                found.setdefault(f"{one.name} {name}", []).extend(values.tolist())
    means = {name: np.mean(values) for name, values in found.items()}
    if how == "slice":
        assert means["regression mse"] == pytest.approx(0.065, abs=0.005)
        assert means["regression psnr"] == pytest.approx(24.9, abs=0.2)
        assert means["regression ssim"] == pytest.approx(0.857, abs=0.005)
    else:
        assert means["regression brain"] == pytest.approx(0.97, abs=0.02)
        assert means["mean brain"] == pytest.approx(1.02, abs=0.02)
