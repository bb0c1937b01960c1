import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from brats_jax.data.patches import PatchPlan, cut
from brats_jax.errors import BratsError

HEIGHT, WIDTH, SIZE = 40, 48, 16


class SmallStore:
    """Slices held in memory; slice i carries its own number in channel 0 and positions in 1, 2."""

    def __init__(self, labels):
        self.path = Path("STORE")
        self.slice_shape = labels.shape[1:]
        self._labels = labels.astype(np.uint8)
        flat = [np.flatnonzero(label) for label in labels]
        self.tumour_offsets = np.concatenate([[0], np.cumsum([len(f) for f in flat])])
        self._tumour = np.concatenate(flat)
        self.pixels = np.stack([(labels == c).sum(axis=(1, 2)) for c in range(4)], axis=1)
        rows, columns = np.indices(self.slice_shape)
        self._images = np.stack(
            [
                np.stack([np.full_like(rows, i), rows, columns, 0 * rows], axis=-1)
                for i in range(len(labels))
            ]
        ).astype(np.float16)

    def shapes(self, indices):
        return np.array([self.slice_shape] * len(indices))

    def presence(self, indices):
        return {}

    def tumour_positions(self, numbers):
        return self._tumour[numbers]

    def pixels_of_class(self, index, number):
        return np.flatnonzero(self._labels[index] == number)

    def labels(self, index):
        return self._labels[index]

    def windows(self, indices, rows, columns, shape):
        places = [
            np.s_[k, row : row + shape[0], column : column + shape[1]]
            for k, row, column in zip(indices, rows, columns, strict=True)
        ]
        return [np.stack([a[place] for place in places]) for a in (self._images, self._labels)]


@pytest.fixture
def store():
    """Slice 0: one pixel in the corner; 1: one in the middle; 2: a blob; 3, 4: no tumour."""
    labels = np.zeros((5, HEIGHT, WIDTH), np.uint8)
    labels[0, 0, WIDTH - 1] = 1
    labels[1, 20, 24] = 3
    labels[2, 5:9, 5:9] = 2
    return SmallStore(labels)


def plan_of(store, slices=(0, 1, 2, 3, 4), probability=0.5, seed=7, purpose=0, **options):
    return PatchPlan(
        store,
        np.array(slices),
        patch_size=SIZE,
        tumour_probability=probability,
        seed=seed,
        purpose=purpose,
        **options,
    )


def arrays(patches):
    return [patches.slices, patches.rows, patches.columns, patches.seeds]


def test_a_step_is_a_pure_function_of_seed_and_step(store):
    plan = plan_of(store)
    whole = plan.examples(0, 60)
    again = plan_of(store)
    for first in (44, 0, 16, 32):  # out of order, across the ends of passes
        for part, all_ in zip(arrays(again.examples(first, 16)), arrays(whole), strict=True):
            np.testing.assert_array_equal(part, all_[first : first + 16])
    assert (plan_of(store, seed=8).examples(0, 60).rows != whole.rows).any()
    assert (plan_of(store, purpose=1).examples(0, 60).rows != whole.rows).any()


def test_a_plan_pickles(store):
    plan = plan_of(store)
    copy = pickle.loads(pickle.dumps(plan))
    np.testing.assert_array_equal(copy.examples(3, 9).seeds, plan.examples(3, 9).seeds)


def test_a_pass_visits_every_slice_once_in_a_new_order(store):
    passes = plan_of(store).examples(0, 50).slices.reshape(10, 5)
    np.testing.assert_array_equal(np.sort(passes, axis=1), np.tile(np.arange(5), (10, 1)))
    assert len({tuple(order) for order in passes}) > 5


def test_patches_lie_inside_and_reach_every_border(store):
    drawn = plan_of(store, slices=[3, 4] * 500).examples(0, 20_000)
    assert drawn.rows.min() == 0 and drawn.rows.max() == HEIGHT - SIZE
    assert drawn.columns.min() == 0 and drawn.columns.max() == WIDTH - SIZE


@pytest.mark.parametrize("slices", [[0], [1], [2]])
def test_with_probability_one_every_patch_holds_tumour(store, slices):
    drawn = plan_of(store, slices, probability=1.0).examples(0, 2000)
    patches = cut(store, drawn, SIZE)
    assert patches["label"].any(axis=(1, 2)).all()


def test_positions_that_cover_a_pixel_are_equally_likely(store):
    """Pixel (20, 24) is covered by rows 5..20 and columns 9..24: 16 x 16 positions."""
    drawn = plan_of(store, [1] * 1000, probability=1.0).examples(0, 50_000)
    assert (drawn.rows.min(), drawn.rows.max()) == (5, 20)
    assert (drawn.columns.min(), drawn.columns.max()) == (9, 24)
    counts = np.bincount((drawn.rows - 5) * 16 + drawn.columns - 9, minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_tumour_pixel_in_the_corner_leaves_one_corner_of_positions(store):
    """Pixel (0, 47): only row 0 and column 32 keep the patch inside and cover it."""
    drawn = plan_of(store, [0], probability=1.0).examples(0, 200)
    assert set(drawn.rows) == {0} and set(drawn.columns) == {WIDTH - SIZE}


def test_without_awareness_positions_are_uniform(store):
    drawn = plan_of(store, [1] * 1000, probability=0.0).examples(0, 50_000)
    counts = np.bincount(drawn.rows, minlength=HEIGHT - SIZE + 1)
    assert stats.chisquare(counts).pvalue > 1e-3
    counts = np.bincount(drawn.columns, minlength=WIDTH - SIZE + 1)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_half_of_the_patches_are_drawn_around_tumour(store):
    """P(tumour) = p + (1 - p) P(a uniform patch holds the pixel), here 256 of 825 positions."""
    n = 40_000
    drawn = plan_of(store, [1] * 1000, probability=0.5).examples(0, n)
    holds = cut(store, drawn, SIZE)["label"].any(axis=(1, 2)).sum()
    expected = 0.5 + 0.5 * 256 / (25 * 33)
    assert stats.binomtest(int(holds), n, expected).pvalue > 1e-3


def test_classes_are_drawn_alike_however_many_pixels_and_slices_they_have(store):
    """Class 1 has one pixel in one slice, 2 sixteen in two, 3 one in one; two slices have none."""
    store._labels[3, 30, 30] = 2
    store.pixels[3, 2] = 1
    n = 6000
    drawn = plan_of(store, probability=1.0, sampling="classes").examples(0, n)
    labels = cut(store, drawn, SIZE)["label"]
    holds = [int((labels == c).any(axis=(1, 2)).sum()) for c in (1, 2, 3)]
    assert sum(holds) == n and stats.chisquare(holds).pvalue > 1e-3
    # Of class 2, its two slices alike, and in each every pixel; slice 4 is never drawn.
    by_slice = np.bincount(drawn.slices, minlength=5)
    assert by_slice[4] == 0 and stats.chisquare(by_slice[[2, 3]]).pvalue > 1e-3


def test_sampling_by_class_is_a_pure_function_of_seed_and_step(store):
    plan = plan_of(store, sampling="classes")
    whole = plan.examples(0, 60)
    again = pickle.loads(pickle.dumps(plan))
    for first in (44, 0, 16, 32):
        for part, all_ in zip(arrays(again.examples(first, 16)), arrays(whole), strict=True):
            np.testing.assert_array_equal(part, all_[first : first + 16])


def test_patches_not_around_a_class_are_those_of_the_other_sampling(store):
    n = 400
    by_class = plan_of(store, sampling="classes").examples(0, n)
    by_tumour = plan_of(store).examples(0, n)
    uniform = plan_of(store, probability=0.0).examples(0, n)
    same = by_class.slices == uniform.slices
    same &= (by_class.rows == uniform.rows) & (by_class.columns == uniform.columns)
    assert 0.4 < same.mean() < 0.7
    np.testing.assert_array_equal(by_class.seeds, by_tumour.seeds)


def test_sampling_by_class_without_any_tumour_is_uniform(store):
    by_class = plan_of(store, [3, 4], probability=1.0, sampling="classes").examples(0, 50)
    uniform = plan_of(store, [3, 4], probability=1.0).examples(0, 50)
    np.testing.assert_array_equal(by_class.rows, uniform.rows)


def test_slices_without_tumour_are_not_affected(store):
    aware = plan_of(store, [3, 4], probability=1.0).examples(0, 500)
    unaware = plan_of(store, [3, 4], probability=0.0).examples(0, 500)
    np.testing.assert_array_equal(aware.rows, unaware.rows)


def test_seeds_are_spread_over_32_bits(store):
    seeds = plan_of(store).examples(0, 10_000).seeds
    assert seeds.dtype == np.uint32
    assert len(np.unique(seeds)) > 9_990
    assert stats.kstest(seeds / 2**32, "uniform").pvalue > 1e-3


def test_image_and_label_are_cut_from_the_same_place(store):
    drawn = plan_of(store).examples(0, 40)
    patches = cut(store, drawn, SIZE)
    np.testing.assert_array_equal(patches["image"][:, 0, 0, 0], drawn.slices)
    np.testing.assert_array_equal(patches["image"][:, 0, 0, 1], drawn.rows)
    np.testing.assert_array_equal(patches["image"][:, -1, -1, 2], drawn.columns + SIZE - 1)
    for k in range(40):
        window = np.s_[drawn.rows[k] :, drawn.columns[k] :]
        expected = store.labels(drawn.slices[k])[window][:SIZE, :SIZE]
        np.testing.assert_array_equal(patches["label"][k], expected)


def test_a_patch_may_be_as_large_as_the_slice(store):
    plan = PatchPlan(
        SmallStore(np.ones((1, 8, 8))), np.array([0]), patch_size=8, tumour_probability=1, seed=0
    )
    drawn = plan.examples(0, 50)
    assert not drawn.rows.any() and not drawn.columns.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slices": np.array([], int)}, "no slice to train on"),
        ({"patch_size": 41}, "does not fit slices of 40 x 48"),
        ({"patch_size": 0}, "does not fit"),
        ({"tumour_probability": 1.5}, "between 0 and 1"),
        ({"sampling": "class"}, "valid: tumour, classes"),
    ],
)
def test_impossible_plans_are_refused(store, changes, message):
    options = {"slices": np.arange(5), "patch_size": 16, "tumour_probability": 0.5, "seed": 0}
    with pytest.raises(BratsError, match=message):
        PatchPlan(store, **{**options, **changes})
