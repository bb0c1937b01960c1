import io
import json
import threading

from brats_jax.training.tracker_process import TrackerProcess


class Failing:
    """Fails `times` in `log`; notes what arrives; calls `then` after the results."""

    def __init__(self, times, then=lambda: None):
        self.times, self.then, self.arrived = times, then, []

    def open(self, start):
        return ""

    def log(self, records):
        if self.times > 0:
            self.times -= 1
            raise ConnectionError("http://me:pass@host refused\nmore")
        self.arrived += [record.step for record in records]

    def results(self, values):
        self.arrived.append(dict(values))
        self.then()

    def close(self, how):
        self.arrived.append(how)


class Pipe(io.StringIO):
    """An input that stays open until `done` is called."""

    def __init__(self, *messages):
        super().__init__("".join(json.dumps(message) + "\n" for message in messages))
        self.ended = threading.Event()

    def __iter__(self):
        yield from self.getvalue().splitlines(keepends=True)
        self.ended.wait()


START = {"id": "a1", "name": "n", "group": "g", "fold": "fold_0", "stage": "segment"}
RECORDS = [{"step": step, "values": {"loss": 1.0}} for step in range(3)]


def run_process(adapter, source):
    output = io.StringIO()
    TrackerProcess(adapter, source, output, retry_s=0.01).run()
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_numbers_wait_for_a_server_that_is_down_and_its_error_is_reported_once():
    source = Pipe(START, *RECORDS, {"results": {"best": 1}}, {"end": "finished"})
    adapter = Failing(3, then=source.ended.set)
    answers = run_process(adapter, source)
    assert adapter.arrived == [0, 1, 2, {"best": 1}, "finished"]
    errors = [answer["error"] for answer in answers if "error" in answer]
    assert errors == ["ConnectionError: http://host refused"]
    assert sum(answer.get("delivered", 0) for answer in answers) == 4


def test_a_server_that_stays_down_does_not_hold_the_end():
    source = Pipe(START, *RECORDS, {"end": "finished"})
    source.ended.set()
    adapter = Failing(10**6)
    answers = run_process(adapter, source)
    assert adapter.arrived == []
    assert sum(answer.get("delivered", 0) for answer in answers) == 0


def test_a_training_that_was_killed_counts_as_stopped():
    source = Pipe(START, *RECORDS)
    source.ended.set()
    adapter = Failing(0)
    run_process(adapter, source)
    assert adapter.arrived == [0, 1, 2, "stopped"]
