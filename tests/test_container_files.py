"""launch/container/: the files of the image are there, and both recipes install the same.

launch/test_containers.sh builds and runs the images.
"""

import re
import shlex
import subprocess
import sys

import pytest
from processes import ROOT

FOLDER = ROOT / "launch" / "container"
SCRIPTS = [*sorted(FOLDER.glob("*.sh")), ROOT / "launch" / "test_containers.sh"]


def context():
    """What .dockerignore lets into an image."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return {line[1:] for line in lines if line.startswith("!")}


def instructions():
    """(instruction, its words) of the Dockerfile."""
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], shlex.split(line)[1:]) for line in lines]


def section(name):
    text = (FOLDER / "apptainer.def").read_text()
    return re.search(rf"^%{name}\n((?:    .*\n)+)", text, re.MULTILINE)[1]


def test_both_recipes_take_the_same_files():
    assert all((ROOT / name).exists() for name in context())
    copied = [line.split() for line in section("files").splitlines()]
    assert {source for source, _ in copied} == context()
    assert all(target == f"/source/{source}" for source, target in copied)


def test_every_file_that_is_copied_by_name_exists():
    for instruction, words in instructions():
        if instruction == "COPY" and not words[0].startswith("--from"):
            for source in words[:-1]:
                assert (ROOT / source).exists()
    script = (FOLDER / "install.sh").read_text()
    (names,) = re.findall(r'"\$source"/launch/\{([\w,]+)\}\.sh', script)
    assert all((ROOT / "launch" / f"{name}.sh").is_file() for name in names.split(","))


def test_both_recipes_install_in_two_steps():
    steps = [words[2:4] for instruction, words in instructions() if instruction == "RUN"]
    assert steps == [["dependencies", "/source"], ["package", "/source"]]
    posted = [line.split() for line in section("post").splitlines() if "install.sh" in line]
    assert [words[2:4] for words in posted] == steps


@pytest.mark.parametrize("given", ["cuda13,bucket", "cuda13, bucket", "bucket cuda13"])
def test_extras_may_have_commas_or_spaces_and_none_is_lost(given):
    script = (FOLDER / "install.sh").read_text()
    program = re.search(r"<<'PYTHON'\n(.*?)^PYTHON$", script, re.DOTALL | re.MULTILINE)[1]
    # Dockerfile and recipe leave the words apart; the script joins them again.
    assert "\nextra=${*:3}\n" in script
    words = [sys.executable, "-S", "-c", program, str(ROOT / "pyproject.toml")]
    done = subprocess.run([*words, given], capture_output=True, text=True, check=True)
    assert {"jax[cuda13]>=0.10", "s3fs>=2024.2"} < set(done.stdout.splitlines())
    done = subprocess.run([*words, f"{given},nosuch"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "there is no extra 'nosuch'" in done.stderr


def test_the_image_names_a_user_by_number_and_writes_to_cache_alone():
    last = dict(instructions())  # of the second stage
    user, _, group = last["USER"][0].partition(":")
    assert int(user) > 0 and int(group) > 0  # runAsNonRoot needs numbers
    environment = dict(word.split("=", 1) for word in last["ENV"])
    assert environment["XDG_CACHE_HOME"] == "/cache"
    assert environment["MPLCONFIGDIR"].startswith("/cache/")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_is_valid_bash(script):
    assert subprocess.run(["bash", "-n", script]).returncode == 0
