import pytest

from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.detect import open_source
from brats_jax.errors import BratsError

CASE = "TCGA_CS_4941_19960909"


@pytest.fixture(scope="module")
def volumes(brats_files):
    return brats_files.make_case()


def test_each_source_is_found_by_its_files(tmp_path, brats_files, volumes):
    brats_files.write_nifti_case(tmp_path / "nifti" / "a" / "b", "A", volumes)
    brats_files.write_kaggle(tmp_path / "kaggle", 1, volumes, slices=(3,))
    assert open_source(str(tmp_path / "nifti")).name == "nifti"
    assert open_source(str(tmp_path / "kaggle")).name == "kaggle"
    assert open_source("phantom", patients=2, seed=3).name == "phantom"
    with pytest.raises(BratsError, match=r"holds Kaggle slices .* and NIfTI volumes"):
        open_source(str(tmp_path))
    brats_files.write_lgg(tmp_path / "lgg" / "kaggle_3m", CASE)
    assert open_source(str(tmp_path / "lgg")).name == "lgg"
    with pytest.raises(
        BratsError, match=r"Kaggle slices .*, LGG slices .* and NIfTI volumes .* a --source"
    ):
        open_source(str(tmp_path))


def test_links_are_followed_and_other_files_ignored(tmp_path, brats_files, volumes):
    paths = brats_files.write_nifti_case(tmp_path / "real", "A", volumes)
    # What macOS puts beside every file in an archive.
    paths["t1"].with_name("._A_t1.nii.gz").write_bytes(b"litter")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert open_source(str(tmp_path / "data")).patients() == ["A"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"source": "phantom"}, "--patients=N"),
        ({"source": "phantom", "patients": 1, "shape": (3, 4)}, "three sizes"),
        ({"source": "phantom", "patients": 1, "channel_order": ["t1"]}, "--channel_order"),
        ({"source": "."}, "holds no BraTS data among its 1 files"),
        ({"source": ".", "patients": 3}, "--patients is for --source=phantom"),
        ({"source": "nowhere"}, "is not a folder"),
    ],
)
def test_a_folder_without_a_source_is_refused(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BratsError, match=message):
        open_source(**options)


def test_names_decide_the_modalities_of_nifti(tmp_path, brats_files, volumes):
    brats_files.write_nifti_case(tmp_path, "A", volumes)
    with pytest.raises(BratsError, match=r"is for Kaggle slice files; .* whose modalities have"):
        open_source(str(tmp_path), channel_order=["flair", "t1", "t1ce", "t2"])


@pytest.mark.parametrize(
    "option",
    [
        {"channel_order": ["flair", "t1", "t1ce", "t2"]},
        {"labels": "msd"},
        {"options": ReadOptions("LPS")},
    ],
)
def test_options_of_other_sources_are_refused_for_lgg_slices(tmp_path, brats_files, option):
    brats_files.write_lgg(tmp_path, CASE)
    with pytest.raises(BratsError, match="leave it out"):
        open_source(str(tmp_path), **option)
