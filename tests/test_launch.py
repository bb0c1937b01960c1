"""The SLURM scripts and setup.sh, with a stand-in for Python."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parent.parent / "launch"
SCRIPTS = ("slurm_folds.sh", "slurm_grid.sh", "slurm_nodes.sh")
ARGUMENTS = dict.fromkeys(SCRIPTS, ("CONFIG", "RUN", "STORE")) | {
    "slurm_grid.sh": ("GRID", "STORE")
}
ARRAY = {
    "SLURM_ARRAY_JOB_ID": "70",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_ARRAY_TASK_COUNT": "4",
}


@pytest.fixture
def place(tmp_path):
    """A folder to submit from: python and srun print their arguments, scontrol writes them."""
    shutil.copytree(LAUNCH, tmp_path / "elsewhere")  # SLURM runs a copy
    for name, text in {
        ".venv/bin/python": '#!/bin/bash\nprintf "%s\\n" "$@"\n',
        "bin/srun": '#!/bin/bash\nprintf "%s\\n" srun "$@"\n',
        "bin/scontrol": '#!/bin/bash\necho "$@" > requeued\n',
        # Cancels the stand-in for srun, as SLURM does its steps.
        "bin/scancel": '#!/bin/bash\necho "$@" > cancelled; kill -TERM $(cat worker)\n',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def start(place, script, *arguments, **variables):
    environment = {
        **os.environ, "PATH": f"{place}/bin:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(place), "SLURM_JOB_ID": "77", **variables,
    }  # fmt: skip
    return subprocess.Popen(
        ["bash", str(place / "elsewhere" / script), *arguments],
        env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_each_task_of_an_array_trains_one_fold(place):
    process = start(
        place, "slurm_folds.sh", "configs/ssl.py", "RUN", "STORE", "--config.loss=focal",
        SLURM_ARRAY_TASK_ID="3",
    )  # fmt: skip
    assert process.communicate()[0].split() == [
        "-m", "brats_jax.main", "--config=configs/ssl.py", "--workdir=RUN",
        "--config.data.store=STORE", "--config.folds=3", "--config.loss=focal",
    ]  # fmt: skip
    assert process.returncode == 0


def test_a_fold_on_several_nodes_is_started_by_srun(place):
    process = start(
        place, "slurm_nodes.sh", "configs/ssl.py", "RUN", "STORE", "--config.loss=focal",
        SLURM_ARRAY_TASK_ID="3", SLURM_CPUS_PER_TASK="6",
    )  # fmt: skip
    assert process.communicate()[0].split() == [
        "srun", "--kill-on-bad-exit=1", "--cpus-per-task=6", ".venv/bin/python", "-m",
        "brats_jax.main", "--distributed", "--config=configs/ssl.py", "--workdir=RUN",
        "--config.data.store=STORE", "--config.folds=3", "--config.loss=focal",
    ]  # fmt: skip
    assert process.returncode == 0


@pytest.mark.parametrize(("task", "first", "shard"), [("2", "0", "2/5"), ("4", "3", "1/5")])
def test_each_task_of_an_array_runs_one_shard_of_the_grid(place, task, first, shard):
    process = start(
        place, "slurm_grid.sh", "GRID", "STORE", "--seeds=0,1",
        SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_MIN=first, SLURM_ARRAY_TASK_COUNT="5",
    )  # fmt: skip
    assert process.communicate()[0].split() == [
        "-m", "brats_jax.grid", "--config=configs/ssl.py", "--workdir=GRID",
        "--config.data.store=STORE", f"--shard={shard}", "--seeds=0,1",
    ]  # fmt: skip
    assert process.returncode == 0


def test_a_failed_grid_fails_its_task(place):
    (place / ".venv/bin/python").write_text("#!/bin/bash\nexit 1\n")
    variables = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1"}
    process = start(place, "slurm_grid.sh", "GRID", "STORE", **variables)
    process.communicate()
    assert process.returncode == 1 and not (place / "requeued").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_arguments_or_an_array_the_usage_is_printed(place, script):
    process = start(place, script)
    assert f"usage: {script}" in process.communicate()[1] and process.returncode != 0
    process = start(place, script, "A", "B", "C")
    assert "give --array=0-4" in process.communicate()[1] and process.returncode != 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_log_is_continued_after_a_requeue(script):
    text = (LAUNCH / script).read_text()
    assert "#SBATCH --open-mode=append\n" in text and "#SBATCH --requeue\n" in text
    assert "#SBATCH --signal=B:USR1@120\n" in text


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_signals_reach_the_command_and_only_the_time_limit_requeues(
    place, script, number, requeued
):
    """A second signal follows while the command saves."""
    work = (
        "#!/bin/bash\necho $$ > worker\ntrap 'sleep 0.3; touch saved; exit 143' TERM\n"
        "touch started\nfor i in {1..600}; do sleep 0.1; done\n"
    )
    (place / ".venv/bin/python").write_text(work)
    (place / "bin/srun").write_text(work)
    process = start(place, script, *ARGUMENTS[script], **ARRAY)
    wait_for(place / "started")
    for _ in range(2):
        process.send_signal(number)
        time.sleep(0.1)
    process.communicate(timeout=30)
    assert process.returncode == 143 and (place / "saved").exists()
    assert (place / "requeued").exists() == requeued
    if requeued:  # this task alone: 70 or 77 may be the number of the whole array
        assert (place / "requeued").read_text() == "requeue 70_3\n"
    if script == "slurm_nodes.sh":
        assert (place / "cancelled").read_text() == "--signal=TERM 70_3\n"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_folder_in_use_is_tried_again(place, script):
    """As after the loss of a node, whose lock is not yet free."""
    work = "#!/bin/bash\necho x >> tries; [ $(wc -l < tries) -gt 2 ] || exit 75\n"
    (place / ".venv/bin/python").write_text(work)
    (place / "bin/srun").write_text(work)
    process = start(place, script, *ARGUMENTS[script], RETRY_S="0.1", **ARRAY)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == 0 and (place / "tries").read_text() == "x\n" * 3
    assert errors.count("in use: tries again in 0.1 s") == 2


def test_a_task_that_waits_for_a_folder_requeues_at_its_time_limit(place):
    (place / ".venv/bin/python").write_text("#!/bin/bash\ntouch started; exit 75\n")
    process = start(place, "slurm_folds.sh", "CONFIG", "RUN", "STORE", **ARRAY)
    wait_for(place / "started")
    time.sleep(0.2)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=30)
    assert process.returncode == 143 and (place / "requeued").read_text() == "requeue 70_3\n"


@pytest.fixture
def clone(tmp_path):
    """The files that setup.sh needs; its Python only records pip's arguments."""
    shutil.copytree(LAUNCH, tmp_path / "launch")
    shutil.copy(LAUNCH.parent / "pyproject.toml", tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/bash\nif [ "$1" != -m ]; then exec {sys.executable} "$@"; fi; echo "$@" >> asked\n'
        # As pip warns; an error is no warning.
        '[ "$PIP_ROOT_USER_ACTION" = ignore ] || echo "WARNING: Running pip as root" >&2\n'
        '[ "$PIP_DISABLE_PIP_VERSION_CHECK" = 1 ] || echo "[notice] A new release of pip" >&2\n'
        '[ -z "$PIP_STATUS" ] || echo "ERROR: no such package" >&2\n'
        'echo "  Downloading https://a/b/jaxlib-1.whl (80.1 MB)"; echo "  Downloading c (3 kB)"\n'
        'echo "Installing collected packages: jaxlib, c"; exit ${PIP_STATUS:-0}\n'
    )
    python.chmod(0o755)
    return tmp_path


def setup(clone, *arguments, **variables):
    command = ["bash", str(clone / "launch/setup.sh"), *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_a_misspelt_extra_is_one_line_and_installs_nothing(clone):
    done = setup(clone, "test,cuda")
    assert done.returncode == 1 and not list((clone / ".venv").glob("installed*"))
    project = tomllib.loads((clone / "pyproject.toml").read_text())["project"]
    extras = ", ".join(project["optional-dependencies"])
    assert done.stderr == f"error: there is no extra 'cuda'; give of {extras}\n"
    assert not (clone / "asked").exists()


def test_the_installed_package_can_be_imported_from_any_folder(clone):
    for _ in range(2):  # the second run does nothing
        assert setup(clone, "test,tpu").returncode == 0
    (asked,) = (clone / "asked").read_text().splitlines()
    assert asked.startswith("-m pip install") and asked.endswith(" -e .[test,tpu]")
    # The default finder would come after the parent folder of the clone.
    assert "--config-settings editable_mode=compat" in asked
    os.utime(clone / "launch/setup.sh")  # a changed setup.sh installs again
    assert setup(clone, "test", "tpu").returncode == 0
    first, second = (clone / "asked").read_text().splitlines()
    assert first == second


def test_set_up_prints_a_line_for_each_step_and_the_next_command(clone):
    failed = setup(clone, SETUP_NEXT="", PIP_STATUS="3")
    assert failed.returncode == 3 and "installed\n" not in failed.stderr
    assert "ERROR: no such package\n" in failed.stderr
    expected = [
        "installing brats_jax into .venv: a few minutes the first time",
        "  downloading jaxlib-1.whl (80.1 MB)",
        "  unpacking 2 packages",
        "installed",
    ]
    by_hand = setup(clone).stderr.splitlines()
    assert by_hand[:4] == expected and by_hand[4].startswith("next: source .venv/bin/activate")
    again = setup(clone).stderr.splitlines()
    assert again == ["brats_jax is installed in .venv", *by_hand[4:]]
    assert setup(clone, SETUP_NEXT="").stderr == ""  # within another script


@pytest.fixture
def experiment(tmp_path):
    """A folder with real.sh and small.sh, and a Python that prints its arguments in one line."""
    (tmp_path / "launch").mkdir()
    for name in ("real.sh", "small.sh"):
        shutil.copy(LAUNCH / name, tmp_path / "launch")
    (tmp_path / "launch" / "setup.sh").write_text("")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    # With '-' it is asked for the facts of the store; the trainings of seed 1 fail.
    python.write_text(
        '#!/bin/bash\n[ "$1" = - ] && { echo "$FACTS"; exit; }\n'
        f'[ "$1" = -c ] && exec {sys.executable} "$@"\necho "$@"\n'
        'taskset -cp $$ | sed "s/.* //" >> cores\n'
        'case "$*" in *--seeds=1*) exit 3;; esac\n'
        # An export of a little more than 2 MB.
        'case "$*" in *--format=hub*) mkdir -p "$PWD/small/exported"; cd "$PWD/small/exported"\n'
        "touch README.md config.json; head -c 2000001 /dev/zero > model.safetensors;; esac\n"
    )
    python.chmod(0o755)
    return tmp_path


def run_experiment(folder, *arguments, script="real.sh", facts="no ", **variables):
    return subprocess.run(
        ["bash", str(folder / "launch" / script), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "FACTS": facts, **variables},
    )


def test_the_real_experiment_trains_every_budget_and_training_and_reports(experiment):
    done = run_experiment(experiment, "store", LABELS="3 1,all", TRAININGS="0 2")
    *grids, report = done.stdout.splitlines()
    assert (
        done.returncode == 0 and report == f"-m brats_jax.report --workdir={experiment}/real/grid"
    )
    chosen = [[x for x in line.split() if "label_p" in x or "seeds" in x] for line in grids]
    assert chosen == [
        [f"--seeds={n}", f"--label_patients={labels}"] for labels in ("3", "1,all") for n in (0, 2)
    ]
    for line in grids:
        assert f"--config.data.store={experiment}/store --losses=dice_ce" in line
        assert "cross_modality+unet" in line and "shuffled+unet" in line
        assert "training_only" not in line


def test_the_real_experiment_adds_scans_and_keeps_possible_copies_from_the_test(experiment):
    done = run_experiment(
        experiment, "store", "more", facts="yes *TCIA10_*", LABELS="3", TRAININGS="0"
    )
    added, both, alone, _ = done.stdout.splitlines()
    assert added == (
        f"-m brats_jax.prepare --add --source={experiment}/more --store={experiment}/store"
    )
    for line in (both, alone):
        assert "--config.data.training_only=*TCIA10_*" in line
    assert "--unlabelled_fractions=0" in alone and "--unlabelled_fractions" not in both
    named = run_experiment(
        experiment, "store", facts="yes *TCIA10_*", TRAINING_ONLY="", LABELS="3", TRAININGS="0"
    )
    assert "training_only" not in named.stdout


def test_a_failed_training_of_the_real_experiment_does_not_stop_the_others(experiment):
    done = run_experiment(experiment, "store", LABELS="3", TRAININGS="1 0")
    assert done.returncode == 3 and "--seeds=0" in done.stdout and "report" in done.stdout
    assert "bash launch/real.sh STORE" in run_experiment(experiment).stderr


def test_the_ready_model_is_trained_on_all_and_cross_validated(experiment):
    done = run_experiment(
        experiment, "store", script="small.sh", FOLDS="3", SSL="true", FLAGS="--config.seed=3"
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines, folder = done.stdout.splitlines(), experiment / "small"
    trained = [line for line in lines if "brats_jax.main" in line]
    names = [line.split("--workdir=")[1].split()[0] for line in trained]
    both = ("synthesis", "segmentation")
    assert names == [f"{folder}/{what}_{which}" for which in ("folds", "all") for what in both]
    for line in trained:
        assert f"--config=configs/small.py --config.data.store={experiment}/store" in line
        assert "--config.seed=3" in line and "--config.pretrain.decoder=unet" in line
    for synthesis, segmentation in (trained[:2], trained[2:]):
        assert "--config.optim.optimizer=adamw" in segmentation and "adamw" not in synthesis
    for line in trained[:2]:
        assert "--config.data.test_fraction=0 --config.data.num_folds=3" in line
        assert "--config.folds=0,1,2 " in line
    assert f"--config.ssl=true --config.pretrain.run={folder}/synthesis_all" in trained[3]
    assert all("--config.folds=all" in line for line in trained[2:])
    cleaning, segmentation, synthesis, verified = lines[len(trained) :]
    assert cleaning == (
        f"-m brats_jax.calibrate --checkpoint={folder}/segmentation_folds --cleaning"
    )
    for line, name in ((segmentation, "segmentation"), (synthesis, "synthesis")):
        assert f"--checkpoint={folder}/{name}_all" in line and "--format=hub --name=small" in line
        assert f"--scores={folder}/{name}_folds" in line
        assert "--command=FOLDS='3' SSL='true' FLAGS='--config.seed=3' bash launch/small" in line
    assert "--task=reconstruct" in synthesis and verified.endswith("small --verify")
    written = experiment / "brats_jax/weights/small"
    assert {p.name for p in written.iterdir()} == {"config.json", "model.safetensors", "README.md"}


def test_the_segmentation_of_the_ready_model_is_trained_on_further_planes(experiment):
    done = run_experiment(
        experiment, "store", script="small.sh", FOLDS="2", OTHER_PLANES="of others/a,b",
        SEGMENT_FLAGS="--config.segment.context=1",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    trained = [line for line in lines if "brats_jax.main" in line]
    planes = f"--config.data.other_planes={experiment}/of others/a,{experiment}/b"
    for synthesis, segmentation in (trained[:2], trained[2:]):
        assert "other_planes" not in synthesis
        assert segmentation.endswith(f" {planes} --config.segment.context=1")
        assert "adamw" not in segmentation
    fits = [line.partition(" --cleaning")[2] for line in lines if "brats_jax.calibrate" in line]
    assert fits == ["", " --planes=all"]
    exported = [line for line in lines if "--format=hub" in line]
    variables = "OTHER_PLANES=CORONAL,SAGITTAL FOLDS='2' SEGMENT_FLAGS='--config.segment.context=1'"
    command = f"--command={variables} bash"
    assert len(exported) == 2 and all(f"{command} launch/small.sh STORE" in x for x in exported)


def test_the_trainings_of_the_ready_model_share_the_cores(experiment):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPU cores")
    done = run_experiment(experiment, "store", script="small.sh", FOLDS="3", PROCESSES="2")
    assert (done.returncode, done.stderr) == (0, "")
    trained = [line for line in done.stdout.splitlines() if "brats_jax.main" in line]
    folds = [re.findall(r"--config\.folds=(\S+)", line)[0] for line in trained]
    # Two of each, the synthesis and the segmentation; then whatever is left, and the summary.
    assert sorted(folds[:8]) == sorted(["0", "1", "2", "all"] * 2)
    assert folds[8:] == ["0,1,2", "0,1,2", "all", "all"]
    shares = (experiment / "cores").read_text().splitlines()[:8]
    assert len(set(shares)) == 2


def test_a_ready_model_that_is_too_large_is_one_line_and_not_written(experiment):
    done = run_experiment(experiment, "store", script="small.sh", MOST_MB="1", OUTPUT="other")
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert "has 2 MB, more than 1: choose a narrower network" in done.stderr
    assert not (experiment / "other").exists()
    assert "bash launch/small.sh STORE" in run_experiment(experiment, script="small.sh").stderr
