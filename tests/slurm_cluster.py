"""A SLURM of this machine, for tests. Not tests."""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "tests" / "slurm" / "cluster.sh"
# Root alone can start it; CI installs it where that takes less than a minute.
AVAILABLE = all(map(shutil.which, ("slurmctld", "slurmd", "munged"))) and os.geteuid() == 0
WHY_NOT = "no SLURM here that root can start (bash tests/slurm/cluster.sh install)"


class Cluster:
    """A running SLURM; its state is in `folder`."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *command, cwd=None, **variables):
        """Runs one of SLURM's commands and returns what it printed."""
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), **variables}
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, script, *arguments, cwd, array, options=(), **variables):
        """The number of the array; its tasks log to SCRIPT-TASK.out."""
        few = ("--cpus-per-task=1", "--gpus-per-node=0", f"--array={array}")
        names = (f"--job-name={script}", f"--output={script}-%a.out")
        return self(
            *("sbatch", "--parsable", *few, *names, *options, f"launch/{script}", *arguments),
            cwd=cwd, **variables,
        )  # fmt: skip

    def state(self, task):
        """'RUNNING', 'PENDING', ..."""
        text = self("scontrol", "show", "job", task, "-o")
        return next(w for w in text.split() if w.startswith("JobState=")).partition("=")[2]

    def wait_for_restart(self, task, condition, seconds=60):
        """Waits until a requeued task fulfils `condition`, without SLURM's pause of two minutes."""

        def fulfilled():
            # SLURM begins the pause again when the first attempt is completely gone.
            if "Reason=BeginTime" in self("scontrol", "show", "job", task, "-o").split():
                time.sleep(2)  # within a second SLURM would refuse the first attempt's credential
                with contextlib.suppress(AssertionError):  # it has just begun
                    self("scontrol", "update", f"JobId={task}", "StartTime=now")
            return condition()

        wait_until(fulfilled, seconds)


@contextlib.contextmanager
def running_cluster(folder, **variables):
    """A SLURM that ends with the body."""
    command = ("bash", str(CLUSTER), "start", str(folder))
    environment = {**os.environ, **variables}
    started = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    try:
        assert started.returncode == 0, started.stderr
        yield Cluster(folder)
    finally:
        subprocess.run(("bash", str(CLUSTER), "stop", str(folder)), env=environment, timeout=60)


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
