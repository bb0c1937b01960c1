"""Panels are whole PNG files; slices in them lie the way radiologists look at them."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from skimage.metrics import structural_similarity

from brats_jax.errors import BratsError
from brats_jax.evaluation import panels as pictures
from brats_jax.tasks import Pretraining
from brats_jax.viewer import panels, slices

RNG = np.random.default_rng(0)


def head(value: float = 1.0, background: float = -0.5, shape: tuple[int, int] = (24, 30)):
    """A slice with a head at rows 5-18, columns 4-25."""
    image = np.full(shape, background, np.float32)
    image[5:19, 4:26] = value + 0.1 * RNG.standard_normal((14, 22))
    return image


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros((24, 30), np.uint8)
    labels[8:14, 8:14] = 2
    labels[9:12, 9:12] = 3
    labels[10, 10] = 1
    return labels


def segmentation_rows(labels: np.ndarray) -> list[panels.SegmentationRow]:
    images = {"t1gd": head(), "flair": head()}
    dice = {"NCR/NET": 0.5, "ED": None, "ET": float("nan")}
    return [
        panels.SegmentationRow(f"Patient_{i}", 70 + i, images, labels, labels[::-1], dice)
        for i in range(2)
    ]


def reconstruction_row(prediction: np.ndarray) -> panels.ReconstructionRow:
    inputs = {"t1": head(), "t1gd": head()}
    return panels.ReconstructionRow("Patient_1", 70, inputs, head(), prediction, 0.91)


def test_writes_png_files_and_nothing_else(tmp_path, labels):
    written = [
        panels.reconstruction_panel(tmp_path / "a" / "r.png", [reconstruction_row(head())]),
        panels.segmentation_panel(tmp_path / "a" / "s.png", segmentation_rows(labels), "Dice"),
        panels.dataset_panel(
            tmp_path / "a" / "d.png",
            panels.DatasetRow("Patient_1", 70, np.stack([head()] * 4, -1), labels),
        ),
    ]
    assert sorted((tmp_path / "a").iterdir()) == sorted(written)
    for path in written:
        picture = imread(path)
        assert picture.ndim == 3 and picture.shape[1] > 300
        assert picture[..., :3].std() > 0.1  # not blank


def test_the_printed_ssim_is_scikit_images_of_that_slice(tmp_path, monkeypatch):
    images = np.stack([np.stack([head(v)] * 4, -1) for v in (1.0, 2.0)])
    predicted = images[..., 3] + np.float32([[[0.1]], [[0.4]]]) * RNG.standard_normal((24, 30))
    store = SimpleNamespace(
        read=lambda indices: (images, np.zeros((2, 24, 30), np.uint8)),
        patients=["A", "B"],
        patient_of=np.arange(2),
        slice_number=np.array([70, 71]),
    )
    drawn = []
    monkeypatch.setattr(pictures, "predict_slices", lambda *_: predicted.astype(np.float32))
    monkeypatch.setattr(panels, "save", lambda figure, path: drawn.append(figure))
    pictures.draw(tmp_path, SimpleNamespace(task=Pretraining()), store, np.arange(2), "")
    titles = [axis.get_title() for axis in drawn[0].axes if "SSIM" in axis.get_title()]
    for target, prediction, title in zip(images[..., 3], predicted, titles, strict=True):
        expected = structural_similarity(target, prediction, data_range=np.ptp(target))
        assert float(title.split("SSIM ")[1]) == pytest.approx(expected, abs=6e-4)


def test_more_rows_make_a_taller_picture(tmp_path, labels):
    rows = segmentation_rows(labels)
    heights = [
        imread(panels.segmentation_panel(tmp_path / f"{n}.png", rows[:n])).shape[0] for n in (1, 2)
    ]
    assert heights[1] > 1.5 * heights[0]


def test_a_class_is_drawn_in_its_colour(tmp_path, labels):
    def pixels_of(name: str, drawn: np.ndarray) -> int:
        # 65 % of the colour over a slice that is all black but for two corners.
        code = slices.CLASS_COLOURS[name]
        want = 0.65 * np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return int((np.abs(drawn[..., :3] - want).max(-1) < 0.02).sum())

    image = np.zeros((24, 30), np.float32)
    image[5, 4] = image[18, 25] = 1
    for value, name in ((1, "NCR/NET"), (2, "ED"), (3, "ET")):
        mask = np.where(labels > 0, value, 0)
        row = panels.SegmentationRow("Patient_1", 1, {"t1": image}, mask, mask * 0, {})
        drawn = imread(panels.segmentation_panel(tmp_path / "c.png", [row]))
        counts = {other: pixels_of(other, drawn) for other in slices.CLASS_COLOURS}
        assert counts[name] > 200
        assert sum(counts.values()) == counts[name]


def test_anterior_is_up_and_left_is_on_the_right():
    image = head()
    axis = Figure().subplots()
    slices.draw_slice(axis, image, image > 0, (slice(0, 24), slice(0, 30)))
    drawn = axis.images[0]
    # x (first axis, towards Left) runs to the right, y (second, towards Posterior) down.
    np.testing.assert_array_equal(drawn.get_array(), image.T)
    assert drawn.origin == "upper"
    texts = {text.get_text(): text.get_position()[0] for text in axis.texts}
    assert texts["R"] < 0.5 < texts["L"]


def test_prediction_has_the_grey_window_of_its_target():
    target, prediction = head(1.0), head(3.0)
    first, second = Figure().subplots(1, 2)
    window = (slice(0, 24), slice(0, 30))
    slices.draw_slice(first, target, target > 0, window)
    slices.draw_slice(second, prediction, target > 0, window, like=target)
    assert first.images[0].get_clim() == second.images[0].get_clim()


@pytest.mark.parametrize("background", [-0.5, 0.0, 1.0])
def test_background_is_black_wherever_normalisation_put_it(background):
    image = np.full((24, 30), background, np.float32)
    image[5:19, 4:26] = np.linspace(0.1, 2.0, 14 * 22).reshape(14, 22)  # 1.0 lies within
    axis = Figure().subplots()
    slices.draw_slice(axis, image, slices.head_mask([image]), (slice(0, 24), slice(0, 30)))
    drawn = axis.images[0]
    assert drawn.get_array()[0, 0] <= drawn.get_clim()[0]


def test_windows_hold_their_heads_and_share_one_size():
    heads = np.zeros((3, 100, 120), bool)
    heads[0, 10:50, 20:90] = True  # 40 x 70
    heads[1, 60:100, 0:30] = True  # 40 x 30, in a corner
    windows = slices.common_windows(heads)  # the third slice is empty
    for mask, (rows, columns) in zip(heads, windows, strict=True):
        assert mask[rows, columns].sum() == mask.sum()
    assert windows[2] == (slice(0, 100), slice(0, 120))
    pair = slices.common_windows(heads[:2])
    assert {(r.stop - r.start, c.stop - c.start) for r, c in pair} == {(48, 78)}
    assert pair[0] == (slice(6, 54), slice(16, 94))  # a margin of 4 around
    assert all(r.stop <= 100 and c.stop <= 120 for r, c in pair)


def test_one_line_for_rows_that_cannot_be_drawn(tmp_path, labels):
    path = tmp_path / "p.png"
    with pytest.raises(BratsError, match=r"p\.png: no slices"):
        panels.segmentation_panel(path, [])
    with pytest.raises(BratsError, match=r"Patient_1 slice 70 .*one \[H, W\]"):
        panels.reconstruction_panel(path, [reconstruction_row(head(shape=(30, 30)))])
    rows = segmentation_rows(labels)
    odd = panels.SegmentationRow("P", 1, {"t2": head()}, labels, labels, {})
    with pytest.raises(BratsError, match="different modalities"):
        panels.segmentation_panel(path, [rows[0], odd])
    row = panels.DatasetRow("P", 1, np.stack([head()] * 3, -1), labels)
    with pytest.raises(BratsError, match="3 modalities given"):
        panels.dataset_panel(path, row)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_picture(tmp_path, labels, monkeypatch):
    path = tmp_path / "p.png"
    panels.segmentation_panel(path, segmentation_rows(labels))
    before = path.read_bytes()

    def full(self: Figure, file, **_: object) -> None:
        file.write(b"half a pict")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="No space left"):
        panels.segmentation_panel(path, segmentation_rows(labels)[:1])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_pyplot_stays_out():
    program = "import brats_jax.viewer.panels, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    root = Path(panels.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
