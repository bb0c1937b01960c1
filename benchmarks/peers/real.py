r"""Programs side by side on real cases: the same patients, the same split, one command.

    python benchmarks/peers/real.py --store=STORE --source=DIR --config=configs/real.py \
        --minutes=25 --peer_python=TORCH --output=OUT

`ours` is trained by `python -m brats_jax.main` with the given configuration, without pretraining
unless --config.ssl=True is given; with --minutes, its epochs have as many steps as fit that time.
`twin` (our network in PyTorch) and `smp` (the U-Net of segmentation_models_pytorch) train equal
steps with our recipe. `nnunet` has its own preprocessing, plans and trainer on the same training
patients and the same wall clock as ours: `nnunet_planned` with the planned batch, which takes
minutes an iteration on a CPU, and `nnunet_small` with --nnunet_batch. All predict the test patients
of the fold; one scorer scores them. Writes OUT/peers.md and OUT/peers.json.

Each part runs in a process of its own with its log in OUT/logs. The same command continues a
stopped one: a finished part has a document in OUT/parts and is not repeated, a part that was
stopped begins again (ours goes on from its checkpoint). On a GPU (--device) each program uses its
own defaults there; without --minutes nnU-Net also trains its own 1000 epochs. --nnunet_epochs sets
their number.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.peers import real_cases, real_table
from benchmarks.peers.parts import REMEDY, Parts
from brats_jax.errors import BratsError
from brats_jax.runs.documents import StageResult, StageTraining
from brats_jax.runs.folder import STAGES, RunFolder
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import read_json, write_json

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# What a name of --peers stands for.
PEERS = {
    "ours": ("ours",),
    "twin": ("twin",),
    "smp": ("smp",),
    "nnunet": ("nnunet_planned", "nnunet_small"),
    "nnunet_planned": ("nnunet_planned",),
    "nnunet_small": ("nnunet_small",),
}
# Programs that are another one's network, predicted in another way.
PREDICTED_OF = {"nnunet_small_plain": "nnunet_small"}
NO_PRETRAINING = "--config.ssl=False"
NNUNET_OWN_EPOCHS = 1000


def nnunet_length(epochs: int, minutes: float, device: str, seconds: float) -> str:
    """The flag that sets the length of nnU-Net's training.

    Args:
      epochs: --nnunet_epochs; 0: its own number on a GPU without `minutes`, else the time of ours.
      minutes: --minutes.
      device: 'cpu' or 'cuda'.
      seconds: of our training.
    """
    if not epochs and device == "cuda" and not minutes:
        epochs = NNUNET_OWN_EPOCHS
    return f"--epochs={epochs}" if epochs else f"--seconds={seconds:.0f}"


class Measurement:
    """All parts of one command.

    Args:
      arguments: of the command.
      overrides: the settings `--config.NAME=VALUE`.
    """

    def __init__(self, arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
        self.arguments, output = arguments, arguments.output.resolve()
        self.parts, self.run_folder = Parts(output), RunFolder(output / "run")
        self.folds = folds_of(arguments.folds)
        self.device = arguments.device
        if self.device == "auto":
            self.device = "cuda" if _has_gpu(arguments.peer_python) else "cpu"
        self.form = arguments.form or ("eager" if self.device == "cpu" else "compiled")
        self.settings = [
            f"--config.data.store={arguments.store.resolve()}",
            f"--config.folds={arguments.folds},",
            *([] if any(o.startswith("--config.ssl=") for o in overrides) else [NO_PRETRAINING]),
            *overrides,
        ]
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if self.device == "cpu":
            self.environment["JAX_PLATFORMS"] = "cpu"
        self.programs: dict[str, dict[int, dict[str, Any]]] = {}

    def check_request(self) -> None:
        """Refuses to continue a folder with other arguments (BratsError)."""
        fixed = ("config", "minutes", "folds", "cases", "nnunet_epochs", "nnunet_batch")
        request = {name: getattr(self.arguments, name) for name in fixed}
        request |= {"settings": self.settings, "device": self.device, "form": self.form}
        path = self.parts.output / "request.json"
        # Where no part is finished, a mistake in the arguments may be corrected.
        if path.exists() and any((self.parts.output / "parts").glob("*.json")):
            begun = read_json(path, REMEDY)
            changed = [name for name in request if begun.get(name) != request[name]]
            if changed:
                raise BratsError(
                    f"{path.parent} was begun with other {', '.join(changed)}; give another "
                    "--output, or what it was begun with"
                )
        write_json(path, request)

    def _ours_part(self, name: str, *arguments: str) -> dict[str, Any]:
        """Runs a part of ours_real.py."""
        script = (sys.executable, str(HERE / "ours_real.py"), *arguments)
        document = f"--document={self.parts.document(name)}"
        return self.parts.run(name, [*script, document], self.environment)

    def _nnunet_part(self, name: str, *arguments: str) -> dict[str, Any]:
        """Runs a part of nnunet_real.py."""
        script = (self.arguments.peer_python, str(HERE / "nnunet_real.py"), *arguments)
        document = f"--document={self.parts.document(name)}"
        return self.parts.run(name, [*script, document], measure.peer_environment())

    def train_ours(self) -> None:
        """Trains all folds of ours."""
        arguments, given = self.arguments, list(self.settings)
        config = f"--config={(ROOT / arguments.config).resolve()}"
        if arguments.minutes:
            folder = f"--folder={self.parts.output}"
            minutes = f"--minutes={arguments.minutes}"
            pace = self._ours_part("pace", "pace", folder, minutes, config, *given)
            given.append(f"--config.segment.steps_per_epoch={pace['steps_per_epoch']}")
        command = [sys.executable, "-m", "brats_jax.main", config]
        command += [f"--workdir={self.run_folder.path}", *given]
        self.parts.run("ours", command, self.environment)

    def run_fold(self, fold: int, names: Sequence[str]) -> None:
        """Trains and predicts the programs of a fold."""
        at = f"fold_{fold}"
        run = (f"--run={self.run_folder.path}", f"--fold={fold}")
        sets = self._ours_part(f"sets_{at}", "sets", *run)
        tested = sets["test"][: self.arguments.cases or None]
        cases = self.parts.output / "parts" / f"cases_{at}.json"
        sources = [str(source.resolve()) for source in self.arguments.source]
        write_json(cases, {"sources": sources, "names": tested})
        training = self.training_of_ours(fold)
        for name in names:
            output = self.parts.output / "predictions" / f"{name}_{at}"
            given = (*run, f"--cases={cases}", f"--output={output}")
            if name == "ours":
                inference = self._ours_part(f"ours_predict_{at}", "predict", *given)
                training["parameters"] = inference["parameters"]
                self._add(name, fold, training, inference)
            elif name in ("twin", "smp"):
                more = (f"--network={name}", f"--peer_python={self.arguments.peer_python}")
                more += (f"--device={self.device}", f"--form={self.form}")
                found = self._ours_part(f"{name}_{at}", "torch", *given, *more)
                self._add(name, fold, found, found)
            else:
                self._run_nnunet(name, fold, sets["train"], tested, training["seconds"])

    def _run_nnunet(
        self, name: str, fold: int, trained: list[str], tested: list[str], seconds: float
    ) -> None:
        at, arguments = f"fold_{fold}", self.arguments
        base = self.parts.output / "nnunet" / at
        if not self.parts.document(f"nnunet_prepare_{at}").exists():
            real_cases.write_nnunet(real_cases.find(arguments.source, trained), base)
        shared = (f"--base={base}", f"--device={self.device}")
        prepared = self._nnunet_part(f"nnunet_prepare_{at}", "prepare", *shared)
        if name == "nnunet_small":
            shared = (*shared, f"--batch={arguments.nnunet_batch}")
        length = nnunet_length(arguments.nnunet_epochs, arguments.minutes, self.device, seconds)
        training = self._nnunet_part(f"{name}_{at}", "train", *shared, length)
        training["seconds_of_preprocessing"] = prepared["seconds"]
        found = real_cases.find(arguments.source, tested)
        files = self.parts.output / "parts" / f"files_{at}.json"
        write_json(files, {n: real_cases.channels(case) for n, case in found.items()})
        plain = [other for other, of in PREDICTED_OF.items() if of == name]
        for program in (name, *plain):
            output = self.parts.output / "predictions" / f"{program}_{at}"
            given = (*shared, f"--cases={files}", f"--output={output}")
            mirroring = ("--mirroring",) if program == name else ()
            part = f"{program}_predict_{at}"
            self._add(
                program, fold, training, self._nnunet_part(part, "predict", *given, *mirroring)
            )

    def _add(
        self, name: str, fold: int, training: dict[str, Any], inference: dict[str, Any]
    ) -> None:
        found = {"training": training, "inference": inference}
        self.programs.setdefault(name, {})[fold] = found

    def training_of_ours(self, fold: int) -> dict[str, Any]:
        """Seconds of a fold's stages, and the steps of its segmentation."""
        folder = self.run_folder.fold(fold)
        whole, found = 0.0, dict[str, Any]()
        for name in STAGES:
            stage = folder.stage(name)
            if not stage.is_complete:
                continue
            result = read_document(stage.complete_json, StageResult)
            training = read_document(stage.training_json, StageTraining)
            batch = read_json(self.run_folder.config_json, REMEDY)["config"]["train"]["batch_size"]
            rates = [r["patches_per_second"] for r in read_metrics(stage.metrics_jsonl)
                     if "patches_per_second" in r]  # fmt: skip
            steps = sum(training.steps_per_epoch * batch / rate for rate in rates)
            # The seconds of a continued training are those of its last process.
            whole += max(result.seconds, steps)
            found = {
                "steps": result.steps,
                "batch": batch,
                "seconds_of_steps": steps,
                # Without the first epoch, which compiles.
                "seconds_per_step": batch / float(np.median(rates[1:] or rates)),
            }
        return {**found, "seconds": whole}

    def score(self) -> None:
        """Scores the predictions; those of a program are scored once."""
        for name, program in self.programs.items():
            for fold, found in program.items():
                part = f"scores_{name}_fold_{fold}"
                path = self.parts.document(part)
                tested = list(found["inference"]["seconds_by_case"])
                if not path.exists():
                    print(f"{part}: scores {len(tested)} cases", flush=True)
                    folder = self.parts.output / "predictions" / f"{name}_fold_{fold}"
                    cases = real_cases.find(self.arguments.source, tested)
                    files = {n: folder / f"{n}{real_cases.SUFFIX}" for n in tested}
                    scores = {n: real_cases.score(files[n], cases[n]) for n in tested}
                    write_json(path, scores)
                found["scores"] = read_json(path, REMEDY)

    def facts(self) -> list[str]:
        """Lines below the tables."""
        load = [read_json(path, REMEDY).get("load") for path in self.parts.output.glob("parts/*")]
        loads = [value for pair in load if pair for value in pair]
        lines = [f"load while the parts ran: {min(loads):.1f} to {max(loads):.1f}"]
        if max(loads) > 1.5 * (os.cpu_count() or 1):
            lines[0] += (
                "; the machine had other work, which slows the waiting threads of PyTorch down "
                "more than JAX: do not compare times, nor what was trained for equal time"
            )
        for name, program in self.programs.items():
            training, title = next(iter(program.values()))["training"], real_table.TITLES[name]
            if "first_losses" in training:
                ours, other = training["first_losses"]
                lines.append(
                    f"{title}: torch {training['torch']}, {training['form']}, "
                    f"{training['threads']} threads; loss before the first step {other:.6f}, ours "
                    f"{ours:.6f}"
                )
            if "nnunetv2" in training and name not in PREDICTED_OF:
                lines.append(
                    f"{title}: nnunetv2 {training['nnunetv2']}, torch {training['torch']}; "
                    f"{training['epochs']} epochs, batch {training['batch']} of "
                    f"{' x '.join(map(str, training['patch']))}; preprocessing "
                    f"{training['seconds_of_preprocessing']:.0f} s"
                )
        return lines

    def write(self) -> None:
        """Writes and prints the page."""
        command = shlex.join(["python", "benchmarks/peers/real.py", *sys.argv[1:]])
        text, document = real_table.page(self.programs, command, measure.where(), self.facts())
        (self.parts.output / "peers.md").write_text(text)
        write_json(self.parts.output / "peers.json", document)
        print(text)


def _has_gpu(python: str) -> bool:
    """Whether the peer's PyTorch has a GPU that JAX is not told to leave out."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    command = [python, "-c", "import torch; print(torch.cuda.is_available())"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() == "True"


def folds_of(folds: str) -> list[int]:
    """The numbers of --folds.

    Raises:
      BratsError: other texts; `all` leaves no patient to compare programs on.
    """
    if not all(fold.isdecimal() for fold in folds.split(",")):
        raise BratsError(f"--folds={folds}: give numbers of folds with commas, such as 0,1")
    return [int(fold) for fold in folds.split(",")]


def programs_of(peers: str) -> list[str]:
    """The programs of --peers, ours first.

    Raises:
      BratsError: an unknown name.
    """
    names = ["ours"]
    for peer in filter(None, peers.split(",")):
        if peer not in PEERS:
            raise BratsError(f"--peers={peer}: valid are {', '.join(PEERS)}")
        names += PEERS[peer]
    return list(dict.fromkeys(names))


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True, help="a prepared store")
    parser.add_argument(
        "--source", type=Path, action="append", required=True, help="folder of its BraTS cases"
    )
    parser.add_argument("--config", required=True, help="settings, e.g. configs/real.py")
    parser.add_argument("--minutes", type=float, default=0.0, help="0: the config's own steps")
    parser.add_argument("--folds", default="0", help="with commas")
    parser.add_argument("--peers", default="ours,twin,smp,nnunet", help=", ".join(PEERS))
    parser.add_argument("--peer_python", required=True, help="Python with torch, smp and nnunetv2")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--cases", type=int, default=0, help="most test patients; 0: all")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--form", choices=("eager", "compiled"), help="of PyTorch; by device")
    parser.add_argument("--nnunet_batch", type=int, default=4, help="of nnunet_small")
    parser.add_argument(
        "--nnunet_epochs",
        type=int,
        default=0,
        help="nnU-Net's epochs; 0: the time of ours, on a GPU without --minutes its own 1000",
    )
    return parser


def main() -> None:
    try:
        _main()
    except BratsError as error:
        sys.exit(f"error: {error}")


def _main() -> None:
    arguments, overrides = parser().parse_known_args()
    others = [word for word in overrides if not word.startswith("--config.")]
    if others:
        parser().error(f"unknown arguments: {' '.join(others)}")
    # As Ctrl-C does, it ends the running part too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = programs_of(arguments.peers)
    for path in (arguments.store, *arguments.source, ROOT / arguments.config):
        if not path.exists():
            raise BratsError(f"{path} does not exist: check the path")
    if names != ["ours"] and shutil.which(arguments.peer_python) is None:
        raise BratsError(f"--peer_python={arguments.peer_python}: no such program")
    measurement = Measurement(arguments, overrides)
    measurement.check_request()
    try:
        measurement.train_ours()
        for fold in measurement.folds:
            measurement.run_fold(fold, names)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the part that was stopped")
    measurement.score()
    measurement.write()


if __name__ == "__main__":
    main()
