"""Shares of a training step by kind of operation."""

from benchmarks import profile_step


def test_simultaneous_operations_share_their_time_equally():
    """One operation for 4 ns, two for 2, three for 3, then a gap."""
    intervals = [(0, 6, "a"), (4, 9, "b"), (6, 9, "a"), (6, 9, "c"), (20, 21, "c")]
    found = profile_step.shares(intervals)
    assert found == {"a": 4 + 1 + 1, "b": 1 + 1, "c": 1 + 1}


def test_the_rows_of_a_profile_add_up_to_the_step(capsys, shallow):
    profile_step.main(["--width=4", "--batch=2", "--patch=32", "--dispatches=2", "--top=1"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.endswith(" %")]
    kinds = {line[:34].strip(): [float(x) for x in line[34:-9].split()] for line in rows}
    recorded = float(lines[0].split(";")[1].split()[0])
    assert abs(sum(map(sum, kinds.values())) - recorded) < 0.1 + 0.01 * len(kinds) * 3
    forward, backward, rest = kinds["convolution"]
    # Which of the two is longer depends on the load of the machine.
    assert forward > 0 and backward > 0 and forward + backward > rest
    assert kinds["element by element"][2] > 0  # Adam
