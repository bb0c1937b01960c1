"""The SLURM scripts on a real SLURM of this machine, if one is installed.

Here with a stand-in for Python, in seconds. launch/test_slurm.sh also runs the slow tests, in which
the scripts train.
"""

import shutil

import pytest
from slurm_cluster import AVAILABLE, ROOT, WHY_NOT, running_cluster, wait_until

SCRIPTS = {
    "slurm_folds.sh": ("CONFIG", "RUN", "STORE"),
    "slurm_grid.sh": ("GRID", "STORE"),
    "slurm_nodes.sh": ("CONFIG", "RUN", "STORE"),
}

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)

# Saves for a second after the first SIGTERM. The first attempt of the task BUSY finds its folder
# in use.
STAND_IN = """#!/bin/bash
me=$SLURM_JOB_NAME.$SLURM_ARRAY_TASK_ID.${SLURM_PROCID:-0}
save() { trap '' TERM; sleep 1; echo "saved $me"; touch "saved.$me"; exit 143; }
trap save TERM
echo "attempt ${SLURM_RESTART_COUNT:-0} of $me"
if [ "$SLURM_ARRAY_TASK_ID" = 3 ] && ! [ -e "busy.$me" ]; then
  trap '' TERM  # as the program, whose processes end together
  touch "busy.$me"
  sleep 0.5
  exit 75
fi
touch "started.$me.${SLURM_RESTART_COUNT:-0}"
while true; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def place(cluster, tmp_path_factory):
    """The folder to submit from."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(ROOT / "launch", place / "launch")
    python = place / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return place


@pytest.fixture(scope="module")
def arrays(cluster, place):
    """Script -> number of an array of two tasks, 2 and 3, which run."""
    submitted = {
        script: cluster.submit(script, *arguments, cwd=place, array="2-3", RETRY_S="0.2")
        for script, arguments in SCRIPTS.items()
    }
    for script in SCRIPTS:
        for task in (2, 3):
            wait_until(lambda s=script, t=task: started(place, s, t))
    return submitted


def started(place, script, task, attempt=0):
    processes = 2 if script == "slurm_nodes.sh" else 1
    return all(
        (place / f"started.{script}.{task}.{process}.{attempt}").exists()
        for process in range(processes)
    )


def log(place, script, task):
    return (place / f"{script}-{task}.out").read_text()


def test_a_task_that_finds_its_folder_in_use_tries_again(arrays, place):
    for script in SCRIPTS:
        wait_until(lambda s=script: "in use: tries again in 0.2 s" in log(place, s, 3))
        assert "in use" not in log(place, script, 2)


def test_at_its_time_limit_a_task_saves_and_requeues_itself_alone(arrays, cluster, place):
    """The second task of each array; the number of the other one may be the whole array's."""
    for array in arrays.values():
        cluster("scancel", "--signal=USR1", "--batch", f"{array}_3")
    for script, array in arrays.items():
        cluster.wait_for_restart(f"{array}_3", lambda s=script: started(place, s, 3, attempt=1))
        # srun passes the output of its processes on with a delay.
        for line in (f"saved {script}.3.0", f"attempt 1 of {script}.3.0"):
            wait_until(lambda s=script, text=line: text in log(place, s, 3))
        assert cluster.state(f"{array}_2") == "RUNNING"
        assert "attempt 1" not in log(place, script, 2)


def test_scancel_lets_every_task_save(arrays, cluster, place):
    for path in place.glob("saved.*"):
        path.unlink()
    cluster("scancel", *arrays.values())
    expected = {f"saved.{script}.{task}.0" for script in SCRIPTS for task in (2, 3)}
    expected |= {f"saved.slurm_nodes.sh.{task}.1" for task in (2, 3)}
    wait_until(lambda: expected <= {path.name for path in place.glob("saved.*")})
    for array in arrays.values():
        for task in (2, 3):
            wait_until(lambda a=array, t=task: cluster.state(f"{a}_{t}") == "CANCELLED")
