import numpy as np
import pytest
from PIL import Image

from brats_jax.data.sources.tiff_slice import read_image, read_mask
from brats_jax.errors import BratsError

IMAGE = np.arange(256 * 256 * 3).reshape(256, 256, 3).astype(np.uint8)
MASK = np.eye(256, dtype=np.uint8)


def saved(tmp_path, pixels, **options):
    path = tmp_path / "x.tif"
    Image.fromarray(pixels).save(path, **options)
    return str(path)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_an_image_is_read_with_any_compression(tmp_path, compression):
    path = saved(tmp_path, IMAGE, compression=compression)
    np.testing.assert_array_equal(read_image(path), IMAGE)


@pytest.mark.parametrize("top", [1, 255])
def test_a_mask_is_true_where_it_is_255_or_1(tmp_path, top):
    np.testing.assert_array_equal(read_mask(saved(tmp_path, MASK * np.uint8(top))), MASK > 0)


@pytest.mark.parametrize("pixels", [IMAGE[:99], IMAGE[..., 0], IMAGE[..., 0].astype(np.uint16)])
def test_another_size_or_type_is_refused(tmp_path, pixels):
    with pytest.raises(BratsError, match=r"x\.tif holds .* pixels of .*256 x 256 of uint8 of 3"):
        read_image(saved(tmp_path, pixels))


def test_16_bits_in_three_channels_are_refused(tmp_path):
    import tifffile

    path = tmp_path / "x.tif"
    tifffile.imwrite(path, IMAGE.astype(np.uint16))
    with pytest.raises(BratsError, match=r"x\.tif holds 256 x 256 pixels of 16 bits;"):
        read_image(str(path))


def test_a_stack_of_pages_is_refused(tmp_path):
    second = Image.fromarray(IMAGE)
    with pytest.raises(BratsError, match="and 2 pages"):
        read_image(saved(tmp_path, IMAGE, save_all=True, append_images=[second]))


def test_a_mask_of_other_values_is_refused(tmp_path):
    with pytest.raises(BratsError, match=r"values 0, 7, and is no mask of 0 and 255"):
        read_mask(saved(tmp_path, MASK * np.uint8(7)))


@pytest.mark.parametrize("size", [0, 4, 100, 100_000, -1])
def test_a_truncated_file_is_one_line(tmp_path, size):
    path = saved(tmp_path, IMAGE)
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:size])
    with pytest.raises(BratsError, match=r"x\.tif") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_no_other_format_is_read_under_the_name_of_a_tiff(tmp_path):
    path = tmp_path / "x.tif"
    Image.fromarray(IMAGE).save(path, format="PNG")
    with pytest.raises(BratsError, match=r"x\.tif"):
        read_image(str(path))
