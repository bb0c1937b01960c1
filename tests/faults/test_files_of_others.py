"""Files that do not belong where they lie, and tables and slices that are not there."""

import re

import pytest

from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.kaggle import KaggleSource
from brats_jax.data.sources.lgg import LggSource
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.errors import BratsError


@pytest.mark.parametrize(
    ("case", "labelled"), [("BraTS20_Training_355", True), ("BraTS20_Training_123", False)]
)
def test_the_labels_of_case_355_are_of_no_other_case(tmp_path, brats_files, case, labelled):
    paths = brats_files.write_nifti_case(tmp_path, case, brats_files.make_case(), "2020", ".nii")
    paths["seg"].rename(paths["seg"].with_name("W39_1998.09.19_Segm.nii"))
    source = NiftiSource(tmp_path, folder_files(tmp_path))
    read = source.read(case)
    assert (read.labels is not None) == labelled
    words = "W39_1998.09.19_Segm.nii is the name of the labels of BraTS20_Training_355"
    assert any(words in line for line in read.notes) != labelled
    assert any(words in line for line in source.notices()) != labelled


@pytest.mark.parametrize("rows", [0, 1])
def test_a_metadata_table_without_rows_is_refused(tmp_path, brats_files, rows):
    volumes = brats_files.make_case()
    brats_files.write_kaggle(tmp_path, 1, volumes, slices=(3, 4))
    brats_files.write_kaggle_tables(tmp_path, {1: volumes})
    (table, *_) = (path for path in folder_files(tmp_path) if "Training Metadata" in path.name)
    table.write_bytes(b"\n".join(table.read_bytes().splitlines()[:rows]))
    state = "a table without rows" if rows else "empty"
    line = re.escape(f"{table} is {state}, so that no labels")
    with pytest.raises(BratsError, match=line):
        KaggleSource(tmp_path, folder_files(tmp_path))
    table.rename(table.with_suffix(".old"))  # as the line says
    KaggleSource(tmp_path, folder_files(tmp_path))


def test_an_empty_table_of_something_else_is_no_matter(tmp_path, brats_files):
    brats_files.write_kaggle(tmp_path, 1, brats_files.make_case(), slices=(3, 4))
    (tmp_path / "notes.csv").write_bytes(b"")
    assert KaggleSource(tmp_path, folder_files(tmp_path)).patients() == ["BraTS20_Training_001"]


def test_a_missing_slice_of_the_lgg_set_has_the_number_of_its_file(tmp_path, brats_files):
    case = "TCGA_CS_4941_19960909"
    brats_files.write_lgg(tmp_path, case)
    for path in folder_files(tmp_path):
        if re.search(r"_3(_mask)?\.tif$", path.name):
            path.unlink()
    notes = LggSource(tmp_path, folder_files(tmp_path)).read(case).notes
    assert any("1 of 4 slices are missing (3)" in line for line in notes)
