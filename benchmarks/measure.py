"""Shared by all benchmarks: timing, quartiles, peer processes, ceilings, machine and version.

python benchmarks/measure.py        # prints the ceilings of this device
"""

import contextlib
import fnmatch
import functools
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from brats_jax.errors import BratsError
from brats_jax.runtime import devices

HERE = Path(__file__).parent
AnyName = TypeVar("AnyName")
# Environment variable: path of a file to which each result is appended, one JSON object a line.
# gpu/gpu.py reads this file.
RESULTS = "BRATS_BENCHMARK_RESULTS"


def _show_error(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Prints a BratsError in one line, as the commands do."""
    if isinstance(error, BratsError):
        print(f"error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _show_error


class Spread(NamedTuple):
    """Lower quartile, median and upper quartile over the turns of a run."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Spread":
        """Quartiles of one value per turn."""
        return cls(*(float(q) for q in np.percentile(np.asarray(values, float), (25, 50, 75))))

    def show(self, scale: float = 1.0, digits: int = 1) -> str:
        """'12.3 (quartiles 12.0 to 12.9)' after multiplication by `scale`; '12.3' for one turn."""
        low, middle, high = (f"{scale * x:.{digits}f}" for x in self)
        return f"{middle} (quartiles {low} to {high})" if self.low < self.high else middle


def ratio(ours: Sequence[float], peer: Sequence[float]) -> Spread:
    """Quartiles of the ratio ours / peer, one ratio per turn."""
    return Spread.of(np.array(ours) / np.array(peer))


def timed(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one run, including the wait for the devices."""
    start = clock()
    jax.block_until_ready(run())
    return clock() - start


def least_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of `repeats` runs, after one warm-up run."""
    run()
    return min(timed(run) for _ in range(repeats))


def least_processor_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Processor time of all threads in seconds, the minimum over `repeats` runs."""
    return min(timed(run, time.process_time) for _ in range(repeats))


def time_alternately(
    functions: Mapping[str, Callable[[], object]],
    turns: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each function in each turn, by a clock; time.process_time counts all threads.

    A turn runs every function once, in order, so that a change of the machine's speed affects
    all of them. One warm-up turn is not counted.
    """
    for run in functions.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(turns):
        for name, run in functions.items():
            seconds[name].append(timed(run, clock))
    return seconds


def wall_and_processor_seconds(
    functions: Mapping[AnyName, Callable[[], object]], turns: int
) -> dict[AnyName, list[tuple[float, float]]]:
    """(wall time, processor time of all threads) of each function in each turn, in seconds.

    Turns as in `time_alternately`. Other programs of the machine disturb the processor time less.
    """
    seconds: dict[AnyName, list[tuple[float, float]]] = {name: [] for name in functions}
    for run in functions.values():
        jax.block_until_ready(run())
    for _ in range(turns):
        for name, run in functions.items():
            before = time.process_time()
            wall = timed(run)
            seconds[name].append((wall, time.process_time() - before))
    return seconds


def wall_and_processor_ratio(
    ours: Sequence[tuple[float, float]], peer: Sequence[tuple[float, float]]
) -> str:
    """'1.234 (quartiles ...), processor time x 1.200 (quartiles ...)'."""
    wall, processor = (ratio([a[k] for a in ours], [b[k] for b in peer]) for k in (0, 1))
    return f"{wall.show(digits=3)}, processor time x {processor.show(digits=3)}"


# The malloc settings of `devices.keep_freed_memory`, as environment variables.
KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}


def peer_environment(keeps_memory: bool = False) -> dict[str, str]:
    """Environment of a process of another Python: it imports `benchmarks` alone.

    Args:
      keeps_memory: malloc keeps freed memory, as `devices.keep_freed_memory` sets it here.
    """
    kept = KEEP_FREED_MEMORY if keeps_memory else {}
    return {**os.environ, "PYTHONPATH": str(HERE.parent), **kept}


class Peer:
    """A benchmark process of another Python environment.

    It reads requests from standard input, one a line, and prints one line of numbers for each.

    Args:
      python: path of the interpreter.
      script: path of the script in benchmarks/.
      arguments: command line of the script.
      keeps_memory: malloc keeps freed memory, as `devices.keep_freed_memory` sets it here.

    Attributes:
      description: the JSON object that the process prints first.

    Raises:
      SystemExit: the process ended.
    """

    def __init__(
        self, python: str, script: str, arguments: Sequence[str], keeps_memory: bool = False
    ) -> None:
        self._process = subprocess.Popen(
            [python, str(HERE / script), *arguments],
            env=peer_environment(keeps_memory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.description: dict[str, Any] = json.loads(self._line())

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise SystemExit(f"the peer's process ended with status {self._process.wait()}")
        return line

    def request(self, line: object) -> list[float]:
        """Writes one line to the process and returns the numbers of its reply."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return [float(number) for number in self._line().split()]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def end_group(process: "subprocess.Popen[Any]", grace: float = 0.0) -> None:
    """Kills a process that leads its own session, with all processes of its group.

    With `grace` the group gets SIGINT first and has that many seconds to remove its temporary
    folders and to end processes in sessions of their own.
    """
    with contextlib.suppress(ProcessLookupError):
        if grace:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def peak_memory() -> int:
    """Peak memory in bytes: of the device, on a CPU of this process (as in torch_peer.py)."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    # Not getrusage: a forked process inherits the maximum of its parent.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def one_device_mesh() -> Mesh:
    """A mesh of the first device alone."""
    return jax.make_mesh((1,), ("data",), devices=jax.devices()[:1], axis_types=(AxisType.Auto,))


class Ceilings(NamedTuple):
    """Measured limits of the device.

    Attributes:
      flops: FLOP/s of a large matrix product in the compute type.
      bandwidth: bytes/s of a copy, reads plus writes.
      dispatch: seconds to run a compiled program of one scalar addition.
      launch: seconds per operation in a program that chains small dependent operations.
    """

    flops: float
    bandwidth: float
    dispatch: float
    launch: float


def ceilings() -> Ceilings:
    """Measures the ceilings; about two seconds on a CPU."""
    on_cpu = jax.default_backend() == "cpu"
    size = 2048 if on_cpu else 8192
    a = jnp.ones((size, size), devices.compute_dtype("auto"))
    product = jax.jit(lambda a: a @ a)
    x = jnp.ones((1 << 26) if on_cpu else (1 << 28), jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    one, small = jnp.ones(()), jnp.ones((64, 64), devices.compute_dtype("auto"))
    nothing = jax.jit(lambda one: one + 1)
    links = 200

    def chain(x: jax.Array) -> jax.Array:
        for _ in range(links):  # products: XLA would fuse elementwise operations into one
            x = x @ small
        return x

    chained = jax.jit(chain)
    return Ceilings(
        flops=2 * size**3 / least_seconds(lambda: product(a)),
        bandwidth=2 * x.nbytes / least_seconds(lambda: copy(x)),
        dispatch=least_seconds(lambda: nothing(one), 50),
        launch=least_seconds(lambda: chained(small), 20) / links,
    )


def result(name: str, **numbers: Any) -> None:
    """Appends a result, with machine and version, to the file named by BRATS_BENCHMARK_RESULTS.

    Without this environment variable nothing is written.
    """
    path = os.environ.get(RESULTS)
    if path:
        origin = {"machine": machine(), "version": version(), "backend": jax.default_backend()}
        with open(path, "a") as file:
            file.write(json.dumps({"result": name, **origin, **numbers}) + "\n")


class Record:
    """Declares the results of a benchmark; the table of gpu/gpu.py reads nothing else.

    Args:
      names: patterns of the names of its results; '*' matches any text.
      optional: names of fields that a result may lack.
      types: type of each field, by name.
    """

    def __init__(self, *names: str, optional: Sequence[str] = (), **types: type) -> None:
        self.names, self.optional, self.types = names, frozenset(optional), types

    def keep(self, name: str, **numbers: Any) -> None:
        """Appends a result.

        Raises:
          ValueError: the result does not match the declaration. It is written all the same.
        """
        result(name, **numbers)
        other = set(numbers) ^ set(self.types)
        other -= self.optional - set(numbers)
        if other or not any(fnmatch.fnmatchcase(name, each) for each in self.names):
            raise ValueError(f"result {name!r} does not match its Record: {', '.join(other)}")


def where() -> str:
    """Machine, versions, commit, date and load in one line."""
    return (
        f"{machine()}, {version()}, "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f}"
    )


def machine() -> str:
    """Devices and processor."""
    return f"{devices.describe()}, {os.cpu_count()} CPUs ({_processor()})"


def version() -> str:
    """Versions of Python and JAX, and the commit."""
    return f"Python {platform.python_version()}, jax {jax.__version__}, commit {_commit()}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


@functools.cache
def _commit() -> str:
    """Short hash of the commit, followed by '+' if the working tree has changes."""
    root = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        return (git("rev-parse", "--short", "HEAD") or "unknown") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except OSError:
        return "unknown"


CEILINGS = Record("ceilings", flops=float, bandwidth=float, dispatch=float, launch=float, text=str)


if __name__ == "__main__":
    found = ceilings()
    text = (
        f"ceilings: {found.flops / 1e12:.2f} TFLOP/s of a matrix product, "
        f"{found.bandwidth / 1e9:.0f} GB/s of a copy, {1e6 * found.dispatch:.0f} us to start a "
        f"program, {1e6 * found.launch:.2f} us for each operation of a chain"
    )
    print(f"{text}\n  {where()}")
    CEILINGS.keep("ceilings", **found._asdict(), text=text)
