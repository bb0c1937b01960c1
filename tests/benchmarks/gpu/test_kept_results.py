"""Results of several runs, joined."""

from benchmarks.gpu import kept_results


def test_the_newest_result_without_a_problem_counts(tmp_path):
    kept = tmp_path / "results.jsonl"

    def add(value, problem="", small=False):
        found = {"ssim": {"machine": "m", "version": "v", "value": value}} if value else {}
        kept_results.add(kept, "ssim", small, found, problem)

    def value():
        return kept_results.joined(kept, False).results["ssim"]["value"]

    assert kept_results.joined(kept, False) == ({}, {}, [], "")
    add(9, small=True)
    assert kept_results.joined(kept, False).notes == ["left out, measured at small size: ssim"]
    add(1, "stopped")
    add(2, "stopped")
    assert value() == 2
    add(3)
    add(4)
    assert value() == 4 and kept_results.joined(kept, False).problems == {}
    add(5, "took too long")
    add(None, "ended")
    with open(kept, "a") as file:
        file.write('{"part": "ssim", "res')  # a line that a kill left incomplete
    found = kept_results.joined(kept, False)
    assert value() == 4
    assert found.problems == {"ssim": "ended; the table shows an earlier run"}
    assert found.notes == [f"{kept}: 1 lines could not be read"]
    add(6)
    assert value() == 6 and kept_results.joined(kept, False).where == "m; v"
