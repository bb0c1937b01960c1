"""Training by several processes: how they start, agree and end together.

Each process runs the same program on its own devices and its own rows of every batch. Only the
main process (index 0) reads and writes the run folder; the others receive its results, decisions
and failures through the key-value store of JAX's coordination service. They wait on the host,
without a time limit: a collective on the devices would give up after half a minute.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from brats_jax.errors import BUSY_STATUS, BratsError, Busy
from brats_jax.runtime import kubernetes, local_devices, signals

if TYPE_CHECKING:
    from jax.sharding import Mesh

T = TypeVar("T")

# Flags of main.py that request several processes.
FLAGS = ("coordinator", "num_processes", "process_id", "distributed")

# How long a process waits for the others.
START_WAIT_S = 300.0  # at the start: the nodes of a cluster do not start at once
END_WAIT_S = 60.0  # at a regular end; JAX aborts a process 100 s after it has lost another one
FAILURE_WAIT_S = 5.0  # at any other end
EXIT_S = 1.0  # that a process needs to exit after it has announced its end


class _Process:
    """The index of this process and their number; JAX states both only with devices in use."""

    index = 0
    count = 1
    messages = itertools.count()
    in_main_only = False  # within a function that only the main process calls


def is_main() -> bool:
    """Whether this is the process that reads and writes the run folder."""
    return _Process.index == 0


def process_count() -> int:
    """Number of processes."""
    return _Process.count


def initialize(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    automatic: bool = False,
    *,
    wait_s: float = START_WAIT_S,
) -> None:
    """Connects to the other processes; does nothing if no argument asks for any.

    Call it before anything uses JAX's devices. Ends this process, with one line, if the others
    have not connected after `wait_s`.

    Args:
      coordinator: HOST:PORT of the main process, as the others reach it.
      num_processes, process_id: number of processes, and index of this one.
      automatic: JAX asks the cluster (SLURM, Open MPI and others) for all three.
      wait_s: how long to wait for the other processes.

    Raises:
      BratsError: flags that contradict each other; no cluster; a port in use; more processes on a
        node than GPUs.
    """
    given = (coordinator, num_processes, process_id)
    if given == (None, None, None) and not automatic:
        return
    if automatic and given != (None, None, None):
        raise BratsError("give --distributed alone: the cluster provides the other values")
    if not automatic:
        _check(*given)
    import jax

    # The handler of JAX's own preemption service would take SIGTERM from `StopRequests`.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    gpus = local_devices.gpu_share()
    if gpus.note:
        print(gpus.note, flush=True)
    where = coordinator or "the cluster's first process"
    late = threading.Timer(wait_s, _give_up, (where, wait_s))
    late.daemon = True
    late.start()
    try:
        # After its own time limit JAX aborts with a C++ stack trace, hence the longer one.
        jax.distributed.initialize(
            *given,
            local_device_ids=gpus.ids,
            cluster_detection_method=kubernetes.detection(automatic),
            initialization_timeout=int(wait_s) + 60,
        )
    except Exception as error:
        if automatic and kubernetes.is_pod() and _service().coordinator_address is None:
            raise kubernetes.detection_error(error) from None
        if not isinstance(error, ValueError):
            raise
        raise BratsError(
            "--distributed: no cluster found (start it with srun or mpirun); or give "
            "--coordinator=HOST:PORT --num_processes=N --process_id=I"
        ) from None
    finally:
        late.cancel()
    state = _service()
    _Process.index, _Process.count = state.process_id, state.num_processes
    if _Process.index:
        signals.stop_announcing()  # the main process does


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    if coordinator is None or num_processes is None or process_id is None:
        raise BratsError(
            "several processes need --coordinator=HOST:PORT, --num_processes=N and "
            "--process_id=I (0 to N - 1), each of them; or --distributed alone on a cluster"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise BratsError(f"--coordinator={coordinator}: give HOST:PORT of the first process")
    if not 0 <= process_id < num_processes:
        raise BratsError(
            f"--process_id={process_id}: with {num_processes} processes give 0 to "
            f"{num_processes - 1}"
        )
    if process_id:
        return
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:  # JAX itself crashes if the port is in use
        socket.create_server(("", int(port)), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise BratsError(f"--coordinator={coordinator}: {why}; give another port") from None


def _give_up(where: str, wait_s: float) -> None:
    print(
        f"error: {where}: not all processes connected within {wait_s:.0f} s; give each the same "
        "--coordinator and --num_processes, and a --process_id of its own",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _service() -> Any:
    # Private: jax.distributed offers no access to the key-value store (0.10 to 0.12), and
    # multihost_utils sends through the devices. Orbax uses this module as well.
    from jax._src import distributed

    return distributed.global_state


def broadcast_from_main(function: Callable[[], T]) -> T:
    """Calls `function` in the main process and returns its result in every process.

    All processes must call this, in the same order. If `function` raises, the other processes
    end silently with the exit status of the main process, which prints the error.

    Args:
      function: returns a JSON-able value. It may itself use `broadcast_from_main`.
    """
    if _Process.count == 1 or _Process.in_main_only:
        return function()
    key = f"brats_jax/{next(_Process.messages)}"
    if not is_main():
        message = json.loads(_wait_for(key))
        if "status" in message:
            raise SystemExit(message["status"])
        return message["value"]
    _Process.in_main_only = True
    try:
        text = json.dumps({"value": function()})
    except BaseException as error:
        # srun sends SIGTERM to this process as soon as another one has ended.
        signals.ignore_signals()
        _service().client.key_value_set(key, json.dumps({"status": _status(error)}))
        raise
    finally:
        _Process.in_main_only = False
    _service().client.key_value_set(key, text)
    return json.loads(text)["value"]


def gather_to_main(value: Any) -> list[Any]:
    """Returns the JSON-able values of all processes in the main one, an empty list elsewhere."""
    if _Process.count == 1:
        return [value]
    key = f"brats_jax/{next(_Process.messages)}"
    if is_main():
        return [value, *(json.loads(_wait_for(f"{key}/{i}")) for i in range(1, _Process.count))]
    _service().client.key_value_set(f"{key}/{_Process.index}", json.dumps(value))
    return []


def _wait_for(key: str) -> str:
    import jax

    while True:
        try:  # one second at a time, so that Ctrl-C works
            return _service().client.blocking_key_value_get(key, 1000)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _status(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        terminated = isinstance(error, signals.Terminated)
        return 128 + (signal.SIGTERM if terminated else signal.SIGINT)
    if number := signals.received():
        return 128 + number
    return BUSY_STATUS if isinstance(error, Busy) else 1


class StopAgreement:
    """Decides when to stop: the same answer in every process, at the same call.

    A signal may reach one process only, or all of them at different steps. Each call therefore
    starts a maximum of the recorded signals over all devices, and returns the maximum that was
    started `behind` calls ago: that one is complete, and nothing waits.

    Args:
      recorded: returns the number of the signal that this process received, or None.
      mesh: the devices.
      behind: calls between the start of a maximum and its use.
    """

    def __init__(self, recorded: Callable[[], int | None], mesh: "Mesh", behind: int) -> None:
        self._recorded, self._mesh, self._behind = recorded, mesh, behind
        self._started: deque[Any] = deque()

    def signal_number(self) -> int | None:
        """The signal to stop for, or None."""
        if _Process.count == 1:
            return self._recorded()
        from brats_jax.runtime import devices

        self._started.append(devices.max_over_processes(self._recorded() or 0, self._mesh))
        if len(self._started) <= self._behind:
            return None
        return int(self._started.popleft()) or None


def end(status: int) -> int:
    """Returns `status`; or ends this process at once if there are several, or it is not 0.

    At a regular exit of several JAX waits for the others, without regard to signals, and aborts
    with a C++ stack trace if one of them is gone. At that of one process, computations and reads
    that an error or a signal has interrupted may still run in threads of native libraries, and
    fail in an interpreter that is being torn down. All work is saved or given up by now.
    """
    if _Process.count == 1:
        if status:
            leave(status)
        return status
    if status:
        signals.ignore_signals()  # srun sends some to all others once the first process has ended
    else:
        signals.die_on_signals()
    # The end of the main process ends all others, which may be about to print an error.
    patience = FAILURE_WAIT_S if status else END_WAIT_S
    announcing = threading.Thread(
        target=_wait_for_ends if is_main() else _announce_end,
        args=(patience,) if is_main() else (),
        daemon=True,
    )
    announcing.start()
    announcing.join(patience + EXIT_S)
    leave(status)


def leave(status: int) -> NoReturn:
    """Ends this process at once, with its output and without its worker processes."""
    signals.ignore_signals()
    for child in multiprocessing.active_children():
        child.terminate()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a closed pipe, a full disk
            stream.flush()
    os._exit(status)


def _announce_end() -> None:
    with contextlib.suppress(Exception):  # the main process may be gone
        _service().client.key_value_set(f"brats_jax/ended/{_Process.index}", "")


def _wait_for_ends(patience_s: float) -> None:
    until = time.monotonic() + patience_s
    for index in range(1, _Process.count):
        left = max(0.001, until - time.monotonic())
        with contextlib.suppress(Exception):
            _service().client.blocking_key_value_get(f"brats_jax/ended/{index}", int(1000 * left))
    time.sleep(EXIT_S)


def is_lost_process(error: Exception) -> bool:
    """Whether an exception of JAX, with several processes, means that another one has ended."""
    text = str(error).lower()
    return any(
        name in text for name in ("gloo", "nccl", "coordination", "connection", "unavailable")
    )
