"""The three steps of a case overlap, keep their order, and fail case by case."""

import threading
import time

import pytest

from brats_jax.inference import case_pipeline
from brats_jax.inference.case_pipeline import Gate, run_cases


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


@pytest.mark.parametrize(("readers", "early"), [(1, False), (2, True)])
def test_one_reader_less_than_there_are_reads_ahead(readers, early):
    """With one reader no case is read while another one is predicted."""
    second, found = threading.Event(), []

    def read(case):
        if case == "b":
            second.set()
        return case

    def predict(case, loaded):
        if case == "a":
            found.append(second.wait(5 if early else 0.2))
        return case

    list(run_cases(["a", "b"], read, predict, lambda case, _: case, readers=readers, writers=1))
    assert found == [early]


def test_a_case_is_given_out_while_the_next_one_is_predicted():
    given_out = threading.Event()

    def predict(case, loaded):
        return case if case == "a" else given_out.wait(10)

    running = run_cases(
        ["a", "b"], lambda case: case, predict, lambda case, _: case, readers=1, writers=1
    )
    assert next(running)[1].result() == "a"
    given_out.set()
    assert [written.result() for _, written in running] == [True]


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


@pytest.mark.parametrize("step", ["read", "write"])
def test_an_early_end_does_not_wait_for_long_steps(step, monkeypatch):
    monkeypatch.setattr(case_pipeline, "PATIENCE_S", 0.01)
    quiet = []  # after Ctrl-C no notice says that the end will take long
    monkeypatch.setattr(case_pipeline, "stop_announcing", lambda: quiet.append(1))
    monkeypatch.setattr(case_pipeline, "received", lambda: 2)
    goes_on = threading.Event()

    def at(name, case):
        if (name, case) == (step, "b"):
            goes_on.wait(10)
        return case

    running = run_cases(
        ["a", "b"],
        lambda case: at("read", case),
        lambda case, loaded: case,
        lambda case, started: at("write", case),
        readers=2,
        writers=1,
    )
    try:
        next(running)
        began = time.monotonic()
        running.close()
        assert time.monotonic() - began < 5 and quiet == [1]
    finally:
        goes_on.set()


def test_the_thread_of_the_caller_only_waits():
    """Python calls the handler of a signal in the main thread, between two instructions."""
    found = []

    def where(*_):
        found.append(threading.current_thread())

    list(run_cases(["a"], where, where, where, readers=1, writers=1, meanwhile=where))
    assert len(found) == 4 and threading.current_thread() not in found


def test_a_gate_lets_those_inside_finish_and_nobody_else_begin():
    gate, inside, leave, left = Gate(), threading.Event(), threading.Event(), []

    def step():
        with gate.passed():
            inside.set()
            leave.wait(10)
            left.append(1)

    thread = threading.Thread(target=step)
    thread.start()
    assert inside.wait(10)
    threading.Timer(0.1, leave.set).start()
    gate.close()
    assert left == [1]
    with pytest.raises(RuntimeError, match="stopped"), gate.passed():
        pass
    thread.join()
