import dataclasses
import itertools

import numpy as np
import pytest
from unlabelled_examples import source_of

from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.data.store import writer
from brats_jax.data.store.layout import case_files
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store, verify
from brats_jax.errors import BratsError, Busy

NAME = "Phantom_001"


@pytest.fixture
def source():
    return PhantomSource(1, 1, (16, 32, 32))


def test_a_finished_case_is_recognised_until_a_file_changes(tmp_path, source):
    record = writer.write_case(tmp_path, source, NAME, "slice")
    assert writer.finished_case(tmp_path, NAME, "") == record
    assert writer.finished_case(tmp_path, NAME, "another state") is None
    images = tmp_path / case_files(NAME)[0]
    images.write_bytes(images.read_bytes()[:-1])
    assert writer.finished_case(tmp_path, NAME, "") is None
    writer.discard_case(tmp_path, NAME)
    assert not list((tmp_path / "cases").iterdir())


def test_a_second_writer_is_refused_and_an_empty_folder_removed(tmp_path):
    store = tmp_path / "s"
    with writer.sole_writer(store), pytest.raises(Busy, match="in use by"):  # noqa: SIM117
        with writer.sole_writer(store):
            pass
    assert not store.exists()


def prepared(tmp_path, *cases):
    """A store of cases that are given as they are."""
    prepare(source_of(*cases), tmp_path / "store", workers=1)
    return Store.open(tmp_path / "store")


def test_cases_without_labels_and_with_some_modalities_are_kept_as_such(tmp_path, source):
    whole = source.read(NAME)
    images = whole.images.copy()
    images[..., 2:] = 0
    some = dataclasses.replace(
        whole, patient="Some", labels=None, label_kind="none", images=images, present=("t1", "t1gd")
    )
    mask = dataclasses.replace(
        whole, patient="Mask", labels=(whole.labels > 0) * np.uint8(1), label_kind="whole_tumour"
    )
    store = prepared(tmp_path, whole, some, mask)
    assert store.label_kinds == ["classes", "none", "whole_tumour"]
    assert store.labelled.tolist() == [True, False, False]
    np.testing.assert_array_equal(store.present, [[1] * 4, [1, 1, 0, 0], [1] * 4])
    read, labels = (part.reshape(3, 16, *part.shape[1:]) for part in store.read(range(48)))
    np.testing.assert_array_equal(read[1][..., :2], read[0][..., :2])
    assert not read[1][..., 2:].any() and read[0][..., 2:].any()
    assert labels[0].any() and not labels[1:].any()  # a mask is never taken for a class
    tumour = store.has_tumour.reshape(3, 16)
    np.testing.assert_array_equal(tumour[0], tumour[2])
    assert tumour[0].any() and not tumour[1].any()
    assert store.pixels[:16].sum() == 16 * 32 * 32 and not store.pixels[16:].any()
    ends = store.tumour_offsets[[0, 16, 32, 48]]
    of_case = [store.tumour_pixels[a:b] for a, b in itertools.pairwise(ends)]
    np.testing.assert_array_equal(of_case[0], of_case[2])
    assert not (tmp_path / "store" / case_files("Some")[1]).exists()
    assert verify(tmp_path / "store") == 3 * 3 - 1 + 2


@pytest.mark.parametrize(
    "change",
    [
        {"labels": None},
        {"label_kind": "none"},
        {"label_kind": "Classes"},
        {"label_kind": "whole_tumour"},
        {"present": ()},
        {"present": ("flair", "t1")},
    ],
)
def test_a_source_whose_facts_do_not_fit_together_is_refused(tmp_path, source, change):
    case = dataclasses.replace(source.read(NAME), **change)
    with pytest.raises(BratsError, match=r"do not fit together|labels above 1"):
        prepared(tmp_path, case)
