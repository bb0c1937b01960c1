"""Pictures of slices: the data, predicted images, segmentations."""

import io

import numpy as np
from PIL import Image
from report_examples import write_run

from brats_jax.data.splits import make_splits
from brats_jax.reporting.arms import collect
from brats_jax.reporting.figures import slice_pictures
from brats_jax.reporting.read_runs import discover


def test_a_missing_store_is_the_reason_why_the_data_are_not_drawn(tmp_path):
    run = write_run(tmp_path / "run", store=str(tmp_path / "gone"))
    reason = slice_pictures.dataset_figure(discover(run).runs)
    assert reason.startswith("Figure 4 (the data) is not drawn: ") and "gone" in reason
    assert "no run has begun" in slice_pictures.dataset_figure([])


def test_the_data_are_drawn_only_from_the_store_of_the_runs(tmp_path, small_store):
    run = write_run(tmp_path / "run", store=str(small_store.path))
    reason = slice_pictures.dataset_figure(discover(run).runs)
    assert "is not the store that the runs were trained on" in reason
    same = write_run(
        tmp_path / "same", store=str(small_store.path), fingerprint=small_store.fingerprint
    )
    make_splits(small_store).write(same / "splits.json")
    figure = slice_pictures.dataset_figure(discover(same).runs)
    assert f" (store: {small_store.path.name}): " in figure.caption
    assert figure.number == "Figure 4" and figure.mime == "image/jpeg"


def test_the_data_are_drawn_of_a_run_that_was_moved_with_its_store(tmp_path, small_store):
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "store").symlink_to(small_store.path)
    run = write_run(
        tmp_path / "moved" / "runs" / "ssl", store="store", fingerprint=small_store.fingerprint
    )
    make_splits(small_store).write(run / "splits.json")
    assert slice_pictures.dataset_figure(discover(run).runs).number == "Figure 4"


def test_all_arms_are_drawn_on_the_same_slices(results):
    (figure,) = slice_pictures.segmentation_figures(results)
    assert figure.number == "Figure 7 and Figure 8"
    assert figure.caption.startswith("Fold 0, seed 0; a row with SSL above one without.")
    with Image.open(io.BytesIO(figure.data)) as image:
        colours = np.asarray(image).reshape(-1, 3).astype(int)
    # The yellow of ED is on the picture.
    assert (np.abs(colours - (240, 228, 66)).sum(axis=1) < 90).any()


def test_the_worst_slice_is_shown_and_the_caption_says_how_slices_are_chosen(results):
    nan = np.nan
    baseline = np.array(
        [[1, 0.8, nan, 0.8], [1, 0.1, 0.1, 0.1], [1, 0.5, nan, nan], [1, 0.6, 1, 1]]
    )
    ssl = baseline.copy()
    ssl[0, 1:] = 0.9
    rows, words = slice_pictures.rows_shown([baseline, ssl])
    assert rows == [3, 2, 1]
    assert words.startswith(
        "Of the 4 slices that the evaluation kept, which it chose by the tumour"
    )
    assert "the best, the median and the worst" in words
    rows, words = slice_pictures.rows_shown([np.array([[1, nan, nan, nan], [1, 0.2, 0.2, 0.2]])])
    assert rows == [0, 1] and words.startswith("All 2 slices")
    (figure,) = slice_pictures.segmentation_figures(results)
    assert "the best, the median and the worst" in figure.caption


def test_without_panels_the_reason_is_given(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "fold_0" / "panels" / "segmentation.npz").unlink()
    results = collect(discover(run))
    assert "Figures 7 and 8" in slice_pictures.segmentation_figures(results)
    assert "no evaluated pretraining has a panel" in slice_pictures.pretraining_figures(results)


def test_the_panel_of_the_pretraining_is_shown(tmp_path):
    run = write_run(tmp_path / "run")
    Image.new("RGB", (60, 40)).save(run / "fold_0" / "panels" / "reconstruction.png")
    (figure,) = slice_pictures.pretraining_figures(collect(discover(run)))
    assert figure.number == "Figure 6" and figure.caption.startswith("run, fold 0.")


def test_every_pretraining_shows_its_panel(tmp_path):
    for name, decoder in (("a", "transposed"), ("b", "unet")):
        run = write_run(tmp_path / name, settings={"pretrain.decoder": decoder})
        Image.new("RGB", (60, 40)).save(run / "fold_0" / "panels" / "reconstruction.png")
    figures = slice_pictures.pretraining_figures(collect(discover(tmp_path)))
    assert [figure.number for figure in figures] == ["Figure 6", ""]
    assert figures[0].title != figures[1].title and "unet" in figures[1].title
    assert len({figure.name for figure in figures}) == 2
    assert figures[0].caption.endswith(
        "Some SSL runs started from another pretraining: decoder unet."
    )
