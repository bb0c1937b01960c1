"""A folder of cases is predicted; each failure is reported in one line."""

import json
import os
import shutil
import signal
import threading

import prediction_examples as examples
import pytest

from brats_jax.data.scans import writing
from brats_jax.inference import case_pipeline, cases
from brats_jax.inference.cases import predict_cases
from brats_jax.inference.output_names import OutputOptions
from brats_jax.runtime.item_progress import ItemProgress

pytestmark = pytest.mark.usefixtures("shallow")


def test_partial_files_of_a_killed_process_are_removed_later(model, tmp_path):
    names = (".a_seg.nii.gz.abcd_123", ".a_seg.html.abcd_123", ".a_seg.nii.gz", ".notes.abcd_123")
    for name in (*names, ".b_seg.nii.gz.abcd_123"):
        (tmp_path / name).write_text("")
    for name in names:
        os.utime(tmp_path / name, (0, 0))
    predict_cases(model, [], tmp_path, OutputOptions())
    left = {path.name for path in tmp_path.iterdir()}
    # The first may belong to a running process, the others are not this program's.
    assert left == {".b_seg.nii.gz.abcd_123", ".a_seg.nii.gz", ".notes.abcd_123"}


def test_a_tumour_in_air_is_reported(model, example_runs, tmp_path, capsys):
    # A network with random weights labels air as tumour.
    examples.run_on(model, example_runs["volume"] / "cases", tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    # Each note has a line of its own, so that none hides behind another.
    assert any(
        line.startswith("  note: ") and "of this tumour lies in air" in line for line in lines
    )
    for case in examples.CASES:
        notes = json.loads((tmp_path / "out" / f"{case}_seg.json").read_text())["notes"]
        assert sum("of this tumour lies in air" in note for note in notes) == 1
    of_cases = [line for line in lines if line.startswith(examples.CASES)]
    assert of_cases and all(line.endswith(" s)") for line in of_cases)


def test_a_damaged_case_is_named_and_the_others_are_predicted(
    example_runs, model, brats_files, tmp_path
):
    source = tmp_path / "in"
    shutil.copytree(example_runs["volume"] / "cases", source)
    bad = examples.CASES[1]
    path = source / bad / f"{bad}_t2.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    outcome, images = examples.run_on(model, source, tmp_path / "out")
    assert set(images) == set(examples.CASES) - {bad}
    assert str(path) in outcome.failed[bad] and "fetch it again" in outcome.failed[bad]
    assert not list((tmp_path / "out").glob(f"*{bad}*"))


def test_a_stop_leaves_a_case_without_files_whose_files_are_not_made(
    model, example_runs, tmp_path, monkeypatch
):
    goes_on, compressed, threads = threading.Event(), writing.compressed, set()

    def slow(image):
        if not threads:
            os.kill(os.getpid(), signal.SIGINT)
        threads.add(threading.current_thread())
        goes_on.wait(30)
        return compressed(image)

    monkeypatch.setattr(writing, "compressed", slow)
    monkeypatch.setattr(case_pipeline, "PATIENCE_S", 0.01)
    with pytest.raises(KeyboardInterrupt):
        examples.run_on(model, example_runs["volume"] / "cases", tmp_path / "out")
    goes_on.set()
    for thread in threads:
        thread.join(30)
    assert threads and not list((tmp_path / "out").iterdir())


def test_what_is_done_is_told_while_a_case_is_computed(
    model, example_runs, tmp_path, monkeypatch, capsys
):
    """In a log; the lines of finished cases are as without it."""
    told = []

    class Told(ItemProgress):
        def doing(self, what):
            told.append(what)

        def part(self, item, share):
            told.append((item, share))

        def computed(self):
            told.append("computed")

        def update(self):
            told.append("finished")

    monkeypatch.setattr(cases, "ItemProgress", Told)
    name = examples.CASES[0]
    examples.run_on(model, example_runs["volume"] / "cases" / name, tmp_path / "out")
    assert told.index(f"reading {name}") < told.index((name, 0.0)) < told.index((name, 1.0))
    assert told[-3:] == ["computed", f"writing {name}", "finished"]
    shares = [one[1] for one in told if isinstance(one, tuple)]
    assert shares == sorted(shares)
    assert (
        len([line for line in capsys.readouterr().out.splitlines() if line.startswith(name)]) == 1
    )
