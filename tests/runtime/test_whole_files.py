import gzip
import io

import numpy as np
import pytest

from brats_jax.runtime.whole_files import is_whole


def npz():
    file = io.BytesIO()
    np.savez(file, a=np.arange(99))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.nii.gz", gzip.compress(bytes(range(256)) * 9000)),
        ("a.png", b"\x89PNG" + bytes(99) + b"IEND\xaeB`\x82"),
        ("a.csv", b"a,b\n" * 9 + b"1,222222222222\n"),
        ("a.npz", npz()),
        ("a.html", b"<html>" + bytes(99) + b"</html>\n"),
    ],
)
def test_a_file_that_was_cut_short_is_not_whole(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    assert is_whole(path)
    for size in (0, 1, len(data) // 2, len(data) - 9):
        path.write_bytes(data[:size])
        assert not is_whole(path)


def test_other_files_count_as_whole(tmp_path):
    (tmp_path / "a.json").touch()
    assert is_whole(tmp_path / "a.json") and is_whole(tmp_path / "none.png")
