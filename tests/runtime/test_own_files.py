import pytest

from brats_jax.errors import BratsError
from brats_jax.runtime.own_files import OwnFiles, check_replaceable


def own_files(folder):
    return OwnFiles(folder, folder / "written.json")


def test_files_are_replaced_and_removed_only_as_they_were_written(tmp_path):
    own_files(tmp_path).write({"a": b"1", "below/b": b"2", "c": b"3"})
    (tmp_path / "below" / "b").write_text("edited")
    (tmp_path / "foreign").touch()
    again = own_files(tmp_path)
    assert again.has_ledger and again.names == ["a", "below/b", "c"]
    assert again.may_replace("a") and again.may_replace("not there")
    assert not again.may_replace("below/b") and not again.may_replace("foreign")
    assert again.remove(again.names) == ["below/b"]
    assert {p.name for p in tmp_path.rglob("*")} == {"below", "b", "foreign", "written.json"}


def test_a_command_that_ends_while_it_writes_finds_its_files_again(tmp_path):
    """The hash is in the ledger before the file has its new bytes."""
    own_files(tmp_path).write({"a": b"1"})

    with pytest.raises(OSError):
        own_files(tmp_path).write({"a": b"22", "a/below/a/file": b"3"})
    again = own_files(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"22" and again.may_replace("a")
    again.write({"a": b"1"})
    assert own_files(tmp_path).may_replace("a")


def test_the_refusal_says_whether_a_file_has_changed_or_is_foreign(tmp_path):
    own = own_files(tmp_path)
    own.write({"a": b"1"})
    (tmp_path / "a").write_text("edited")
    (tmp_path / "b").touch()
    with pytest.raises(BratsError, match="a has changed since it was written by this program: kep"):
        check_replaceable(own, ["none", "a"], "give another --output")
    with pytest.raises(BratsError, match=r"b is there and was not written .*; give another --out"):
        check_replaceable(own, ["b"], "give another --output")
    (tmp_path / "folder").mkdir()
    assert not own.may_replace("folder")


def test_a_damaged_ledger_makes_all_files_foreign(tmp_path):
    own_files(tmp_path).write({"a": b"1"})
    (tmp_path / "written.json").write_text("{")
    assert own_files(tmp_path).has_ledger and not own_files(tmp_path).may_replace("a")
