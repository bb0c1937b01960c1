import dataclasses

import numpy as np
import pytest

from brats_jax.data.scans.orientation import settle_images, settle_labels
from brats_jax.data.scans.volumes import Volume
from brats_jax.errors import BratsError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NAMES = ("t1", "t1gd", "t2", "flair")


@pytest.fixture
def case(brats_files):
    """Labels and images, all LPS."""
    made = brats_files.make_case()
    return {n: Volume(f"/c/{n}.nii", made[n], brats_files.AFFINE, None) for n in (*NAMES, "seg")}


def says(volume, affine=None):
    """The volume with another affine in its header; without one by default."""
    if affine is None:
        return dataclasses.replace(volume, unknown_axes="has no code", affine=LPS)
    return dataclasses.replace(volume, affine=affine)


def images(case, **changed):
    return {name: changed.get(name, case[name]) for name in NAMES}


def test_without_contradiction_every_header_counts(case):
    found = settle_images(images(case))
    assert found.volumes == images(case) and not found.notes and not found.read_as
    assert found.reference is case["t1"]


def test_the_majority_decides_against_a_header_and_for_one_without_code(case):
    found = settle_images(images(case, t1=says(case["t1"], np.eye(4)), flair=says(case["flair"])))
    assert {volume.codes for volume in found.volumes.values()} == {"LPS"}
    assert found.read_as == {"t1": "LPS", "flair": "LPS"} and found.reference is case["t1gd"]
    assert found.notes == [
        "t1.nii is RAS by its header, which its fellows contradict; read as LPS, like the other "
        "files of the case",
        "flair.nii has no code; read as LPS, like the other files of the case",
    ]


def test_a_tie_is_refused_and_settled(case):
    two = images(case, t1=says(case["t1"], np.eye(4)), t2=says(case["t2"], np.eye(4)))
    with pytest.raises(BratsError, match=r"without a majority \(t1.nii, t2.nii: RAS; t1gd.nii, "):
        settle_images(two)
    with pytest.raises(BratsError, match="--orientation=SPL is none of them"):
        settle_images(two, "SPL")
    for codes in ("LPS", "RAS"):
        found = settle_images(two, codes)
        assert {volume.codes for volume in found.volumes.values()} == {codes}


def test_without_any_code_both_readings_are_named(case):
    none = {name: says(case[name]) for name in NAMES}
    with pytest.raises(BratsError, match=r"may be LAS or LPS .*--orientation=LAS"):
        settle_images(none)
    assert settle_images(none, "LPS").volumes["t2"].codes == "LPS"
    assert settle_images(none, labels=case["seg"]).volumes["t2"].codes == "LPS"


def test_a_vote_that_the_brain_contradicts_is_refused(case):
    turned = dataclasses.replace(
        case["t2"], voxels=case["t2"].voxels[:, ::-1], unknown_axes="no code"
    )
    with pytest.raises(BratsError, match=r"read as LPS, it fits the brain .* worse than as LAS"):
        settle_images(images(case, t2=turned))
    found = settle_images(images(case, t2=turned), "LPS")
    assert found.volumes["t2"].codes == "LPS"


def test_where_headers_disagree_the_only_reading_in_the_brain_is_taken():
    brain = np.zeros((4, 4, 4), bool)
    brain[0, 0] = True
    reference = Volume("t1.nii", brain.astype(np.int16), LPS, None)
    labels = Volume("seg.nii", brain.astype(np.uint8), np.eye(4), None)  # says RAS, is LPS
    notes = []
    found = settle_labels(labels, [reference], lambda: brain, "", notes)
    np.testing.assert_array_equal(found, labels.voxels)
    assert notes == ["seg.nii is RAS, t1.nii is LPS; read as LPS (4 voxels in the brain)"]


def test_labels_of_another_shape_or_voxel_size_are_refused(case):
    seg, read = case["seg"], list(images(case).values())
    small = dataclasses.replace(seg, voxels=seg.voxels[:-1])
    for labels, message in (
        (small, "seg.nii is 23 x 20 x 8, /c/t1.nii is 24 x 20 x 8"),
        (says(seg, np.diag([-0.5, -0.5, 1, 1])), "voxels of 0.5 x 0.5 x 1 mm"),
        (says(small), "is 23 x 20 x 8"),
    ):
        with pytest.raises(BratsError, match=message):
            settle_labels(labels, read, lambda: read[0].voxels != 0, "", [])
