"""The image of launch/container/: minutes, so only by launch/test_containers.sh.

Every container runs as a user that the image does not know, without a home, with a read-only root.
"""

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

import kubernetes_pods
import pytest
from processes import ROOT

from brats_jax.data.sources.phantom.files import write_cases
from brats_jax.runs.metrics_jsonl import read_metrics

IMAGE = os.environ.get("BRATS_JAX_IMAGE", "")
pytestmark = pytest.mark.skipif(not IMAGE, reason="bash launch/test_containers.sh")

USER = (12345, 23456)
LARGEST = 1.5e9  # bytes
SMALL = (
    "--config.data.num_folds=3", "--config.model.width=4",
    "--config.pretrain.epochs=1", "--config.segment.epochs=1",
    "--config.pretrain.steps_per_epoch=8", "--config.segment.steps_per_epoch=8",
)  # fmt: skip
TINY = "--config=/source/tests/tiny_config.py"


def podman(*words, **options):
    return subprocess.run(["podman", *words], text=True, capture_output=True, **options)


def run_words(*command, volumes=(), user=USER, options=(), environment=None, home=False):
    """The words that start a container."""
    words = ["--runtime", "runc", "run", "--rm", "--network=host"]
    # By default podman asks for more than a machine without CAP_SYS_RESOURCE grants.
    words += ["--ulimit=nofile=8192:8192", "--ulimit=nproc=4096:4096"]
    words += [f"--user={user[0]}:{user[1]}", "--passwd=false"]
    words += ["--read-only", "--read-only-tmpfs=false", *options]
    words += [f"--volume={source}:{target}" for source, target in volumes]
    words += [f"--env={name}={value}" for name, value in (environment or {}).items()]
    return [*words, IMAGE, *(() if home else ("env", "-u", "HOME")), *command]


def run(*command, **options):
    """(status, output) of a command in a container."""
    done = podman(*run_words(*command, **options), timeout=1800)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def work(tmp_path):
    """A folder of the user; the folders above it may be entered."""
    return owned(tmp_path / "work", USER)


def owned(folder, user):
    folder.mkdir()
    os.chown(folder, *user)
    for parent in folder.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A folder with one case, real if there are any."""
    if "BRATS_REAL_DATA" in os.environ:
        return next(p for p in sorted(Path(os.environ["BRATS_REAL_DATA"]).iterdir()) if p.is_dir())
    folder = tmp_path_factory.mktemp("scans")
    write_cases(folder, patients=1, seed=1, shape=(155, 240, 240), say=print)
    folder.chmod(0o755)
    return folder


def segment(output, *flags):
    return ("brats-jax", "predict", "--checkpoint=small", "--input=/scans",
            f"--output={output}", "--picture", "--page", *flags)  # fmt: skip


def test_the_image_is_small():
    (image,) = json.loads(podman("image", "inspect", IMAGE).stdout)
    print(f"{image['Size'] / 1e9:.2f} GB")
    assert image["Size"] <= LARGEST


def test_the_image_has_no_root_user_and_no_data():
    (image,) = json.loads(podman("image", "inspect", IMAGE).stdout)
    assert image["Config"]["User"] == "1000:1000"
    # nibabel brings files of its own.
    found = "-name '*.nii*' -print -o -name .git -print"
    find = f"find /opt/brats_jax /workspace -path '*/nibabel/*' -prune -o {found}"
    status, output = run(*shlex.split(find))
    assert (status, output) == (0, "")


def test_without_a_command_it_lists_the_commands():
    status, output = run("brats-jax", "--help")
    assert status == 0 and "predict" in output


def test_a_scan_is_segmented_by_any_user_without_a_home(work, scans):
    status, output = run(
        *segment("/workspace/predicted"), volumes=[(scans, "/scans:ro"), (work, "/workspace")]
    )
    assert status == 0, output
    assert not any(w in output.lower() for w in ("warning", "traceback", "mkdir", "cache")), output
    made = {path.suffix for path in (work / "predicted").iterdir()}
    assert made == {".gz", ".json", ".png", ".html", ".csv"}
    assert {path.stat().st_uid for path in (work / "predicted").iterdir()} == {USER[0]}
    assert [path.name for path in work.iterdir()] == ["predicted"]  # no cache, nothing temporary


def test_nothing_but_the_output_folder_need_be_writable(work, scans):
    volumes = [(scans, "/scans:ro"), (work, "/out")]
    status, output = run(*segment("/out/predicted"), volumes=volumes, options=["--workdir=/"])
    assert status == 0, output


def test_a_volume_at_cache_keeps_what_was_compiled(work, scans):
    cache = owned(work.parent / "cache", USER)
    volumes = [(scans, "/scans:ro"), (work, "/workspace"), (cache, "/cache")]
    for number in range(2):
        started = time.monotonic()
        status, output = run(*segment(f"/workspace/{number}"), volumes=volumes)
        print(f"{time.monotonic() - started:.0f} s")
        assert status == 0, output
        kept = {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()}
        assert any(name.startswith("brats_jax/compiled/") for name in kept)
        assert any(name.startswith("matplotlib/fontlist") for name in kept)


def test_a_folder_that_cannot_be_written_is_one_line(scans):
    status, output = run(*segment("/workspace/predicted"), volumes=[(scans, "/scans:ro")])
    assert status == 1
    assert output.splitlines()[-1].startswith("error: /workspace/predicted")
    assert "Traceback" not in output


def test_the_demo_runs(work):
    if os.environ.get("DEMO") == "full":
        command = "bash /opt/brats_jax/launch/demo.sh /workspace/demo"
    else:
        train = f"brats-jax main --config=configs/demo.py {' '.join(SMALL)}"
        command = f"""set -e
        brats-jax prepare --source=phantom --patients=9 --normalisation=volume --store=demo/store
        export BRATS_JAX_STORE=demo/store
        {train} --workdir=demo/ssl
        {train} --workdir=demo/baseline --config.ssl=false
        brats-jax report --workdir=demo"""
    status, output = run("bash", "-c", command, volumes=[(work, "/workspace")])
    assert status == 0, output
    assert (work / "demo" / "report.html").stat().st_size > 1e5


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = owned(tmp_path_factory.mktemp("volume") / "work", (1000, 1000))
    words = (
        "brats-jax prepare --source=phantom --patients=9 --shape=16,96,96 --store=stores/default"
    )
    status, output = run(*words.split(), volumes=[(folder, "/workspace")], user=(1000, 1000))
    assert status == 0, output
    return folder


class Pod:
    """A pod of launch/kubernetes/ as a container of this machine, with a tiny training."""

    def __init__(self, number, pod, volume, *flags):
        self.name = f"brats-pod-{number}-{os.getpid()}"
        self._log = volume.parent / f"pod.{number}"
        self._pod, self._volume, self._flags = pod, volume, flags
        self.ends = []  # exit statuses
        self.start()

    def start(self):
        command = [TINY if w.startswith("--config=") else w for w in self._pod.command]
        context = self._pod.spec["securityContext"]
        words = run_words(
            *command, "--config.evaluation.panels=0", *self._flags,
            volumes=[
                (self._volume, "/workspace"),
                (ROOT / "tests", "/source/tests:ro"),
                (ROOT / "configs", "/source/configs:ro"),
            ],
            user=(context["runAsUser"], context["runAsGroup"]),
            environment=self._pod.environment,
            options=[f"--name={self.name}", "--tmpfs=/tmp", "--tmpfs=/cache:mode=1777",
                     *(f"--add-host={host}:127.0.0.1" for host in HOSTS)],
        )  # fmt: skip
        with self._log.open("a") as log:
            self.process = subprocess.Popen(["podman", *words], stdout=log, stderr=log)

    def kill(self, signal):
        podman("kill", f"--signal={signal}", self.name, check=True)

    def output(self):
        return self._log.read_text()


HOSTS = [host for pod in kubernetes_pods.pods(ROOT / "launch/kubernetes/nodes.yaml")
         for host in pod.hosts]  # fmt: skip


def run_job(pods, actions=(), timeout=1500):
    """Plays the job's controller: starts a pod that failed again, after a pause that doubles.

    Args:
      pods: running.
      actions: functions that return whether they have acted; called in this order, again and again.
    """
    actions = list(actions)
    deadline = time.monotonic() + timeout
    due = {}
    while any(pod.ends[-1:] != [0] for pod in pods):
        assert time.monotonic() < deadline, [pod.output()[-2000:] for pod in pods]
        if actions and actions[0]():
            actions.pop(0)
        for pod in pods:
            status = pod.process.poll()
            if pod.ends[-1:] == [0]:
                continue
            if pod in due:
                if time.monotonic() > due[pod]:
                    del due[pod]
                    pod.start()
            elif status is not None:
                pod.ends.append(status)
                assert len(pod.ends) < 8, pod.output()[-2000:]
                due[pod] = time.monotonic() + 10 * 2 ** (len(pod.ends) - 1)
        time.sleep(0.2)
    assert not actions


def step_of(volume):
    file = volume / "runs" / "ssl" / "fold_0" / "pretrain" / "metrics.jsonl"
    return max((r["step"] for r in read_metrics(file)), default=0) if file.is_file() else 0


def test_the_pods_of_nodes_yaml_train_together(store):
    pods = kubernetes_pods.pods(ROOT / "launch/kubernetes/nodes.yaml")
    started = [Pod(i, pod, store) for i, pod in enumerate(pods)]
    run_job(started)
    assert [pod.ends for pod in started] == [[0], [0]]
    assert "2 x cpu" in started[0].output()
    assert (store / "runs" / "ssl" / "summary.csv").is_file()


def test_pods_that_are_killed_or_drained_start_again_and_finish(store):
    pods = kubernetes_pods.pods(ROOT / "launch/kubernetes/nodes.yaml")
    subprocess.run(["rm", "-rf", str(store / "runs")], check=True)
    more = ("--config.pretrain.steps_per_epoch=150", "--config.ssl=true")
    started = [Pod(i, pod, store, *more) for i, pod in enumerate(pods)]

    def after(step, pod, signal):
        def act():
            if step_of(store) < step:
                return False
            pod.kill(signal)
            return True

        return act

    run_job(started, [after(20, started[1], "KILL"), after(150, started[1], "TERM")])
    ends = [pod.ends for pod in started]
    print(ends)
    assert ends[1][0] in (137, 255) and all(e[-1] == 0 for e in ends)
    assert any(143 in e for e in ends)
    assert (store / "runs" / "ssl" / "summary.csv").is_file()
