import numpy as np
import pytest

from brats_jax.data.sources.slice_tables import check_row, patient_name, read_grades, read_tables
from brats_jax.errors import BratsError

HEAD = "slice_path,target,volume,slice,label0_pxl_cnt,label1_pxl_cnt,label2_pxl_cnt\n"


def test_rows_are_found_by_patient_and_slice(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_text(f"{HEAD}/x/volume_7_slice_3.h5,1,7,3,0,2.0,1\n")
    tables = read_tables([path])
    row = tables.rows[patient_name(7)][3]
    assert row.counts == (0, 2, 1) and row.target == 1 and tables.names == ["meta.csv"]
    labels = np.array([[0, 2], [2, 3]], np.uint8)
    check_row("x.h5", labels, row)
    with pytest.raises(BratsError, match=r"has \(1, 0, 0\) pixels .* says \(0, 2, 1\)"):
        check_row("x.h5", np.array([[1, 0]], np.uint8), row)


@pytest.mark.parametrize("cell", ["inf", "-inf", "nan", "9" * 4400, "", "-1", "2.5", "1e400", "x"])
def test_a_number_that_is_none_is_a_problem_of_its_patient(tmp_path, cell):
    path = tmp_path / "meta.csv"
    path.write_text(f"{HEAD}volume_7_slice_3.h5,1,7,3,{cell},2,1\n")
    tables = read_tables([path])
    assert "line 2" in tables.problems[patient_name(7)] and not tables.rows


@pytest.mark.parametrize("name", ["", "volume_1.h5", f"volume_{'9' * 4400}_slice_1.h5"])
def test_a_row_of_no_slice_is_refused(tmp_path, name):
    path = tmp_path / "meta.csv"
    path.write_text(f"{HEAD}{name},1,7,3,0,2,1\n")
    with pytest.raises(BratsError, match="line 2, names no slice"):
        read_tables([path])


def test_tables_in_any_encoding_are_read(tmp_path):
    (tmp_path / "other.csv").write_bytes("Straße,Größe\n".encode("latin-1"))
    (tmp_path / "name_mapping.csv").write_bytes(b"Grade,BraTS_2020_subject_ID\nHGG,M\xfc\n")
    files = sorted(tmp_path.iterdir())
    assert not read_tables(files).names
    assert read_grades(files) == {"M\udcfc": "HGG"}
