import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from processes import living_processes_of

from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "brats_jax.prepare", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def error_of(*arguments):
    """The one line of a command that must fail."""
    status, out, err = run(*arguments)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 1 and not out and len(lines) == 1 and "Traceback" not in err, err
    assert err.splitlines()[-1] == lines[0]
    return lines[0]


@pytest.fixture(scope="module")
def volumes(brats_files):
    return brats_files.make_case()


@pytest.fixture
def source(tmp_path, brats_files, volumes):
    brats_files.write_nifti_case(tmp_path / "source", "BraTS2021_00001", volumes)
    return tmp_path / "source"


def test_the_summary_describes_the_store(source, tmp_path):
    status, out, err = run(f"--source={source}", f"--store={tmp_path / 'store'}", "--verify")
    assert status == 0, err
    Store.open(tmp_path / "store")
    words = {line.split("  ")[0]: line for line in out.splitlines()}
    assert words["patients"].split() == ["patients", "1"]
    assert "8 of 24 x 20" in words["slices"] and "confirmed" in words["channel audit"]
    assert "slice: clip at the 99.5th percentile" in words["normalisation"]
    assert {"background", "NCR/NET", "ED", "ET"} <= words.keys()
    assert "all 5 files are as they were written" in out
    assert err == ""  # no bar where there is no terminal
    status, out, err = run(f"--source={source}", f"--store={tmp_path / 'store'}")
    assert status == 0 and "is complete: nothing to do" in err and "patients" in out


def test_the_default_store_is_stores_default_and_nothing_else_is_written(tmp_path):
    process = start(
        "--source=phantom", "--patients=1", "--seed=4", "--shape=16,32,32",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert process.wait(timeout=120) == 0
    process.communicate()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")] == ["stores/default"]
    assert Store.open(tmp_path / "stores/default").num_slices == 16


def test_with_a_closed_output_pipe_the_store_is_complete(tmp_path):
    """As with `| head`: quiet, and the store is whole."""
    process = start("--source=phantom", "--patients=1", "--shape=16,32,32", f"--store={tmp_path}/s")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=120) == 141 and err == ""
    assert Store.open(tmp_path / "s").num_slices == 16


def test_preparation_does_not_load_jax():
    code = (
        "import sys, brats_jax.prepare; print(*[m for m in ('jax', 'grain') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


def test_verify_finds_a_changed_byte(source, tmp_path):
    assert run(f"--source={source}", f"--store={tmp_path / 'store'}")[0] == 0
    assert run(f"--store={tmp_path / 'store'}", "--verify")[0] == 0
    path = tmp_path / "store/cases/BraTS2021_00001.labels.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert f"{path} has changed" in error_of(f"--store={tmp_path / 'store'}", "--verify")


# As `inference.Model.note` has it.
PREDICTED = b"RESEARCH USE ONLY, no diagnosis; brats_jax 0.1.0; model 0123456789ab"
BAD = {
    "missing modality": r"has no t1gd volume",
    "no labels": r"has no labels",
    "shapes": r"_t2.nii.gz is 23 x 20 x 8",
    "labels": r"_seg.nii.gz has the label values 0, 7",
    "truncated": r"_flair.nii.gz cannot be read",
    "predicted": r"_seg.nii.gz was predicted by this program",
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_nifti_case_is_one_line_with_its_file(source, tmp_path, brats_files, volumes, what):
    folder = source / "BraTS2021_00001"
    paths = {path.name.split("_")[-1].split(".")[0]: path for path in folder.iterdir()}
    if what == "missing modality":
        paths["t1ce"].unlink()
    elif what == "no labels":
        paths["seg"].unlink()
    elif what == "shapes":
        brats_files.write_volume(paths["t2"], volumes["t2"][1:])
    elif what == "labels":
        brats_files.write_volume(paths["seg"], np.where(volumes["seg"] > 0, 7, 0).astype(np.uint8))
    elif what == "predicted":
        image = nib.load(paths["seg"])
        image.header["descrip"] = PREDICTED
        nib.save(image, paths["seg"])
    else:
        paths["flair"].write_bytes(paths["flair"].read_bytes()[:200])
    line = error_of(f"--source={source}", f"--store={tmp_path / 'store'}", "--require_labels")
    assert BAD[what] in line and str(folder) in line and ": " in line
    assert line.endswith("such cases out with --skip_bad_cases")
    assert not (tmp_path / "store").exists()


def test_bad_kaggle_files_are_one_line(tmp_path, brats_files, volumes):
    files = brats_files.write_kaggle(tmp_path / "k", 1, volumes, compression="gzip")
    arguments = f"--source={tmp_path / 'k'}", f"--store={tmp_path / 'store'}"
    line = error_of(*arguments, "--normalisation=volume")
    assert "z-scored slice by slice" in line
    line = error_of(*arguments, "--channel_order=t1,t1ce,t2,flair")
    assert "--channel_order=flair,t1,t1gd,t2 would fit" in line
    files[3].write_bytes(files[3].read_bytes()[:-500])
    line = error_of(*arguments)
    assert f"{files[3]} cannot be read" in line and "fetch it again" in line
    assert not (tmp_path / "store").exists()


def test_an_empty_folder_and_a_missing_source_are_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    store = f"--store={tmp_path / 'store'}"
    line = error_of(f"--source={tmp_path / 'empty'}", store)
    assert "holds no BraTS data" in line and "volume_N_slice_M.h5" in line
    assert "--source is missing" in error_of(store)
    assert not (tmp_path / "store").exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at processes in /proc")
def test_a_preparation_that_is_killed_repeatedly_has_the_same_store(tmp_path, brats_files):
    for seed in range(16):
        case = brats_files.make_case(seed, shape=(48, 48, 20))
        brats_files.write_nifti_case(tmp_path / "source", f"P{seed:02d}", case, suffix=".nii")
    store = tmp_path / "store"
    arguments = f"--source={tmp_path / 'source'}", f"--store={store}", "--workers=2"
    for kills in (1, 2):
        process = start(*arguments, start_new_session=True)
        deadline = time.monotonic() + 60
        while len(list(store.glob("cases/*.json"))) < 4 * kills:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (store / "manifest.json").exists()
        while living_processes_of(process.pid):  # the workers go with it
            assert time.monotonic() < deadline
            time.sleep(0.01)
    status, _, err = run(*arguments)
    assert status == 0 and "of 16 cases already there" in err, err
    prepare(tmp_path / "source", tmp_path / "fresh", workers=1)
    assert Store.open(store).fingerprint == Store.open(tmp_path / "fresh").fingerprint
    names = {str(p.relative_to(store)) for p in store.rglob("*") if p.is_file()}
    assert names == {*Store.open(store).manifest.files, "manifest.json"}
