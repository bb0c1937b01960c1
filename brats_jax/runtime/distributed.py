"""Several processes that train together: how they meet, agree, and part.

Each runs the same program on its own devices and its own part of every batch. Only the first
one reads and writes the run folder; what it finds, decides or fails at there, the others are
told through the key-value store of JAX's coordination service. They wait for it on the host,
for as long as it takes: a collective of the devices gives up after half a minute.
"""

import itertools
import json
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from brats_jax.errors import BUSY_STATUS, BratsError, Busy

if TYPE_CHECKING:
    from jax.sharding import Mesh

T = TypeVar("T")

# What asks for several processes; main.py has these flags.
FLAGS = ("coordinator", "num_processes", "process_id", "distributed")

WAIT_S = 300.0  # for the others at the start: nodes of a cluster do not start at once


class _Place:
    """Where this process stands; JAX itself could only be asked once its devices are in use."""

    index = 0
    count = 1
    messages = itertools.count()
    told = False  # the others know that this process ends, and with which status
    telling = False  # within what only the first does


def is_first() -> bool:
    """Whether this is the process that reads and writes the run folder."""
    return _Place.index == 0


def count() -> int:
    """How many processes there are."""
    return _Place.count


def join(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    automatic: bool = False,
    *,
    wait_s: float = WAIT_S,
) -> None:
    """Meets the other processes; does nothing where none are asked for.

    Call it before anything uses JAX's devices. Ends this process, with one line, where the
    others are not there in time.

    Args:
      coordinator: HOST:PORT of the first process, as the others reach it.
      num_processes, process_id: how many there are, and which this is, from 0.
      automatic: the cluster says all three (SLURM, Open MPI and others that JAX knows).
      wait_s: how long to wait for the others.

    Raises:
      BratsError: flags that contradict each other; no cluster; a port that is taken.
    """
    given = (coordinator, num_processes, process_id)
    if given == (None, None, None) and not automatic:
        return
    if automatic and given != (None, None, None):
        raise BratsError("give --distributed alone: the cluster says the rest")
    if not automatic:
        _check(*given)
    import jax

    # SIGTERM is for `StopRequests`: the handler of JAX's own service would only take it away.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    where = coordinator or "the cluster's first process"
    late = threading.Timer(wait_s, _give_up, (where, wait_s))
    late.daemon = True
    late.start()
    try:
        # On its own time limit JAX would abort, with a stack trace of C++.
        jax.distributed.initialize(*given, initialization_timeout=int(wait_s) + 60)
    except ValueError:
        raise BratsError(
            "--distributed: no cluster found (start it with srun or mpirun); or give "
            "--coordinator=HOST:PORT --num_processes=N --process_id=I"
        ) from None
    finally:
        late.cancel()
    state = _service()
    _Place.index, _Place.count = state.process_id, state.num_processes


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
            f"--process_id={process_id}: of {num_processes} processes it is 0 to "
            f"{num_processes - 1}"
        )
    if process_id:
        return
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:  # JAX itself crashes on a port that is taken
        socket.create_server(("", int(port)), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise BratsError(f"--coordinator={coordinator}: {why}; give another port") from None


def _give_up(where: str, wait_s: float) -> None:
    print(
        f"error: {where}: not all processes were there within {wait_s:.0f} s; give each the same "
        "--coordinator and --num_processes, and a --process_id of its own",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _service() -> Any:
    # Not public, though the one way to its key-value store; Orbax takes it too.
    from jax._src import distributed

    return distributed.global_state


def from_first(do: Callable[[], T]) -> T:
    """What `do` returns in the first process, in every process.

    All must call it, in the same order; only the first calls `do`. Where that raises, the others
    end with the status that the first one will end with, and leave it to say why.

    Args:
      do: returns what JSON has words for. What it calls in turn may call `from_first`.
    """
    if _Place.count == 1 or _Place.telling:
        return do()
    key = f"brats_jax/{next(_Place.messages)}"
    if not is_first():
        message = json.loads(_wait_for(key))
        if "status" in message:
            raise SystemExit(message["status"])
        return message["value"]
    _Place.telling = True
    try:
        text = json.dumps({"value": do()})
    except BaseException as error:
        _Place.told = True
        _service().client.key_value_set(key, json.dumps({"status": _status(error)}))
        raise
    finally:
        _Place.telling = False
    _service().client.key_value_set(key, text)
    return json.loads(text)["value"]


def to_first(value: Any) -> list[Any]:
    """The values of all processes (JSON-able), in the first one; in the others an empty list."""
    if _Place.count == 1:
        return [value]
    key = f"brats_jax/{next(_Place.messages)}"
    if is_first():
        return [value, *(json.loads(_wait_for(f"{key}/{i}")) for i in range(1, _Place.count))]
    _service().client.key_value_set(f"{key}/{_Place.index}", json.dumps(value))
    return []


def _wait_for(key: str) -> str:
    import jax

    while True:
        try:  # for a second, so that Ctrl-C is heard
            return _service().client.blocking_key_value_get(key, 1000)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _status(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return BUSY_STATUS if isinstance(error, Busy) else 1


class StopAgreement:
    """Whether to stop: the same answer in every process, at the same call.

    A signal may reach one process alone, or all at different steps. So each call sends what its
    process has noted to a maximum over all devices, and answers with the call `behind` calls ago:
    that one is long done, and nobody waits.

    Args:
      noted: the number of the signal that this process was sent, or None.
      mesh: the devices.
      behind: calls between asking and answer.
    """

    def __init__(self, noted: Callable[[], int | None], mesh: "Mesh", behind: int) -> None:
        self._noted, self._mesh, self._behind = noted, mesh, behind
        self._asked: deque[Any] = deque()

    def signal_number(self) -> int | None:
        """The signal to stop for, or None."""
        if _Place.count == 1:
            return self._noted()
        from brats_jax.runtime import devices

        self._asked.append(devices.largest(self._noted() or 0, self._mesh))
        if len(self._asked) <= self._behind:
            return None
        return int(self._asked.popleft()) or None


def leave(status: int) -> int:
    """The status to end with, if the others know; else ends this process at once.

    A process that ended as usual would wait for the others, and they wait for it.
    """
    if _Place.count == 1 or _Place.told or not status:
        return status
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():
        # Its end is the end of all, who may be about to say what is wrong.
        time.sleep(2.0)
    os._exit(status)


def lost_another(error: Exception) -> bool:
    """Whether an error of JAX tells that another process has ended."""
    text = str(error).lower()
    return _Place.count > 1 and any(
        name in text for name in ("gloo", "nccl", "coordination", "connection", "unavailable")
    )
