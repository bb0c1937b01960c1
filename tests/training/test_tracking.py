"""Trackers by fake libraries, which the process of a tracker imports in place of the real ones."""

import json
import threading
import time
from pathlib import Path

import pytest

from brats_jax.errors import BratsError
from brats_jax.runs.documents import Score
from brats_jax.runs.folder import StageFolder
from brats_jax.runs.settings import Settings
from brats_jax.runtime.signals import Interrupted
from brats_jax.training import tracker_process, tracking
from brats_jax.training.metrics_log import MetricsLog
from brats_jax.training.tracker_adapters import Start
from brats_jax.training.tracking import StageTracking, Tracker, Tracking
from configs import base

WANDB = """
import json, os

def note(*call):
    with open(os.environ["CALLS"], "a") as file:
        file.write(json.dumps(call) + "\\n")

class Settings:
    def __init__(self, **settings): pass

class Run:
    url = "http://me:secret@wandb/run"
    summary = {}
    def log(self, values, step): note("log", step, values)
    def mark_preempting(self): note("preempting")
    def finish(self, exit_code): note("finish", exit_code, self.summary)

def init(**given):
    print("noise on the standard output")
    import tempfile
    tempfile.mkdtemp()
    if os.environ.get("HANG"):
        import time
        time.sleep(60)
    note("init", {n: given[n] for n in ("project", "id", "resume", "name", "group", "job_type")})
    note("config", given["config"])
    return Run()
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Installs the fake; returns a function that reads what was called."""
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "wandb.py").write_text(WANDB)
    paths = [str(tmp_path / "libraries"), str(tracking.__file__).split("/brats_jax/training")[0]]
    monkeypatch.setenv("PYTHONPATH", ":".join(paths))
    monkeypatch.syspath_prepend(paths[0])
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tracking.tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("WANDB_PROJECT", "tumours")

    def read():
        return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]

    return read


def test_a_tracker_gets_names_settings_numbers_and_results_and_no_secret(calls, tmp_path, capsys):
    folder = StageFolder(tmp_path / "ssl" / "fold_0" / "segment")
    trackers = Tracking(("wandb",), "ssl", {"train.batch_size": 16})
    with trackers, trackers.stage(folder, "fold 0 segment") as tracked:
        log = MetricsLog(folder, "fold 0 segment", 40, 0, 0, tracked)
        log.write("train", 10, 1, {"loss": 0.5, "note": "no number"})
        log.close()
        tracked.results("result", {"best": 0.75, "metric": "dice"})
    made = calls()
    identity = json.loads((folder.path / "tracking.json").read_text())["id"]
    assert made[0] == [
        "init",
        {
            "project": "tumours", "id": identity, "resume": "allow", "group": "ssl",
            "name": "ssl fold 0 segment", "job_type": "segment",
        },
    ]  # fmt: skip
    assert made[1:] == [
        ["config", {"train.batch_size": 16, "fold": "fold_0", "stage": "segment"}],
        ["log", 10, {"train/loss": 0.5, "epoch": 1}],
        ["finish", 0, {"result/best": 0.75}],
    ]
    printed = capsys.readouterr().out
    assert printed == "fold 0 segment: wandb has it at http://wandb/run\n"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_stopped_stage_goes_on_in_the_same_tracker_run(calls, tmp_path):
    folder = StageFolder(tmp_path / "fold_0" / "segment")
    stopped = Tracking(("wandb",), "ssl")
    with pytest.raises(Interrupted), stopped, stopped.stage(folder, "fold 0 segment"):
        raise Interrupted(15)
    # The evaluation opens it again while the process of the training may still be ending.
    with Tracking(("wandb",), "ssl") as trackers:
        for value in (1.0, 2.0):
            with trackers.stage(folder, "fold 0 segment") as tracked:
                tracked.results("test", {"dice": value})
    made = calls()
    assert len({call[1]["id"] for call in made if call[0] == "init"}) == 1
    assert [call[0] for call in made] == [
        *("init", "config", "preempting", "finish"),
        *("init", "config", "finish") * 2,
    ]
    assert [call[1:] for call in made if call[0] == "finish"] == [
        [1, {}], [0, {"test/dice": 1.0}], [0, {"test/dice": 2.0}],
    ]  # fmt: skip


def test_a_tracker_that_hangs_costs_no_time_and_says_once_what_it_lost(
    calls, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HANG", "1")
    monkeypatch.setattr(tracking, "END_S", 0.5)
    monkeypatch.setattr(tracking, "MOST_WAITING", 10)
    begin = time.monotonic()
    trackers = Tracking(("wandb",), "ssl")
    with trackers, trackers.stage(StageFolder(tmp_path / "s"), "fold 0 segment") as tracked:
        for step in range(5_000):  # more than the pipe and both queues hold
            tracked.write("step", step, 1, {"mean_loss_of_epoch_so_far": 0.5})
        assert time.monotonic() - begin < 20
    assert time.monotonic() - begin < 30
    assert capsys.readouterr().out == (
        "note: fold 0 segment: wandb did not answer in time: 5000 of 5000 records did not reach "
        "it; metrics.jsonl has them all\n"
    )
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_tracker_that_ends_while_it_starts_is_killed(calls, tmp_path, monkeypatch):
    """A busy machine: the time is up before the thread that reads the answers runs."""
    started = threading.Thread.start

    def slow(thread):
        if thread._target.__name__ == "_listen":
            time.sleep(1)
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", slow)
    start = Start("1", "run", "ssl", "fold_0", "segment", folder=str(tmp_path))
    tracker = Tracker("wandb", "fold 0 segment", start, None)
    tracker._started.wait(10)
    tracker.wait(time.monotonic())
    assert tracker._process.poll() is not None


def test_a_library_has_a_home_where_the_user_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert tracking._environment(tmp_path)["HOME"] == "/home/someone"

    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    found = tracking._environment(tmp_path)
    assert (found["HOME"], found["TMPDIR"]) == (str(tmp_path), str(tmp_path))


@pytest.mark.parametrize(
    ("setting", "environment", "expected"),
    [
        ("auto", {}, ()),
        ("auto", {"WANDB_PROJECT": "p"}, ("wandb",)),
        ("auto", {"WANDB_PROJECT": "p", "WANDB_MODE": "disabled"}, ()),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, ()),
        ("auto", {"WANDB_PROJECT": "p", "MLFLOW_TRACKING_URI": "u"}, ("wandb", "mlflow")),
        ("none", {"WANDB_PROJECT": "p", "MLFLOW_TRACKING_URI": "u"}, ()),
        ("mlflow", {"WANDB_PROJECT": "p"}, ("mlflow",)),
    ],
)
def test_a_tracker_is_on_by_its_variable_or_by_name(setting, environment, expected):
    assert tracking.active_trackers(setting, environment) == expected


def settings_with(trackers):
    config = base.get_config()
    config.trackers = trackers
    return Settings.from_json(json.loads(config.to_json()))


def test_a_tracker_that_cannot_work_is_refused_by_name(monkeypatch):
    with pytest.raises(BratsError, match=r"config.trackers=wandb,comet: give auto, none, or"):
        settings_with("wandb,comet").check()
    monkeypatch.setattr(tracking, "is_installed", lambda name: name == "mlflow")
    with pytest.raises(BratsError, match=r"wandb is not installed; pip install 'brats_jax\[wandb"):
        Tracking.check(settings_with("wandb"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(BratsError, match="MLFLOW_TRACKING_URI is not set"):
        Tracking.check(settings_with("mlflow"))
    Tracking.check(settings_with("auto"))


def test_the_test_scores_are_named_by_set_metric_class_and_convention():
    rows = [
        Score("segment", "patient", "volumes", "NCR/NET", "dice", "brats2020", 0.5, 3),
        Score("segment", "slice", "all slices", "brain", "mse", "", 0.25, 3),
        Score("segment", "patient", "volumes", "ET", "hd95_mm", "both_present", None, 0),
        Score("pretrain", "slice", "all slices", "brain", "mse", "", 0.125, 3),
    ]
    assert tracking._scores(rows, "segment") == {
        "volumes/dice_NCR_brats2020": 0.5,
        "all_slices/mse_brain": 0.25,
    }


def test_a_variable_without_the_library_is_a_note(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_PROJECT", "p")
    monkeypatch.setattr(tracking, "is_installed", lambda name: False)
    trackers = Tracking.of(settings_with("auto"), tmp_path / "run")
    assert "WANDB_PROJECT is set, but it is not installed" in capsys.readouterr().out
    with trackers, trackers.stage(StageFolder(tmp_path / "s"), "fold 0 segment") as tracked:
        tracked.write("step", 1, 1, {"loss": 1.0})
    assert not (tmp_path / "s").exists()


def test_of_several_processes_only_the_main_one_tracks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_PROJECT", "p")
    monkeypatch.setattr(tracking, "is_installed", lambda name: True)
    monkeypatch.setattr(tracking.distributed, "is_main", lambda: False)
    trackers = Tracking.of(settings_with("auto"), tmp_path / "run")
    with trackers, trackers.stage(StageFolder(tmp_path / "s"), "fold 0 segment") as tracked:
        tracked.write("step", 1, 1, {"loss": 1.0})
    assert not (tmp_path / "s").exists() and capsys.readouterr().out == ""


def test_parameters_hold_no_folder_of_the_machine_and_no_patient(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "p")
    monkeypatch.setattr(tracking, "is_installed", lambda name: True)
    settings = settings_with("wandb").with_value("data", "store", "/home/me/store")
    settings = settings.with_value("data", "training_only", "BraTS2021_01476")
    trackers = Tracking.of(settings, tmp_path / "run")
    assert trackers._params["data.store"] == "" and trackers._params["train.batch_size"] == 16
    values = [str(value) for value in trackers._params.values()]
    assert not any("/" in value or "BraTS2021_01476" in value for value in values)


def test_without_a_tracker_nothing_is_started_or_written(tmp_path):
    threads = threading.active_count()
    with Tracking() as trackers, trackers.stage(StageFolder(tmp_path / "s"), "t") as tracked:
        tracked.write("step", 1, 1, {"loss": 1.0})
        assert isinstance(tracked, StageTracking) and threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []
    assert tracker_process.END_S > tracking.END_S  # the training waits less than the process
