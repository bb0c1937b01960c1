"""A case from the volumes of its modalities."""

import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.labels import SCHEMES
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.volumes import read_volume
from brats_jax.data.sources.volume_case import LabelVolume, case_from_volumes

MSD = [SCHEMES["msd"]]


@pytest.fixture
def arrays(brats_files):
    return brats_files.make_case()


@pytest.fixture
def read(tmp_path, arrays, brats_files):
    def read_one(name, codes="LPS", voxels=None):
        path = tmp_path / f"A_{name}.nii.gz"
        brats_files.write_volume(path, arrays[name] if voxels is None else voxels, codes)
        return read_volume(str(path))

    return read_one


def test_absent_modalities_are_zero_and_not_present(read, arrays):
    volumes = {name: read(name) for name in ("flair", "t1")}
    case = case_from_volumes("A", volumes, None, ReadOptions(), {})
    assert case.present == ("t1", "flair") and case.labels is None and case.label_kind == "none"
    for channel, name in enumerate(MODALITIES):
        expected = np.moveaxis(arrays[name], 2, 0) if name in volumes else 0
        np.testing.assert_array_equal(case.images[..., channel], expected)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SAL"])
def test_labels_of_the_whole_tumour_stay_a_mask_in_all_axes(read, arrays, codes):
    mask = (arrays["seg"] != 0).astype(np.uint8)
    labels = LabelVolume(read("seg", codes, mask), MSD, kind="whole_tumour")
    case = case_from_volumes("A", {"flair": read("flair", codes)}, labels, ReadOptions(), {})
    assert case.label_kind == "whole_tumour"
    np.testing.assert_array_equal(case.labels, np.moveaxis(mask, 2, 0))


def test_the_scheme_decides_what_a_value_means(read, arrays):
    msd = np.array([0, 2, 1, 3], np.uint8)[arrays["seg"]]  # 1 is ED, 2 is NCR/NET
    labels = LabelVolume(read("seg", voxels=msd), MSD)
    case = case_from_volumes("A", {"flair": read("flair")}, labels, ReadOptions(), {})
    np.testing.assert_array_equal(case.labels, np.moveaxis(arrays["seg"], 2, 0))
    assert not np.array_equal(case.labels, np.moveaxis(msd, 2, 0))
