"""Timing, ratios and declared results of the benchmarks."""

import pytest

from benchmarks import measure


def test_ratios_are_taken_turn_by_turn():
    assert measure.Spread.of([4, 1, 3, 2, 5]) == (2, 3, 4)
    assert measure.ratio([2, 9, 4], [1, 3, 1]) == (2.5, 3, 3.5)
    assert measure.Spread(0.001, 0.002, 0.004).show(1e3) == "2.0 (quartiles 1.0 to 4.0)"


def test_functions_alternate_after_a_warm_up_turn():
    order = []
    functions = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = measure.time_alternately(functions, 2)
    assert order == ["a", "b"] * 3 and [len(times) for times in seconds.values()] == [2, 2]


def test_the_processor_time_is_measured_beside_the_wall_time():
    order = []
    functions = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = measure.wall_and_processor_seconds(functions, 2)
    assert order == ["a", "b"] * 3 and [len(times) for times in seconds.values()] == [2, 2]
    ratio = measure.wall_and_processor_ratio([(2.0, 3.0)], [(1.0, 2.0)])
    assert ratio == "2.000, processor time x 1.500"


def test_an_undeclared_result_is_written_and_refused(monkeypatch, tmp_path):
    record = measure.Record("size *", optional=("depth",), width=int, depth=int)
    monkeypatch.setenv(measure.RESULTS, str(tmp_path / "results"))
    record.keep("size a", width=1)
    record.keep("size b", width=1, depth=2)
    for name, numbers in (("size c", {"depth": 1}), ("area", {"width": 1})):
        with pytest.raises(ValueError, match="does not match its Record"):
            record.keep(name, **numbers)
    with pytest.raises(ValueError, match="height"):
        record.keep("size d", width=1, height=2)
    assert len((tmp_path / "results").read_text().splitlines()) == 5
