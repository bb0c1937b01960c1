import os
from types import SimpleNamespace

from brats_jax.data.sources.base import folder_files, known_problems, notices, state_of


def test_hidden_files_are_ignored_and_links_followed_once(tmp_path):
    for name in ("b/2.nii", "a/1.nii", "a/._1.nii", ".git/x.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    found = [str(path.relative_to(tmp_path)) for path in folder_files(tmp_path)]
    assert found == ["a/1.nii", "b/2.nii"]


def test_the_state_of_a_case_changes_with_its_files(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    source = SimpleNamespace(files_of=lambda patient: [str(path)])
    before = state_of(source, "P")
    assert before == state_of(source, "P") and len(before) == 16
    path.write_text("three")
    os.utime(path, ns=(1, 1))
    assert state_of(source, "P") != before


def test_a_source_without_files_has_no_problems_notices_or_state():
    source = SimpleNamespace()
    assert (known_problems(source), notices(source), state_of(source, "P")) == ({}, [], "")
