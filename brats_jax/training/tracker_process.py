"""The process of one tracker of one stage: messages in, calls of the tracker's library out.

    python -m brats_jax.training.tracker_process TRACKER FOLDER

A process of its own, because the libraries import for seconds, start threads, install handlers at
exit, wait for servers, and may crash: none of that can then touch a training. Standard input has
a JSON object a line: first the fields of `Start`; then `{"step", "values"}`, `{"results"}`, and at
the end `{"end": how}`. Standard output has `{"address"}`, `{"error"}`, and `{"delivered": N}` for N
more messages that the library took.

FOLDER is for temporary files, and is removed at the end. The process ends itself `END_S` after its
input ends or its parent is gone, whatever it waits for.
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from brats_jax.runtime.redact import first_line, without_secrets
from brats_jax.training.tracker_adapters import ADAPTERS, STOPPED, Adapter, Record, Start

END_S = 30.0  # for the last messages
RETRY_S = 20.0  # after an error of the library, such as a server that is down
_MOST_AT_ONCE = 200
_MOST_WAITING = 1000
_NICE = 10  # the training goes first


class _GaveUp(Exception):
    """The library failed again after the input had ended: no time is left for another attempt."""


class TrackerProcess:
    """Passes messages from the input to a tracker.

    Args:
      adapter: the tracker.
      source: yields the messages, see above.
      output: where the answers are written.
      retry_s: seconds between two attempts.
    """

    def __init__(
        self, adapter: Adapter, source: TextIO, output: TextIO, retry_s: float = RETRY_S
    ) -> None:
        self._adapter, self._source, self._output = adapter, source, output
        self._retry_s = retry_s
        # Bounded: where a tracker hangs, the pipe fills, and the training drops its messages.
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self.input_ended = threading.Event()
        self._failed = False

    def run(self) -> None:
        """Works until the input ends and all is passed on, or cannot be."""
        threading.Thread(target=self._read, daemon=True).start()
        start = self._waiting.get()
        if start is None:
            return
        how = STOPPED  # a training that was killed says no more
        with contextlib.suppress(_GaveUp):
            address = self._until_done(lambda: self._adapter.open(Start(**start)))
            self._answer(address=without_secrets(address))
            for messages in self._batches():
                records = [Record(m["step"], m["values"]) for m in messages if "step" in m]
                if records:
                    self._until_done(lambda: self._adapter.log(records))  # noqa: B023
                for message in messages:
                    if "results" in message:
                        self._until_done(lambda: self._adapter.results(message["results"]))  # noqa: B023
                    how = message.get("end", how)
                self._answer(delivered=sum("end" not in message for message in messages))
            self._until_done(lambda: self._adapter.close(how))

    def _read(self) -> None:
        for line in self._source:
            with contextlib.suppress(ValueError):  # cut by a kill
                self._waiting.put(json.loads(line))
        self.input_ended.set()
        self._waiting.put(None)

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        """The messages that have arrived, together: a slow server gets few requests."""
        while (message := self._waiting.get()) is not None:
            messages = [message]
            with contextlib.suppress(queue.Empty):
                while len(messages) < _MOST_AT_ONCE:
                    message = self._waiting.get_nowait()
                    if message is None:
                        self._waiting.put(None)
                        break
                    messages.append(message)
            yield messages

    def _until_done(self, call: Callable[[], Any]) -> Any:
        """Repeats a call until it succeeds; reports the first error.

        Raises:
          _GaveUp: the call failed, and had begun after the input ended.
        """
        while True:
            last = self.input_ended.is_set()
            try:
                return call()
            except Exception as error:
                if not self._failed:
                    self._answer(error=first_line(error))
                self._failed = True
            if last:
                raise _GaveUp
            self.input_ended.wait(self._retry_s)

    def _answer(self, **answer: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # the training is gone
            self._output.write(json.dumps(answer) + "\n")
            self._output.flush()


def _end_in_time(process: TrackerProcess, parent: int, folder: str) -> None:
    """Ends this process after its input or its parent has ended, whatever the library does."""
    while not process.input_ended.wait(1.0) and os.getppid() == parent:
        pass
    time.sleep(END_S)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main() -> None:
    """Runs the process."""
    # A cluster signals all processes; this one ends with its input.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    # The libraries print to the standard streams.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    parent = os.getppid()
    source = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(nowhere, 0)  # nor may they ask for a login
    tracker, folder = sys.argv[1:]
    process = TrackerProcess(ADAPTERS[tracker](), source, output)
    threading.Thread(target=_end_in_time, args=(process, parent, folder), daemon=True).start()
    process.run()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # without handlers at exit, which wait for servers


if __name__ == "__main__":
    main()
