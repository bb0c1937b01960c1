"""What the benchmarks share: turns, quartiles, the peer's process, ceilings, where it all ran."""

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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brats_jax.errors import BratsError
from brats_jax.runtime import devices

HERE = Path(__file__).parent
# A file to which every `result` is appended, one JSON object a line: what gpu.py reads.
RESULTS = "BRATS_BENCHMARK_RESULTS"


def _told(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """As the commands do: what the user has to change is one line."""
    if isinstance(error, BratsError):
        print(f"error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _told


class Spread(NamedTuple):
    """Quartiles of what several turns gave."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Spread":
        """Of numbers, one for each turn."""
        return cls(*(float(q) for q in np.percentile(np.asarray(values, float), (25, 50, 75))))

    def show(self, scale: float = 1.0, digits: int = 1) -> str:
        """'12.3 (quartiles 12.0 to 12.9)', multiplied by `scale`; of one turn '12.3'."""
        low, middle, high = (f"{scale * x:.{digits}f}" for x in self)
        return f"{middle} (quartiles {low} to {high})" if self.low < self.high else middle


def ratio(ours: Sequence[float], peer: Sequence[float]) -> Spread:
    """Quartiles of ours over the peer's, turn by turn."""
    return Spread.of(np.array(ours) / np.array(peer))


def timed(run: Callable[[], object]) -> float:
    """Seconds of one run, until the devices are done."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def best(run: Callable[[], object], repeats: int = 5) -> float:
    """The shortest of a few runs in seconds, after one that does not count."""
    run()
    return min(timed(run) for _ in range(repeats))


def busy(run: Callable[[], object], repeats: int = 5) -> float:
    """Processor time of all threads in seconds, the least of a few runs."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(run())
        seconds.append(time.process_time() - start)
    return min(seconds)


def by_turns(ways: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of every way in every turn, the ways alternating; a turn before them warms up."""
    for run in ways.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, run in ways.items():
            seconds[name].append(timed(run))
    return seconds


# What `devices.keep_freed_memory` asks of malloc, for a process that is told by its environment.
KEEPS_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}


class Peer:
    """A process of another Python that is told, line by line, when to run, and answers in lines.

    Args:
      python: its interpreter.
      script: its path in this folder.
      arguments: of the script.
      keeps_memory: its malloc gives nothing back to the system, as ours does not on a CPU.

    Attributes:
      description: the JSON object that it begins with.
    """

    def __init__(
        self, python: str, script: str, arguments: Sequence[str], keeps_memory: bool = False
    ) -> None:
        self._process = subprocess.Popen(
            [python, str(HERE / script), *arguments],
            env={
                **os.environ,
                "PYTHONPATH": str(HERE.parent),
                **(KEEPS_MEMORY if keeps_memory else {}),
            },
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

    def ask(self, what: object) -> list[float]:
        """The numbers of its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return [float(number) for number in self._line().split()]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def end_group(process: "subprocess.Popen[Any]", grace: float = 0.0) -> None:
    """Ends a process that was started as a session of its own, and all that it started.

    With `grace` it is interrupted first and has so many seconds to clear up: to end what it
    started as sessions of their own in turn, and to remove its folders.
    """
    with contextlib.suppress(ProcessLookupError):
        if grace:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def peak_memory() -> int:
    """Bytes: the device's largest use so far, on CPU that of this process (torch_peer.py's too)."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    # Not getrusage: its maximum goes back to the process that this one was forked from.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


class Ceilings(NamedTuple):
    """What the device can do at best, measured now.

    Attributes:
      flops: FLOP/s of a large matrix product in the compute type.
      bandwidth: bytes/s of a copy, read and written.
      dispatch: seconds to start a compiled program that does next to nothing.
      launch: seconds for each of a chain of small dependent operations within one program.
    """

    flops: float
    bandwidth: float
    dispatch: float
    launch: float


def ceilings() -> Ceilings:
    """Measures them; about two seconds on CPU."""
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
        for _ in range(links):  # products, because anything else would become one operation
            x = x @ small
        return x

    chained = jax.jit(chain)
    return Ceilings(
        flops=2 * size**3 / best(lambda: product(a)),
        bandwidth=2 * x.nbytes / best(lambda: copy(x)),
        dispatch=best(lambda: nothing(one), 50),
        launch=best(lambda: chained(small), 20) / links,
    )


def result(name: str, **numbers: Any) -> None:
    """Appends numbers to the file that the environment names, if it does, and what they are of."""
    path = os.environ.get(RESULTS)
    if path:
        of = {"machine": machine(), "version": version(), "backend": jax.default_backend()}
        with open(path, "a") as file:
            file.write(json.dumps({"result": name, **of, **numbers}) + "\n")


class Record:
    """What a benchmark writes down, declared: gpu.py's table reads nothing else.

    Args:
      names: of its results; '*' stands for what differs.
      optional: those of its numbers that are not always there.
      types: of its numbers, by name.
    """

    def __init__(self, *names: str, optional: Sequence[str] = (), **types: type) -> None:
        self.names, self.optional, self.types = names, frozenset(optional), types

    def keep(self, name: str, **numbers: Any) -> None:
        """Appends a result.

        Raises:
          ValueError: it is not what was declared (it is kept nevertheless).
        """
        result(name, **numbers)
        other = set(numbers) ^ set(self.types)
        other -= self.optional - set(numbers)
        if other or not any(fnmatch.fnmatchcase(name, each) for each in self.names):
            raise ValueError(f"result {name!r} is not what is declared: {', '.join(other)}")


def where() -> str:
    """Machine, versions, commit, date and load, in one line."""
    return (
        f"{machine()}, {version()}, "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f}"
    )


def machine() -> str:
    """Its devices and its processor."""
    return f"{devices.describe()}, {os.cpu_count()} CPUs ({_processor()})"


def version() -> str:
    """Of Python, JAX and this repository."""
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
    """The short name of the commit, '+' behind it where the working tree differs."""
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
