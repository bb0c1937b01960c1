import nibabel
import numpy as np
import pytest

from brats_jax.data.scans import provenance
from brats_jax.data.sources.detect import open_source
from brats_jax.data.sources.phantom.files import write_cases
from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.errors import BratsError

SHAPE = (16, 32, 32)


def test_files_read_back_as_the_phantom_itself(tmp_path):
    said = []
    folders = write_cases(tmp_path, patients=2, seed=3, shape=SHAPE, say=said.append)
    assert [folder.name for folder in folders] == ["Phantom-3-001", "Phantom-3-002"]
    assert len(said) == 2
    phantom, source = PhantomSource(2, 3, SHAPE), open_source(str(tmp_path))
    for drawn, name in zip(phantom.patients(), source.patients(), strict=True):
        case, other = phantom.read(drawn), source.read(name)
        np.testing.assert_array_equal(case.images, other.images)
        np.testing.assert_array_equal(case.labels, other.labels)
        np.testing.assert_allclose(case.affine, other.affine, atol=1e-5)
    seg = nibabel.load(folders[0] / "Phantom-3-001_seg.nii.gz")
    assert nibabel.aff2axcodes(seg.affine) == ("L", "P", "S")
    assert set(np.unique(seg.dataobj)) <= {0, 1, 2, 4} and seg.get_data_dtype() == np.int16
    assert provenance.note_of(seg.header) == "brats_jax phantom, no patient"
    assert not provenance.is_prediction(seg.header)
    # Whole cases stay as they are, what is missing is written again.
    t2 = folders[1] / "Phantom-3-002_t2.nii.gz"
    content = t2.read_bytes()
    t2.unlink()
    before = (folders[0] / "Phantom-3-001_t1.nii.gz").stat().st_mtime_ns
    said.clear()
    write_cases(tmp_path, patients=2, seed=3, shape=SHAPE, say=said.append)
    assert said == [f"{folders[0]}: there already, kept", f"{folders[1]}: written"]
    assert t2.read_bytes() == content
    assert (folders[0] / "Phantom-3-001_t1.nii.gz").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("options", "message"),
    [({"patients": 0}, "at least 1"), ({"shape": (4, 32, 32)}, "three sizes from 16 to 480")],
)
def test_impossible_phantoms_are_refused(tmp_path, options, message):
    with pytest.raises(BratsError, match=message):
        write_cases(tmp_path / "scans", **{"patients": 1, "shape": SHAPE, **options})
    assert not (tmp_path / "scans").exists()


def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "scans").write_text("a file")
    with pytest.raises(BratsError, match=r"_t1.nii.gz cannot be written \(.*choose another folder"):
        write_cases(tmp_path / "scans", patients=1, shape=SHAPE)
