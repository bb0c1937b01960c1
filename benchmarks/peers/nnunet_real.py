r"""nnU-Net 2D with its own preprocessing, plans and trainer; a peer of real.py, which starts it.

    TORCH benchmarks/peers/nnunet_real.py prepare --base=DIR --document=FILE
    TORCH benchmarks/peers/nnunet_real.py train --base=DIR --seconds=1500 --document=FILE
    TORCH benchmarks/peers/nnunet_real.py predict --base=DIR --cases=FILE --output=DIR2 \
        --document=FILE

`real_cases.write_nnunet` has written the raw data set into DIR. Trains on all of its cases
(nnU-Net's fold `all`), which are the training patients alone. --seconds cuts the training to a wall
clock: two iterations are measured first, then the number of epochs is set, so that the polynomial
learning rate ends in time; at the beginning of each epoch its number of iterations is set anew from
the time left. --epochs=1000 trains nnU-Net's own epochs of 250 iterations instead. --batch=4 cuts
the planned batch. Writes a JSON document at the end. Needs nnunetv2; nothing is unpickled.
"""

import argparse
import importlib.metadata
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

DATASET, NAME = 1, "Dataset001_BraTS"  # `real_cases.write_nnunet` writes the same
PLANS, CONFIGURATION, FOLD = "nnUNetPlans", "2d", "all"
MOST_EPOCHS = 25
# An epoch ends with one batch of validation, which costs a third of an iteration, a checkpoint and
# a figure, which cost one or two seconds.
ITERATIONS_PER_EPOCH, SECONDS_PER_EPOCH = 5, 30.0
WEIGHTS, MODEL = "weights.npz", "model.json"


def processors() -> int:
    """CPU cores that this process may use: fewer than the machine has under `taskset`."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_folders(base: Path) -> None:
    """Sets the folders that nnU-Net reads from its environment; before its first import."""
    for name in ("raw", "preprocessed", "results"):
        (base / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(base / name)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON document, atomically; this Python need not have brats_jax."""
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(document, indent=2) + "\n")
    temporary.replace(path)


def versions() -> dict[str, str]:
    """Of the libraries that decide the result."""
    return {name: importlib.metadata.version(name) for name in ("nnunetv2", "torch")}


def plans_name(batch: int) -> str:
    """Name of the plans with another batch; 0: as planned."""
    return f"{PLANS}_batch{batch}" if batch else PLANS


def prepare(base: Path) -> dict[str, Any]:
    """Fingerprint, plans and preprocessing, as `nnUNetv2_plan_and_preprocess -c 2d` does."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    processes = processors()
    begin = time.perf_counter()
    api.extract_fingerprints([DATASET], num_processes=processes, check_dataset_integrity=True)
    api.plan_experiments([DATASET])
    api.preprocess([DATASET], configurations=(CONFIGURATION,), num_processes=(processes,))
    seconds = time.perf_counter() - begin
    plan = json.loads((base / "preprocessed" / NAME / f"{PLANS}.json").read_text())
    chosen = plan["configurations"][CONFIGURATION]
    return {
        "seconds": seconds,
        "batch": chosen["batch_size"],
        "patch": chosen["patch_size"],
        "channels": chosen["architecture"]["arch_kwargs"]["features_per_stage"],
    }


def write_plans(base: Path, batch: int) -> None:
    """Writes the plans with another batch beside the planned ones; the data are shared."""
    folder = base / "preprocessed" / NAME
    plan = json.loads((folder / f"{PLANS}.json").read_text())
    plan["plans_name"] = plans_name(batch)
    plan["configurations"][CONFIGURATION]["batch_size"] = batch
    write_json(folder / f"{plans_name(batch)}.json", plan)


def new_trainer(batch: int, device: str) -> Any:
    """nnU-Net's trainer, as `nnUNetv2_train` makes it."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    on_cpu = device == "cpu"
    torch.set_num_threads(processors() if on_cpu else 1)  # as nnUNetv2_train
    torch.backends.cudnn.benchmark = not on_cpu
    return get_trainer_from_args(
        NAME, CONFIGURATION, FOLD, "nnUNetTrainer", plans_name(batch), False, torch.device(device)
    )


def finish_loaders(trainer: Any) -> None:
    """Ends the loader processes of a trainer that has not been run to its end."""
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):
            loader._finish()


def seconds_per_iteration(batch: int, device: str) -> float:
    """Seconds of the second iteration of a new trainer, waiting for its batch included."""
    trainer = new_trainer(batch, device)
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    took = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        trainer.train_step(next(trainer.dataloader_train))
        took = time.perf_counter() - begin
    finish_loaders(trainer)
    return took


def epochs_of(seconds: float, per_iteration: float) -> int:
    """Number of epochs of a training of so many seconds: 1 to MOST_EPOCHS."""
    each = max(ITERATIONS_PER_EPOCH * per_iteration, SECONDS_PER_EPOCH)
    return max(1, min(MOST_EPOCHS, int(seconds / each)))


class Pace:
    """The number of iterations of each epoch, from the time that is left.

    Args:
      seconds: wall clock of the training.
      epochs: number of epochs.
      per_iteration: seconds of an iteration, as measured before.
      begin: of the training, by `time.perf_counter`.
    """

    def __init__(self, seconds: float, epochs: int, per_iteration: float, begin: float) -> None:
        self._epochs, self._per_iteration = epochs, per_iteration
        self._other = per_iteration / 3  # validation, checkpoint and figure of an epoch
        self._end = begin + seconds
        self._begin = 0.0
        self._iterations: list[float] = []

    def iterations(self, epoch: int, now: float) -> int:
        """Iterations of the epoch that begins now: at least one."""
        if self._iterations:
            whole = now - self._begin
            self._other = max(0.0, whole - sum(self._iterations))
            self._per_iteration = sum(self._iterations) / len(self._iterations)
        self._begin, self._iterations = now, []
        left = (self._end - now) / (self._epochs - epoch) - self._other
        return max(1, round(left / self._per_iteration))

    def add(self, seconds: float) -> None:
        """Notes the seconds of an iteration, waiting for its batch included."""
        self._iterations.append(seconds)


def cut_to(trainer: Any, seconds: float, per_iteration: float) -> None:
    """Cuts a trainer to a wall clock; its schedule of the learning rate ends with it."""
    trainer.num_epochs = epochs_of(seconds, per_iteration)
    trainer.num_val_iterations_per_epoch = 1  # of no effect: the last checkpoint is used
    pace = Pace(seconds, trainer.num_epochs, per_iteration, time.perf_counter())
    begin_epoch, begin_training, step = (
        trainer.on_epoch_start,
        trainer.on_train_epoch_start,
        trainer.train_step,
    )
    last = 0.0

    def on_epoch_start() -> None:
        begin_epoch()
        now = time.perf_counter()
        trainer.num_iterations_per_epoch = pace.iterations(trainer.current_epoch, now)

    def on_train_epoch_start() -> None:
        nonlocal last
        begin_training()
        last = time.perf_counter()

    def train_step(batch: Any) -> Any:
        nonlocal last
        result = step(batch)
        now = time.perf_counter()
        pace.add(now - last)
        last = now
        return result

    trainer.on_epoch_start = on_epoch_start
    trainer.on_train_epoch_start = on_train_epoch_start
    trainer.train_step = train_step


def count_steps(trainer: Any) -> list[float]:
    """Wraps `train_step`; the list gets the seconds of each, without waiting for its batch."""
    step, seconds = trainer.train_step, list[float]()

    def counted(batch: Any) -> Any:
        begin = time.perf_counter()
        result = step(batch)
        seconds.append(time.perf_counter() - begin)
        return result

    trainer.train_step = counted
    return seconds


def train(base: Path, batch: int, seconds: float, epochs: int, device: str) -> dict[str, Any]:
    """Trains, and saves the weights of the end beside nnU-Net's own checkpoint."""
    import torch

    if batch:
        write_plans(base, batch)
    measured = 0.0 if epochs else seconds_per_iteration(batch, device)
    trainer = new_trainer(batch, device)
    steps = count_steps(trainer)
    if epochs:
        trainer.num_epochs = epochs
    else:
        cut_to(trainer, seconds, measured)
    end_training, ends = trainer.on_train_end, list[float]()

    def on_train_end() -> None:
        ends.append(time.perf_counter())
        end_training()  # saves, and waits for its loader processes to end

    trainer.on_train_end = on_train_end
    begin = time.perf_counter()
    trainer.run_training()
    took = ends[0] - begin
    network = getattr(trainer.network, "_orig_mod", trainer.network)
    folder = Path(trainer.output_folder)
    state = {name: values.cpu().numpy() for name, values in network.state_dict().items()}
    np.savez(folder / WEIGHTS, **state)  # not torch's format, which is unpickled
    axes = trainer.inference_allowed_mirroring_axes
    write_json(folder / MODEL, {"mirroring_axes": None if axes is None else [int(a) for a in axes]})
    return {
        "seconds": took,
        "of_seconds": seconds,
        "seconds_of_steps": sum(steps),
        "steps": len(steps),
        "epochs": int(trainer.num_epochs),
        "seconds_per_iteration_before": measured,
        "batch": int(trainer.batch_size),
        "patch": [int(side) for side in trainer.configuration_manager.patch_size],
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in network.parameters()),
        **versions(),
    }


def new_predictor(base: Path, batch: int, device: str, mirroring: bool) -> Any:
    """nnU-Net's predictor with its default settings, with or without mirroring."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = base / "preprocessed" / NAME / f"{plans_name(batch)}.json"
    manager = PlansManager(json.loads(plans.read_text()))
    configuration = manager.get_configuration(CONFIGURATION)
    dataset = json.loads((base / "raw" / NAME / "dataset.json").read_text())
    name = f"nnUNetTrainer__{plans_name(batch)}__{CONFIGURATION}"
    folder = base / "results" / NAME / name / f"fold_{FOLD}"
    with np.load(folder / WEIGHTS, allow_pickle=False) as file:
        weights = {name: torch.from_numpy(file[name]) for name in file.files}
    axes = json.loads((folder / MODEL).read_text())["mirroring_axes"]
    heads = manager.get_label_manager(dataset).num_segmentation_heads
    network = nnUNetTrainer.build_network_architecture(
        manager, configuration, len(dataset["channel_names"]), heads, enable_deep_supervision=False
    )
    network.load_state_dict(weights)
    predictor = nnUNetPredictor(
        use_mirroring=mirroring, device=torch.device(device), allow_tqdm=False
    )
    axes = None if axes is None else tuple(axes)
    predictor.manual_initialization(
        network, manager, configuration, [weights], dataset, "nnUNetTrainer", axes
    )
    return predictor


def predict(base: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Predicts cases one by one, files to files; the model is loaded once."""
    import torch

    torch.set_num_threads(processors())
    begin = time.perf_counter()
    predictor = new_predictor(base, arguments.batch, arguments.device, arguments.mirroring)
    start = time.perf_counter() - begin
    arguments.output.mkdir(parents=True, exist_ok=True)
    seconds = {}
    for name, files in json.loads(arguments.cases.read_text()).items():
        begin = time.perf_counter()
        predictor.predict_from_files_sequential([files], [str(arguments.output / name)])
        seconds[name] = time.perf_counter() - begin
        print(f"{name}: {seconds[name]:.1f} s", flush=True)
    return {"start": start, "seconds_by_case": seconds, "mirroring": arguments.mirroring}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=("prepare", "train", "predict"))
    parser.add_argument("--base", type=Path, required=True, help="folder of nnU-Net's files")
    parser.add_argument("--document", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--batch", type=int, default=0, help="0: as planned")
    parser.add_argument("--seconds", type=float, default=0.0, help="of the training")
    parser.add_argument("--epochs", type=int, default=0, help="own epochs; 0: --seconds decides")
    parser.add_argument("--cases", type=Path, help="JSON: name -> files of the four channels")
    parser.add_argument("--output", type=Path, help="folder of the predictions")
    parser.add_argument("--mirroring", action="store_true", help="average over flips, its default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    base = arguments.base.resolve()
    set_folders(base)
    if arguments.do == "prepare":
        document = prepare(base)
    elif arguments.do == "train":
        document = train(
            base, arguments.batch, arguments.seconds, arguments.epochs, arguments.device
        )
    else:
        document = predict(base, arguments)
    write_json(arguments.document, document)


if __name__ == "__main__":
    main()
