"""A training stage that measures the time of each part of its epochs; used by epoch.py."""

import queue
import threading
import time
from typing import Any

import jax
import numpy as np

from benchmarks import measure
from brats_jax.training import trainer


class Clock:
    """Times of the parts of a training.

    Attributes:
      peer: process that runs an epoch in PyTorch, or None.
      peer_epochs: its replies, for each epoch the seconds of the whole and of its parts.
      epochs: for each epoch the seconds by part. 'steps' lasts from the first request for a batch
        to the end of the last step; 'idle' is the part of it in which the devices had no work,
        'waiting' that in which they had no work because a batch was missing.
      bare: seconds per step with the batch in device memory.
      steps_per_dispatch: steps of the last full dispatch.
      excluded: seconds of measurements that are no part of a training.
      start: seconds of a training outside of its epochs, without compilation.
      compiling: seconds of compilation, including the evaluation's programs.
      scoring: seconds per evaluated slice.
    """

    def __init__(self) -> None:
        self.peer: measure.Peer | None = None
        self.peer_epochs: list[list[float]] = []
        self.epochs: list[dict[str, float]] = []
        self.bare = float("nan")
        self.steps_per_dispatch = 1
        self.excluded = self.start = self.compiling = self.scoring = 0.0

    def median(self) -> dict[str, float]:
        """Median seconds of each part over all epochs but the first, which compiles."""
        counted = self.epochs[1:]
        return {part: float(np.median([epoch[part] for epoch in counted])) for part in counted[0]}


class Compiling:
    """Seconds that this process has spent compiling."""

    def __init__(self) -> None:
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def _add(self, event: str, seconds: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.seconds += seconds


class _TimedFeed:
    """A stage's feed that records when each batch was requested and when it arrived."""

    def __init__(self, feed: Any) -> None:
        self._feed, self.requests = feed, list[tuple[float, float]]()
        self.largest: tuple[int, Any] = (0, None)  # steps and batch of the last full dispatch

    def __next__(self) -> Any:
        begin = time.perf_counter()
        portion = next(self._feed)
        self.requests.append((begin, time.perf_counter()))
        if portion.steps >= self.largest[0]:
            self.largest = portion.steps, portion.batch
        return portion

    @property
    def position(self) -> Any:
        return self._feed.position

    def close(self) -> None:
        self._feed.close()


def timed_stage(clock: Clock) -> type[trainer.Stage]:
    """A subclass of Stage that writes the times of its epochs to `clock`."""

    class TimedStage(trainer.Stage):
        def _prepare(self, stop: Any) -> None:
            super()._prepare(stop)
            self._started: list[float] = []  # when each dispatch was started
            self._done: list[float] = []  # when each dispatch ended
            self._watched: queue.Queue[Any] = queue.Queue()
            threading.Thread(target=self._watch, daemon=True).start()
            self.feed: Any = _TimedFeed(self.feed)
            self._plain_step, self.programs.step = self.programs.step, self._timed_step
            self._validate, self.validation.run = self.validation.run, self._timed_validation

        def _timed_step(self, state: Any, batch: Any) -> Any:
            self._started.append(time.perf_counter())
            state, progress = self._plain_step(state, batch)
            self._watched.put(progress)
            return state, progress

        def _watch(self) -> None:
            while (progress := self._watched.get()) is not None:
                progress.loss_sum.block_until_ready()
                self._done.append(time.perf_counter())
                self._watched.task_done()

        def _end_epoch(self) -> None:
            self._finish_all()
            self._watched.join()
            requests, starts, ends = self.feed.requests, self._started, self._done
            first_request, first_arrival = requests[0]
            # The devices have no work until the first batch of an epoch arrives.
            waiting, idle = first_arrival - first_request, starts[0] - first_request
            for end, (request, arrival), start in zip(
                ends[:-1], requests[1:], starts[1:], strict=True
            ):
                idle += max(0.0, start - end)
                waiting += max(0.0, arrival - max(request, end))
            parts = {"steps": ends[-1] - first_request, "waiting": waiting, "idle": idle}
            parts["asking"] = sum(arrival - request for request, arrival in requests)
            self.feed.requests, self._started, self._done = [], [], []
            self._validating = 0.0
            begin = time.perf_counter()
            super()._end_epoch()
            parts["validation"] = self._validating
            parts["checkpoint"] = time.perf_counter() - begin - self._validating
            clock.epochs.append(parts)
            if clock.peer is not None:
                begin = time.perf_counter()
                clock.peer_epochs.append(clock.peer.request("epoch"))
                clock.excluded += time.perf_counter() - begin

        def _timed_validation(self, *arguments: Any) -> dict[str, float]:
            begin = time.perf_counter()
            values = self._validate(*arguments)
            self._validating = time.perf_counter() - begin
            return values

        def _train(self) -> None:
            try:
                super()._train()
            finally:
                begin = time.perf_counter()
                if self.feed.largest[0] and len(clock.epochs) > 1:
                    self._time_bare_steps()
                clock.excluded += time.perf_counter() - begin
                self._watched.put(None)

        def _time_bare_steps(self) -> None:
            steps, batch = self.feed.largest
            dispatches = max(2, self.steps_per_epoch // steps)

            def run() -> Any:
                for _ in range(dispatches):
                    self.state, progress = self._plain_step(self.state, batch)
                return progress

            self.state, progress = self._plain_step(self.state, batch)
            jax.block_until_ready(progress)
            clock.bare = measure.timed(run) / dispatches / steps
            clock.steps_per_dispatch = steps

    return TimedStage
