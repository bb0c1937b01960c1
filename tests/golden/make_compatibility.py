"""Makes compatibility/data.tar.xz: what commit a5fd08e leaves, for later versions to go on from.

    git worktree add OLD a5fd08e
    python tests/golden/make_compatibility.py OLD

What lies there was made by commit a5fd08e, with the libraries and on the processor that
compatibility/environment.json names. The program of OLD writes everything, through its commands;
this script starts and stops them (with SIGTERM), removes files that no test reads, and packs the
rest. By folder:

    store, store_volume       phantom patients, normalised by slice and by volume
    cases, coarse_cases       NIfTI cases of 1 mm and of 2 mm;  kaggle: slice files
    store_nifti, store_kaggle prepared from cases and from kaggle
    phantom                   what brats_jax.phantom writes
    run                       both stages of two folds, evaluated and calibrated
    stopped_pretrain          the same command, stopped within the second epoch of pretrain
    stopped_segment           the same command, stopped within the first epoch of segment
    grid                      a pretraining done, the segmentation that starts from it stopped
    exported                  both stages of run/fold_0
    expected/                 predictions, outputs of the exported programs, tables of the reports,
                              and the grid when it was done
"""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import compatibility_examples as examples

COMMIT = "a5fd08e"
SHAPE = (40, 32, 6)  # of a case: slices of the phantom store's height and width
SSL_CELL = "runs/dice_ce-ssl-labels_100-seed_0"


def main() -> None:
    checkout = Path(sys.argv[1]).resolve()
    head = subprocess.check_output(["git", "-C", checkout, "rev-parse", "HEAD"], text=True)
    if not head.startswith(COMMIT):
        raise SystemExit(f"{checkout} is at {head[:7]}, not at {COMMIT}")
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make(partial(examples.run_command, Path(), Path(cache), checkout=checkout), checkout, cache)
        tidy()
        pack()
    examples.ENVIRONMENT.write_text(json.dumps(examples.fingerprint(), indent=2) + "\n")


def make(run: Callable[..., str], checkout: Path, cache: str) -> None:
    """Makes everything in the current folder; `run` runs a command of the old program."""
    variables = examples.environment(Path(cache), checkout)
    shutil.copy(examples.CONFIG, "config.py")
    write_cases(checkout)
    for store, flags in examples.STORES.items():
        run("prepare", f"--store={store}", *flags)
    run("phantom", "--cases=phantom", *examples.PHANTOM_CASES)

    run("main", "--workdir=run", *examples.SETTINGS)
    train = (*examples.SETTINGS, "--config.folds=(0,)")
    stop("main", "--workdir=stopped_pretrain", *train, stage="pretrain", epoch=2, env=variables)
    # As after the first stage.
    shutil.copytree("run", "stopped_segment", ignore=shutil.ignore_patterns("fold_1", "summary.*"))
    fold = Path("stopped_segment/fold_0")
    for path in (fold / "segment", *fold.glob("evaluation*"), *fold.glob("tally*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    stop("main", "--workdir=stopped_segment", *train, stage="segment", epoch=1, env=variables)
    stop(
        "grid", "--workdir=grid", *examples.GRID_SETTINGS,
        stage="segment", within=SSL_CELL, epoch=1, env=variables,
    )  # fmt: skip
    run("calibrate", "--checkpoint=run")

    expected = Path("expected")
    for name, flags in examples.PREDICTIONS.items():
        run("predict", f"--output={expected / name}", *flags)
    os.environ["JAX_HLO_SOURCE_FILE_CANONICALIZATION_REGEX"] = ".*/"  # no folder of this machine
    for flags in examples.EXPORTS.values():
        run("export", "--output=exported", *flags)
    del os.environ["JAX_HLO_SOURCE_FILE_CANONICALIZATION_REGEX"]
    (expected / "weights.json").write_text(json.dumps(examples.hash_weights(Path("exported"))))
    np.save("images.npy", examples.read_images(Path("cases")))
    for task in examples.EXPORTS:
        program, output = Path(f"exported/{task}.stablehlo"), expected / f"{task}.npy"
        examples.call_exported(program, Path("images.npy"), output, Path(cache))
    shutil.copytree("grid", expected / "grid")
    os.rename("grid", "stopped_grid")
    os.rename(expected / "grid", "grid")
    run("grid", "--workdir=grid", *examples.GRID_SETTINGS)
    for name in ("run", "grid"):
        shutil.copytree(name, f"reported/{name}")
        run("report", f"--workdir=reported/{name}")
        shutil.copytree(f"reported/{name}/report", expected / "reports" / name)
    os.rename("grid", expected / "grid")
    os.rename("stopped_grid", "grid")


def write_cases(checkout: Path) -> None:
    """Writes the cases and slice files, by the old program's test helper."""
    specification = importlib.util.spec_from_file_location(
        "brats_files", checkout / "tests" / "brats_files.py"
    )
    files = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(files)
    volumes = [files.make_case(seed, SHAPE) for seed in range(2)]
    for number, case in enumerate(volumes):
        files.write_nifti_case(Path("cases"), f"BraTS2021_0000{number}", case, codes="RAS")
    files.write_kaggle(Path("kaggle"), 1, volumes[0], compression="gzip")
    coarse = {name: voxels[::2, ::2] for name, voxels in volumes[1].items()}
    files.AFFINE = files.AFFINE @ np.diag([2.0, 2.0, 1.0, 1.0])
    files.write_nifti_case(Path("coarse_cases"), "BraTS2021_00002", coarse)


def stop(
    name: str, *flags: str, stage: str, epoch: int, env: dict[str, str], within: str = ""
) -> None:
    """Starts a command and stops it with SIGTERM within an epoch of a stage."""
    workdir = Path(flags[0].removeprefix("--workdir="))
    before = Path(f"{workdir}.before")
    if workdir.exists():
        shutil.copytree(workdir, before)
    directory = workdir / within / "fold_0" / stage
    for _ in range(10):
        process = subprocess.Popen(
            examples.command_line(name, *flags), env=env, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and last_step(directory) < 8 * (epoch - 1) + 2:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        if process.wait() in (0, 1):
            raise SystemExit(f"{workdir}: not stopped, ended with {process.returncode}")
        saved = max((int(path.name) for path in directory.glob("last/[0-9]*")), default=0)
        if 8 * (epoch - 1) < saved < 8 * epoch:
            print(f"{workdir}: stopped at step {saved} of {stage}")
            shutil.rmtree(before, ignore_errors=True)
            return
        shutil.rmtree(workdir)
        if before.exists():
            shutil.copytree(before, workdir)
    raise SystemExit(f"{workdir}: not stopped within epoch {epoch} in ten attempts")


def last_step(directory: Path) -> int:
    """The last step that a stage has logged."""
    try:
        lines = (directory / "metrics.jsonl").read_text().splitlines()
        return max(json.loads(line)["step"] for line in lines)
    except (OSError, ValueError):
        return 0


def tidy() -> None:
    """Removes what no test reads, and the names of this machine."""
    remove("config.py", "images.npy", "reported", "**/tensorboard", "run/fold_1/*/last")
    remove("stopped_segment/fold_0/pretrain/last", "grid/pretraining/**/last")
    remove("exported/*.safetensors", "expected/reports/**/*.md", "expected/reports/**/*.tex")
    remove("expected/reports/*/figures")
    # Of the grid that is done the segmentation is compared.
    remove("expected/grid/[!r]*", "expected/grid/runs/**/last")
    for path in (*Path().rglob("*lock"), *Path().rglob("commit_success.txt")):
        path.write_text("")
    for pattern in ("cells/*.json", "*.log", "store_*/manifest.json"):
        for path in Path().rglob(pattern):
            text = path.read_text().replace(sys.executable, "python").replace(os.getcwd(), "")
            path.write_text(text.replace(f'"{socket.gethostname()}"', '"here"'))


def remove(*patterns: str) -> None:
    """Removes the files and folders that match."""
    for pattern in patterns:
        for path in list(Path().glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def pack() -> None:
    """Packs the current folder; the same files make the same bytes."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
        return member

    with tarfile.open(examples.DATA, "w:xz", preset=9) as archive:
        for path in sorted(Path().rglob("*")):
            archive.add(path, recursive=False, filter=plain)
    print(f"{examples.DATA}: {examples.DATA.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
