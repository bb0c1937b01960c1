"""An image of another case is named as such; only whole copies of a case are called copies."""

import pytest

from brats_jax.data.store.prepare import prepare


@pytest.fixture
def prepared(tmp_path, brats_files):
    """A function that prepares A and B, of which B is changed: (manifest, what was said)."""

    def run(change):
        a, b = brats_files.make_case(1), brats_files.make_case(2)
        b = {name: b[name][::-1].copy() for name in b}
        change(a, b)
        brats_files.write_nifti_case(tmp_path / "source", "BraTS2021_00011", a)
        brats_files.write_nifti_case(tmp_path / "source", "BraTS2021_00022", b)
        said = []
        manifest = prepare(
            tmp_path / "source", tmp_path / "store", workers=1, ignore_audit=True, say=said.append
        )
        return manifest, "\n".join(said)

    return run


def test_one_image_of_another_case_is_named_and_no_case_is_called_a_copy(prepared):
    manifest, said = prepared(lambda a, b: b.update(flair=a["flair"]))
    text = (
        "FLAIR of BraTS2021_00011 and FLAIR of BraTS2021_00022 are one image, their T1 and T1Gd "
        "and T2 differ: one of these files is wrong"
    )
    assert text in said and "keep both cases" in said and "remove the copies" not in said
    assert all(any(text in line for line in lines) for lines in manifest.notes.values())
    assert len(manifest.notes) == 2 and len(set(manifest.subjects)) == 1


def test_an_image_of_another_case_under_another_modality_is_named(prepared):
    _, said = prepared(lambda a, b: b.update(t2=a["flair"]))
    assert "FLAIR of BraTS2021_00011 and T2 of BraTS2021_00022 are one image" in said


def test_three_equal_images_of_four_name_the_one_that_differs(prepared):
    _, said = prepared(lambda a, b: b.update({**a, "t1": b["t1"]}))
    assert "their T1 differs: one of these files is wrong" in said
    assert "remove the copies" not in said and "another case's labels" not in said


@pytest.mark.parametrize("lacks", [(), ("t2",), ("t1", "t2", "seg")])
def test_copies_are_called_copies_though_some_images_are_missing(prepared, lacks):
    def change(a, b):
        b.update(a)
        for name in lacks:
            del b[name]

    manifest, said = prepared(change)
    assert "the images of BraTS2021_00011, BraTS2021_00022 are equal: taken for one person" in said
    assert "one of these files" not in said and len(set(manifest.subjects)) == 1


def test_different_cases_are_not_accused(prepared):
    manifest, said = prepared(lambda a, b: None)
    assert "are one image" not in said and len(set(manifest.subjects)) == 2
