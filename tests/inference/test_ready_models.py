"""The models that come with the package: whole, small, described, and usable."""

import json

import numpy as np
import pytest

import brats_jax
from brats_jax.inference.model_paths import READY, ready_models
from brats_jax.inference.weights_reader import verify
from brats_jax.runs.documents.weights import WeightsFolder

MOST_BYTES = 12_000_000


def test_the_package_has_a_small_model():
    assert "small" in ready_models()


@pytest.mark.parametrize("name", ready_models())
def test_a_ready_model_is_whole_and_small_enough_for_a_wheel(name):
    folder = WeightsFolder(READY / name)
    assert folder.weights in verify(folder)
    assert sum(path.stat().st_size for path in folder.path.iterdir()) <= MOST_BYTES


@pytest.mark.parametrize("name", ready_models())
def test_its_card_says_how_good_it_is_for_what_it_may_be_used_and_how_to_make_it_again(name):
    folder = WeightsFolder(READY / name)
    card, document = folder.card.read_text(), json.loads(folder.config_json.read_text())
    assert document["research_use_only"] and "research use only" in card.lower()
    assert set(document["tasks"]) == {"segment", "reconstruct"}
    for networks in document["tasks"].values():
        assert networks["scores"]["patients"] >= 20  # of the cross-validation
        assert not networks["scores"].get("same_weights", True)
    assert "bash launch/small.sh STORE" in card and "## Limits" in card
    planes = document["tasks"]["segment"]["folds"][0]["record"]["other_planes"]
    assert f'"other_planes": "{", ".join(planes)}"' in card
    # No patient is named.
    for cohort in ("TCIA", "CBICA", "BraTS2021_0", "Brats18_"):
        assert cohort not in card and cohort not in folder.config_json.read_text()


def test_the_small_model_finds_an_enhancing_tumour_with_oedema():
    """A bright ball in a brain: what every glioma has, and no more."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (12, 96, 96)), indexing="ij")
    rng = np.random.default_rng(0)
    brain = (x**2 + y**2) < 0.9
    distance = np.sqrt((x - 0.3) ** 2 + (y - 0.2) ** 2 + (z / 2) ** 2)
    ball, rim = distance < 0.35, distance < 0.15
    noise = rng.normal(0, 20, brain.shape)
    images = {
        "t1": 500 - 100 * ball,
        "t1gd": 500 - 50 * ball + 900 * rim,
        "t2": 400 + 400 * ball,
        "flair": 400 + 500 * ball,
    }
    images = {n: np.where(brain, v + noise, 0).astype(np.float32).T for n, v in images.items()}
    labels = brats_jax.load("small", min_component_mm3=0, min_et_mm3=0).segment(images)
    ball = ball.T & brain.T
    overlap = 2 * ((labels > 0) & ball).sum() / ((labels > 0).sum() + ball.sum())
    assert overlap > 0.5
