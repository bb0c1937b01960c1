import dataclasses

import pytest
from matplotlib.image import imread
from viewer_example import has_colour, make_case

from brats_jax.viewer import CaseView, write_overview
from brats_jax.viewer.overview import chosen_slices, draw_overview, note_of
from brats_jax.viewer.slices import CLASS_COLOURS


@pytest.fixture(scope="module")
def case() -> CaseView:
    return make_case()


def test_the_overview_shows_slices_of_the_tumour_in_their_colours(tmp_path, case):
    assert chosen_slices(case, 4) == [3, 4, 6, 7]
    assert chosen_slices(case, 9) == [3, 4, 5, 6, 7]
    small = dataclasses.replace(case, truth=None, uncertainty=None)
    pictures = [imread(write_overview(tmp_path / "o.png", c)) for c in (case, small)]
    assert pictures[0].shape[1] > 1.2 * pictures[1].shape[1]  # two columns more

    # The research notice is never cut off at the sides.
    figure = draw_overview(dataclasses.replace(small, name="A long name of a case, and more of it"))
    figure.canvas.draw()
    box = figure.texts[-1].get_window_extent()
    assert box.x0 > 0 and box.x1 < figure.bbox.width and box.y0 >= 0
    assert "Dice" not in figure.texts[-1].get_text()
    assert "; 3D Dice against the truth: WT 0." in draw_overview(case).texts[-1].get_text()

    for planes, words in (
        ("coronal", "; predicted in coronal slices"),
        ("axial, coronal", "; mean of predictions in axial and coronal slices"),
    ):
        facts = {"model": "abc", "planes": planes, "missing": "T2"}
        text = note_of(dataclasses.replace(small, facts=facts))
        assert f"; model abc{words}; missing T2. " in text
    assert "slices" not in note_of(small)

    for name, code in CLASS_COLOURS.items():
        assert has_colour(pictures[1][..., :3], code, 0.65).sum() > 200, name


def test_the_picture_says_what_the_uncertainty_is(case):
    named = dataclasses.replace(case, uncertainty_is="entropy of something")
    assert ". Uncertainty: entropy of something. For research" in note_of(named)
    assert "ncertainty" not in note_of(dataclasses.replace(named, uncertainty=None))


def test_notes_stand_above_the_images_whole(case):
    small = dataclasses.replace(case, truth=None, uncertainty=None)
    notes = (
        "4% of the predicted tumour lay in air: check the rest",
        "a long note " * 30,
        "$x$ $y$",
    )
    plain, noted = draw_overview(small), draw_overview(dataclasses.replace(small, notes=notes))
    for figure in (plain, noted):
        figure.canvas.draw()
    assert not plain.legends[0].get_title().get_text()
    title = noted.legends[0].get_title()
    words = " ".join(title.get_text().split())
    assert words == " ".join(f"\u2022 {note.strip()}" for note in notes)
    assert title.get_size() >= 9
    box = title.get_window_extent()
    assert box.x0 > 0 and box.x1 < noted.bbox.width and box.y1 < noted.bbox.height
    # They take no room of the slices and do not lie on them.
    cells = [figure.axes[0].get_window_extent() for figure in (plain, noted)]
    assert cells[1].height > 0.95 * cells[0].height
    assert all(text.get_window_extent().y1 < box.y0 - 4 for text in noted.legends[0].get_texts())
    legend = noted.legends[0].get_window_extent()
    assert legend.y0 > noted.axes[0].title.get_window_extent().y1 - 1 and legend.y1 >= box.y1


def test_an_absent_modality_has_no_column(tmp_path, case):
    images = case.images.copy()
    images[..., 1] = 0
    lacking = dataclasses.replace(case, images=images)
    whole, part = (imread(write_overview(tmp_path / "o.png", c)) for c in (case, lacking))
    assert part.shape[1] < 0.9 * whole.shape[1]


def test_an_empty_case_can_be_drawn(tmp_path, case):
    empty = CaseView("Case_3", case.images * 0, case.labels * 0)
    assert imread(write_overview(tmp_path / "b.png", empty)).shape[1] > 300
