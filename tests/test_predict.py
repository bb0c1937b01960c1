"""predict and calibrate as commands, in processes of their own: absl's flags are global."""

import json
import shutil

import nibabel as nib
import numpy as np
import prediction_examples as examples
import pytest
from processes import command

import brats_jax


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "or --checkpoint=small, --input=CASE_OR_FOLDER and --output=DIR"),
        (["--checkpoint=r", "--output=o"], "give --input=CASE_OR_FOLDER, or the files of one case"),
        (["--checkpoint=small", "--input=i"], "error: give --output=DIR"),
        (["--output=o", "--input=i"], "error: give --checkpoint=RUN"),
        (["--checkpoint=r", "--output=o", "--input=i", "--t1=a", "--t1ce=b"],
         "--input and --t1 --t1gd are both given: give one of the two"),
        (["--checkpoint=r", "--output=o", "--input=i", "--et_label=5"], "--et_label"),
        (["--checkpoint=r", "--output=o", "--input=i", "--min_et_mm3=-1"], "--min_et_mm3"),
        (["--checkpoint=r", "--output=o", "--input=i", "--task=reconstruct", "--page"],
         "--picture and --page are for --task=segment"),
        (["--checkpoint=r", f"--output={__file__}", "--input=."], "is a file: choose another"),
        (["--checkpont=r"], "Did you mean: checkpoint"),
        (["what"], "unexpected argument 'what'"),
    ],
)  # fmt: skip
def test_wrong_flags_are_one_line(arguments, message):
    status, out, err = command("predict", *arguments)
    assert (status, out) == (1, "") and message in err
    assert err.startswith("error: ") and len(err.splitlines()) == 1


def test_cases_become_segmentations_sidecars_and_maps(example_runs, shared_folder, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(example_runs["volume"], folder)
    cache, run, out = shared_folder, folder / "run", tmp_path / "out"
    status, printed, err = command("calibrate", f"--checkpoint={run}", cache=cache)
    assert status == 0, err
    assert "fold 1: temperature" in printed and "ECE" in printed
    bad = folder / "cases" / examples.CASES[2] / f"{examples.CASES[2]}_t2.nii.gz"
    bad.unlink()
    status, printed, err = command(
        "predict", f"--checkpoint={run}", f"--input={folder / 'cases'}", f"--output={out}",
        "--tta", "--calibrated", "--min_component_mm3=5", "--min_et_mm3=3", "--et_label=3",
        "--probabilities", "--uncertainty", "--page", "--picture", cache=cache,
    )  # fmt: skip
    assert status == 1
    (line,) = [line for line in err.splitlines() if line.startswith("error")]
    assert examples.CASES[2] in line and "no T2 volume" in line
    assert (printed + err).count("no T2 volume") == 1  # each error once
    assert brats_jax.RESEARCH_USE_ONLY in printed and "predictions averaged: 8" in printed
    assert f"2 written, 0 kept, 1 failed: {examples.CASES[2]}" in printed
    for file in ("seg.png", "seg.html", "prob_*.nii.gz", "entropy.nii.gz"):
        assert f": {out}/*_{file}\n" in printed
    assert f"uncertainty (entropy in nats): {out}/*_entropy.nii.gz\n" in printed
    assert "Traceback" not in err
    of_case = {part.split(":")[0]: part for part in printed.replace("\n  note: ", " ").split("\n")}
    seen = [case for case, part in of_case.items() if "is in the training" in part]
    assert seen == [examples.CASES[1]]  # the first one is in the test set
    labels = nib.load(out / f"{examples.CASES[0]}_seg.nii.gz")
    assert set(np.unique(np.asarray(labels.dataobj))) <= {0, 1, 2, 3}
    sidecar = json.loads((out / f"{examples.CASES[0]}_seg.json").read_text())
    assert sidecar["averaged"] == {"folds": 2, "flips": 4} and sidecar["min_et_mm3"] == 3
    assert all(fold["temperature"] != 1 for fold in sidecar["model"]["folds"])
    assert len(list(out.glob("*_seg.png"))) == len(list(out.glob("*_seg.html"))) == 2
    assert len(list(out.glob("*.nii.gz"))) == 10 and (out / "volumes.csv").exists()
    # Files given one by one, with any name and in any order.
    name = examples.CASES[0]
    one = folder / "cases" / name / f"{name}_t1.nii.gz"
    status, _, err = command(
        "predict", f"--checkpoint={run}", f"--output={tmp_path / 'none'}", f"--t1={one}",
        cache=cache,
    )  # fmt: skip
    assert status == 1 and not (tmp_path / "none").exists()
    message = "--t1gd and --flair and --t2 are missing: the model needs --t1gd --t2 --flair"
    last = err.splitlines()[-1]
    assert last.startswith(f"error: {message}; or give a model")
    assert "--synthesise" not in last  # which needs T1Gd
    named = []
    for modality, suffix in (("flair", "flair"), ("t2", "t2"), ("t1gd", "t1ce"), ("t1", "t1")):
        path = tmp_path / f"{suffix}.nii.gz"
        shutil.copy(folder / "cases" / name / f"{name}_{path.name}", path)
        named.append(f"--{modality}={path}")
    status, printed, err = command(
        "predict", f"--checkpoint={run}", f"--output={tmp_path / 'one'}", *named, "--tta",
        "--calibrated", "--min_component_mm3=5", "--min_et_mm3=3", "--et_label=3", cache=cache,
    )  # fmt: skip
    assert status == 0, err
    assert "1 written, 0 kept, 0 failed" in printed
    (path,) = (tmp_path / "one").glob("*_seg.nii.gz")
    np.testing.assert_array_equal(nib.load(path).dataobj, labels.dataobj)
    sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["inputs"]["t1gd"] == "t1ce.nii.gz"
