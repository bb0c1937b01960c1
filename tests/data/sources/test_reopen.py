"""Sources that are opened again as a store describes them."""

import json
import shutil

import pytest

from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.detect import open_source
from brats_jax.data.sources.joined import description_of
from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.data.sources.reopen import reopen
from brats_jax.errors import BratsError


def written(kind, folder, brats_files):
    """A data set of one kind, and the options to open it with."""
    case = brats_files.make_case()
    if kind == "kaggle":
        brats_files.write_kaggle(folder, 1, case)
    elif kind == "lgg":
        brats_files.write_lgg(folder, "TCGA_CS_4941_19960909")
    elif kind.startswith("nnunet"):
        names = {"labels": {"0": 0, "1": 1, "2": 2, "3": 3}} if "without" in kind else {}
        brats_files.write_dataset_json(folder, {**brats_files.NNUNET_JSON, **names})
        brats_files.write_nnunet_case(folder, "A_001", case)
    else:
        brats_files.write_nifti_case(folder, "A", case)
    if kind == "kaggle":
        return {"channel_order": ["t1", "t2", "flair", "t1ce"]}
    if kind == "nifti":
        return {"labels": "brats2021", "options": ReadOptions(orientation="RAS")}
    return {"labels": "msd"} if "without" in kind else {}


@pytest.mark.parametrize("kind", ["kaggle", "lgg", "nnunet", "nnunet without names", "nifti"])
def test_a_source_is_opened_with_the_options_that_it_had(tmp_path, brats_files, kind):
    options = written(kind, tmp_path / "data", brats_files)
    source = open_source(str(tmp_path / "data"), **options)
    described = json.loads(json.dumps(description_of(source)))
    again = reopen(described, ReadOptions())
    assert description_of(again) == described and again.patients() == source.patients()


def test_a_phantom_is_opened_with_its_number_seed_and_shape():
    described = description_of(PhantomSource(3, 5, (16, 32, 48)))
    assert description_of(reopen(described, ReadOptions())) == described


def test_a_source_that_is_gone_or_another_now_is_refused(tmp_path, brats_files):
    written("nifti", tmp_path / "data", brats_files)
    described = description_of(open_source(str(tmp_path / "data")))
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(BratsError, match="is not a folder"):
        reopen(described, ReadOptions())
    brats_files.write_kaggle(tmp_path / "data", 1, brats_files.make_case())
    with pytest.raises(BratsError, match="is not as it was when the store was prepared"):
        reopen(described, ReadOptions())
    with pytest.raises(BratsError, match="cannot be opened again by itself"):
        reopen({"kind": "my source"}, ReadOptions())
