from pathlib import Path

from brats_jax.data.sources.unread import unread_labels


def cases(root, *names, flat=False):
    found = {}
    for name in names:
        folder = root if flat else root / name
        folder.mkdir(exist_ok=True)
        found[name] = {"t1": str(touched(folder / f"{name}_t1.nii.gz"))}
    return found


def touched(path):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_a_file_belongs_to_the_case_that_it_is_called_after(tmp_path):
    bare = cases(tmp_path, "A_1", "A_10", flat=True)
    file = touched(tmp_path / "A_10_seg.nrrd")
    assert list(unread_labels(tmp_path, bare, [file])) == ["A_10"]


def test_any_file_of_another_format_counts_beside_a_single_case(tmp_path):
    bare = cases(tmp_path, "A", "B")
    file = touched(tmp_path / "A" / "drawn by hand.mha")
    found = unread_labels(tmp_path, bare, [file, touched(tmp_path / "notes.zip")])
    assert found == {"A": "drawn by hand.mha is no NIfTI file: convert it if it holds labels"}


def test_files_of_cases_that_are_read_and_notes_are_not_named(tmp_path):
    bare = cases(tmp_path, "A")
    files = [touched(tmp_path / "A" / name) for name in ("A_t1.nii.gz", "info.json", "a.csv")]
    assert unread_labels(tmp_path, bare, files) == {}


def test_nothing_outside_of_the_source_is_looked_at(tmp_path):
    root = tmp_path / "source"
    (tmp_path / "labels").mkdir()
    root.mkdir()
    assert unread_labels(root, cases(root, "A", flat=True), [Path(root, "A_t1.nii.gz")]) == {}
