"""The three steps of a case overlap, keep their order, and fail case by case."""

import threading
import time

import pytest

from brats_jax.inference.case_pipeline import run_cases


def test_few_cases_are_in_memory_at_once():
    in_memory, most = 0, 0
    lock = threading.Lock()

    def count(change):
        nonlocal in_memory, most
        with lock:
            in_memory += change
            most = max(most, in_memory)

    def write(case, started):
        time.sleep(0.01)  # slower than reading
        count(-1)
        return case

    cases = list(range(30))
    done = run_cases(
        cases, lambda case: count(1), lambda case, loaded: case, write, readers=2, writers=2
    )
    assert [written.result() for _, written in done] == cases
    assert in_memory == 0 and 2 <= most <= 2 + 2 + 2


def test_something_else_is_done_once_while_the_first_cases_are_read():
    steps, reading = [], threading.Event()

    def read(case):
        reading.wait(10)
        return case

    def meanwhile():
        steps.append("meanwhile")
        reading.set()

    def predict(case, loaded):
        steps.append(case)
        return case

    done = run_cases(
        ["a", "b"], read, predict, lambda case, started: case, readers=1, writers=1,
        meanwhile=meanwhile,
    )  # fmt: skip
    assert [written.result() for _, written in done] == ["a", "b"]
    assert steps == ["meanwhile", "a", "b"]


@pytest.mark.parametrize("step", ["read", "predict", "write"])
def test_an_error_in_any_step_fails_one_case_only(step):
    def at(name, case):
        if (name, case) == (step, "b"):
            raise ValueError(name)
        return case

    done = run_cases(
        ["a", "b", "c"],
        lambda case: at("read", case),
        lambda case, loaded: at("predict", case),
        lambda prediction, started: at("write", prediction),
        readers=2,
        writers=2,
    )
    results = {case: written.exception() or written.result() for case, written in done}
    assert results["a"] == "a" and results["c"] == "c"
    assert str(results["b"]) == step


def test_no_thread_outlives_the_pipeline():
    before = threading.active_count()
    running = run_cases(
        list(range(9)),
        lambda case: case,
        lambda case, loaded: case,
        lambda prediction, started: prediction,
        readers=2,
        writers=2,
    )
    next(running)
    running.close()  # as when the command is interrupted
    assert threading.active_count() == before
