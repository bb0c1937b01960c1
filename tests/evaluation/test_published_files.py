from brats_jax.evaluation.published_files import publish
from brats_jax.runs.folder import FoldFolder


def test_tables_and_pictures_are_replaced_unless_they_were_edited(tmp_path, capsys):
    fold = FoldFolder(tmp_path / "fold_0")
    table, picture = fold.slices_csv("segment"), fold.segmentation_png
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"of an earlier version")
    publish(fold, table, b"1")
    publish(fold, picture, b"2")
    publish(fold, table, b"3")
    assert (table.read_bytes(), picture.read_bytes()) == (b"3", b"2")
    table.write_text("with remarks")
    for data in (b"4", None):
        publish(fold, table, data)
        assert table.read_text() == "with remarks"
        assert f"{table} has changed since this program wrote it: kept" in capsys.readouterr().out
    table.unlink()
    publish(fold, table, b"4,5\n")
    table.write_bytes(b"4,")  # cut short
    publish(fold, table, b"4,5\n")
    assert table.read_bytes() == b"4,5\n" and capsys.readouterr().out == ""
    publish(fold, picture, None)
    assert not picture.exists() and capsys.readouterr().out == ""
    publish(fold, picture, b"5")
    assert picture.read_bytes() == b"5"
