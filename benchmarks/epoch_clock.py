"""A training stage with a clock beside each part of its epochs; see epoch.py."""

import queue
import threading
import time
from typing import Any

import jax
import numpy as np

from benchmarks import measure
from brats_jax.training import trainer


class Clock:
    """What a run's parts took, epoch by epoch.

    Attributes:
      peer: what does an epoch in PyTorch, or None.
      peer_epochs: what it answered, seconds of an epoch first.
      epochs: seconds by part; 'steps' is all between the first batch asked for and the last
        step's end, 'waiting' the devices' part of it without work or data, 'idle' without work.
      bare: seconds of a step on a batch that is there already.
      steps_per_dispatch: of the last full dispatch.
      beside: seconds of what is only measured, not done by a training.
      start: seconds of a training beside its epochs, programs being there.
      compiling: seconds of its programs, the evaluation's too.
      scoring: seconds of an evaluated slice.
    """

    def __init__(self) -> None:
        self.peer: measure.Peer | None = None
        self.peer_epochs: list[list[float]] = []
        self.epochs: list[dict[str, float]] = []
        self.bare = float("nan")
        self.steps_per_dispatch = 1
        self.beside = self.start = self.compiling = self.scoring = 0.0

    def median(self) -> dict[str, float]:
        """Seconds of each part of an epoch, the first, which compiles, left out."""
        counted = self.epochs[1:]
        return {part: float(np.median([epoch[part] for epoch in counted])) for part in counted[0]}


class Compiling:
    """Seconds that this process has spent compiling."""

    def __init__(self) -> None:
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, seconds: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.seconds += seconds


class _TimedFeed:
    """A stage's feed that notes when each batch was asked for, and when it came."""

    def __init__(self, feed: Any) -> None:
        self._feed, self.asked = feed, list[tuple[float, float]]()
        self.largest: tuple[int, Any] = (0, None)  # steps and batch of the last full dispatch

    def __next__(self) -> Any:
        begin = time.perf_counter()
        portion = next(self._feed)
        self.asked.append((begin, time.perf_counter()))
        if portion.steps >= self.largest[0]:
            self.largest = portion.steps, portion.batch
        return portion

    @property
    def position(self) -> Any:
        return self._feed.position

    def close(self) -> None:
        self._feed.close()


def timed_stage(clock: Clock) -> type[trainer.Stage]:
    """The class of stages, with a clock beside each part of an epoch."""

    class TimedStage(trainer.Stage):
        def _prepare(self, stop: Any) -> None:
            super()._prepare(stop)
            self._given: list[float] = []  # when each dispatch was given to the devices
            self._done: list[float] = []  # when each was done
            self._watched: queue.Queue[Any] = queue.Queue()
            threading.Thread(target=self._watch, daemon=True).start()
            self.feed: Any = _TimedFeed(self.feed)
            self._plain_step, self.train_step = self.train_step, self._timed_step
            self._validate, self.validation.run = self.validation.run, self._timed_validation

        def _timed_step(self, state: Any, batch: Any) -> Any:
            self._given.append(time.perf_counter())
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
            asked, given, done = self.feed.asked, self._given, self._done
            steps_end = done[-1]
            # For the first batch of an epoch the devices wait without work.
            waiting, idle = asked[0][1] - asked[0][0], given[0] - asked[0][0]
            for before, (begin, came), gave in zip(done[:-1], asked[1:], given[1:], strict=True):
                idle += max(0.0, gave - before)
                waiting += max(0.0, came - max(begin, before))
            parts = {"steps": steps_end - asked[0][0], "waiting": waiting, "idle": idle}
            parts["asking"] = sum(came - begin for begin, came in asked)
            self.feed.asked, self._given, self._done = [], [], []
            self._validating = 0.0
            begin = time.perf_counter()
            super()._end_epoch()
            parts["validation"] = self._validating
            parts["checkpoint"] = time.perf_counter() - begin - self._validating
            clock.epochs.append(parts)
            if clock.peer is not None:
                begin = time.perf_counter()
                clock.peer_epochs.append(clock.peer.ask("epoch"))
                clock.beside += time.perf_counter() - begin

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
                clock.beside += time.perf_counter() - begin
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
