import h5py
import numpy as np
import pytest

from brats_jax.data.sources.slice_file import SLICE_FILE, read_slice
from brats_jax.errors import BratsError

IMAGE, MASK = np.zeros((6, 5, 4)), np.zeros((6, 5, 3), np.uint8)


def test_a_slice_file_is_known_by_its_name():
    assert SLICE_FILE.fullmatch("Volume_12_slice_7.H5").groups() == ("12", "7")
    assert not SLICE_FILE.fullmatch("volume_12_slice_7 (1).h5")


@pytest.mark.parametrize(
    "options", [{}, {"compression": "gzip", "shuffle": True}, {"chunks": True}]
)
def test_a_slice_is_read_with_any_filter(tmp_path, options):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("image", data=IMAGE, **options)
        file.create_dataset("mask", data=MASK, **options)
    image, mask, _ = read_slice(str(tmp_path / "x.h5"))
    np.testing.assert_array_equal(image, IMAGE)
    assert mask.dtype == np.uint8


def test_a_slice_of_a_volume_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    """300 x 300 x 4 in float64 take 2.9 MB."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("image", data=np.zeros((300, 300, 4)))
        file.create_dataset("mask", data=np.zeros((300, 300, 3), np.uint8))
    read_slice(str(tmp_path / "x.h5"), 1, 0.003)
    for slices, limit in ((1, 0.002), (155, 0.4)):
        with pytest.raises(BratsError, match=r"x.h5: its case takes .* GB .*--max_case_gb"):
            read_slice(str(tmp_path / "x.h5"), slices, limit)


def declared(shape, dtype="f8", **options):
    """Writes a data set that is declared and never written."""
    return lambda file, name: file.create_dataset(name, shape, dtype, **options)


def soft(file, name):
    file[name] = h5py.SoftLink("/nowhere")


def external(file, name):
    file[name] = h5py.ExternalLink("/etc/passwd", "/x")


def virtual(file, name):
    layout = h5py.VirtualLayout((6, 5, 4), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "image", (6, 5, 4))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file, name: file.create_group(name), "is a group, not a data set"),
        (lambda file, name: file.__setitem__(name, np.dtype("f8")), "is a type, not a data set"),
        (soft, "has no data set"),
        (external, "link to another file"),
        (virtual, "lies in other files"),
        (lambda file, name: file.create_dataset(name, data="text"), r"not \[H, W, 4\]"),
        (lambda file, name: file.create_dataset(name, data=h5py.Empty("f8")), "holds .* nothing"),
        (lambda file, name: file.create_dataset(name, data=IMAGE.astype("S3")), r"\|S3"),
        (lambda file, name: file.create_dataset(name, data=IMAGE + 1j), "complex128"),
        (declared((6, 5, 4), [("a", "f8"), ("b", "i2")]), "not .* numbers"),
        (declared((6, 5, 4), h5py.string_dtype()), r"object"),
        (declared((6, 0, 4)), r"\[6, 0, 4\], not"),
        (
            declared((10**9, 10**6, 4), chunks=(64, 64, 4), compression="gzip"),
            "at most 4096 x 4096",
        ),
        (declared((6, 5, 4)), "was not written completely"),
        (declared((4096, 4096, 4), compression="gzip"), "was not written completely"),
        (declared((6, 5, 4), maxshape=(None,) * 3, chunks=(4096, 4096, 4)), "in pieces of"),
    ],
)
def test_a_file_without_an_image_is_one_line(tmp_path, make, message):
    path = tmp_path / "volume_1_slice_0.h5"
    with h5py.File(path, "w") as file:
        make(file, "image")
        file.create_dataset("mask", data=MASK)
    with pytest.raises(BratsError, match=message) as error:
        read_slice(str(path))
    assert str(error.value).startswith(str(path)) and "fetch it again" in str(error.value)
