"""What MSD and nnU-Net share; see test_msd and test_nnunet for their images."""

import numpy as np
import pytest

from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.base import known_problems, notices, state_of
from brats_jax.data.sources.detect import open_source
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError


@pytest.fixture(scope="module")
def volumes(brats_files):
    return brats_files.make_case()


@pytest.fixture
def written(tmp_path, brats_files, volumes):
    """A folder with a labelled case A, a case B without labels, and dataset.json."""
    brats_files.write_dataset_json(tmp_path, brats_files.NNUNET_JSON)
    brats_files.write_nnunet_case(tmp_path, "A", volumes)
    brats_files.write_nnunet_case(tmp_path, "B", volumes, part="Ts")
    return tmp_path


def test_without_dataset_json_nothing_is_assumed(written):
    (written / "dataset.json").unlink()
    with pytest.raises(BratsError, match=r"dataset\.json is missing, and nothing else tells"):
        open_source(str(written))


def test_other_formats_are_refused_with_a_remedy(tmp_path, brats_files):
    brats_files.write_dataset_json(tmp_path, brats_files.NNUNET_JSON)
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "A_0000.mha").touch()
    with pytest.raises(BratsError, match=r"A_0000\.mha, \.\.\.\): convert them to NIfTI"):
        open_source(str(tmp_path))


def test_names_that_do_not_decide_are_refused_unless_the_user_says(written, brats_files):
    odd = {**brats_files.NNUNET_JSON, "labels": {"background": 0, "a": 1, "b": 2, "c": 3}}
    brats_files.write_dataset_json(written, odd)
    with pytest.raises(BratsError, match="is no name of a class or region"):
        open_source(str(written))
    by_user = open_source(str(written), labels="msd").read("A").labels
    brats_files.write_dataset_json(written, brats_files.NNUNET_JSON)
    np.testing.assert_array_equal(open_source(str(written)).read("A").labels, by_user)
    exchanged = open_source(str(written), labels="2023").read("A").labels
    assert not np.array_equal(exchanged, by_user)


def test_unlabelled_data_need_no_names_of_labels(written, brats_files):
    brats_files.write_dataset_json(written, {"channel_names": {"0": "T1", "3": "FLAIR"} | {
        "1": "T1c", "2": "T2"}})  # fmt: skip
    (written / "labelsTr" / "A.nii.gz").unlink()
    source = open_source(str(written))
    assert [source.read(name).label_kind for name in source.patients()] == ["none", "none"]


def test_voxels_that_nobody_has_labelled_are_refused(written, brats_files):
    labels = {"background": 0, "edema": 1, "NCR": 2, "ignore": 3}
    brats_files.write_dataset_json(written, {**brats_files.NNUNET_JSON, "labels": labels})
    with pytest.raises(BratsError, match=r"A\.nii\.gz has \d+ voxels of label 3, .* 'ignore'"):
        open_source(str(written)).read("A")


def test_labels_of_the_whole_tumour_are_kept_as_such(written, brats_files, volumes):
    labels = {"background": 0, "whole tumor": [1, 2, 3]}
    brats_files.write_dataset_json(written, {**brats_files.NNUNET_JSON, "labels": labels})
    case = open_source(str(written)).read("A")
    assert case.label_kind == "whole_tumour"
    np.testing.assert_array_equal(case.labels, np.moveaxis(volumes["seg"] != 0, 2, 0))


def test_cases_without_labels_are_told_and_refused_on_request(written):
    assert any("1 case of 2 without labels" in line for line in notices(open_source(str(written))))
    strict = open_source(str(written), options=ReadOptions(require_labels=True))
    assert list(known_problems(strict)) == ["B"]


def test_files_that_are_missing_or_too_many_are_known_before_reading(written):
    (written / "labelsTr" / "C.nii.gz").write_bytes(b"")
    (written / "imagesTs" / "B_0004.nii.gz").write_bytes(b"")
    problems = known_problems(open_source(str(written)))
    assert "has no image" in problems["C"]
    assert "is of a channel that" in problems["B"] and "it names 4" in problems["B"]


def test_channels_and_cases_that_are_not_used_are_told(written, brats_files):
    document = {
        **brats_files.NNUNET_JSON,
        "channel_names": {"0": "T1", "1": "T1ce", "2": "ADC", "3": "Flair"},
        "training": [{"image": "./imagesTr/A.nii.gz"}, {"image": "./imagesTr/Z.nii.gz"}],
    }
    brats_files.write_dataset_json(written, document)
    source = open_source(str(written))
    told = "\n".join(notices(source))
    assert (
        "1 channel of dataset.json left out, which is none of T1, T1Gd, T2, FLAIR: 2 (ADC)" in told
    )
    assert "1 case of 2 listed in dataset.json not here (Z)" in told
    assert "2 cases of 2 without some modality" in told
    assert source.read("A").present == ("t1", "t1gd", "flair")


def test_what_decides_the_contents_is_described(written, brats_files):
    before = open_source(str(written)).description
    assert before["labels"].startswith("msd (1 ED")
    turned = {"0": "T1", "1": "T2", "2": "T1ce", "3": "Flair"}
    brats_files.write_dataset_json(written, {**brats_files.NNUNET_JSON, "channel_names": turned})
    assert open_source(str(written)).description != before


def test_the_state_of_a_case_follows_its_files(written):
    source = open_source(str(written))
    before = state_of(source, "A")
    (written / "labelsTr" / "A.nii.gz").write_bytes(b"x")
    assert state_of(source, "A") != before and len(source.files_of("B")) == 4


def test_more_memory_than_allowed_is_refused(written):
    source = open_source(str(written), options=ReadOptions(max_case_gb=1e-5))
    with pytest.raises(BratsError, match="GB in memory, more than"):
        source.read("A")


def test_a_store_holds_the_labelled_and_unlabelled_cases_of_both_layouts(tmp_path, brats_files):
    for name, document in (("msd", brats_files.MSD_JSON), ("nnunet", brats_files.NNUNET_JSON)):
        brats_files.write_dataset_json(tmp_path / name, document)
        for seed, part in enumerate(("Tr", "Ts")):
            write = getattr(brats_files, f"write_{name}_case")
            write(tmp_path / name, f"{name}_{part}", brats_files.make_case(seed), part)
    sources = [str(tmp_path / name) for name in ("msd", "nnunet")]
    prepare(sources, tmp_path / "store", workers=1)
    store = Store.open(tmp_path / "store")
    assert store.label_kinds == ["classes", "none"] * 2 and store.present.all()
    images, labels = store.read(range(store.num_slices))
    np.testing.assert_array_equal(*np.split(images, 2))
    np.testing.assert_array_equal(*np.split(labels, 2))
    assert store.pixels[:, 1:].any()
