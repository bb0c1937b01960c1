"""The driver of the GPU benchmark, and its table: what each part is told, and what it is read."""

import ast
import fnmatch
import importlib
import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import living_processes_of

from benchmarks import measure
from benchmarks.gpu import gpu, kept_results, targets


def dotted(script: str) -> str:
    """The module of a script, which is named by its path in benchmarks/."""
    return "benchmarks." + script.removesuffix(".py").replace("/", ".")


SCRIPTS = {dotted(part.script) for part in gpu.PARTS.values()}


def module(part):
    return importlib.import_module(dotted(part.script))


def records(script):
    return [r for r in vars(script).values() if isinstance(r, measure.Record)]


@pytest.mark.parametrize("small", [True, False])
def test_every_part_is_told_what_its_script_takes(small):
    given = SimpleNamespace(small=small, peer_python="python", real="folder")
    for name, part in gpu.PARTS.items():
        arguments, script = gpu.told(part, given), module(part)
        if script is measure:  # it takes none
            assert not arguments
            continue
        parser = script.parser()
        parser.allow_abbrev = False  # else a longer name would do
        try:
            found = parser.parse_args(arguments)
            if hasattr(script, "check"):
                script.check(found, parser)
        except SystemExit:
            pytest.fail(f"{name}: {part.script} does not take {' '.join(arguments)}")


def test_every_row_of_the_table_names_a_result_that_a_script_declares():
    declared = [name for script in map(importlib.import_module, SCRIPTS) for name in names(script)]
    declared += [name for name, part in gpu.PARTS.items() if part.script == "train_step.py"]
    # The Dice of a training are named after what an evaluation scores.
    declared += ["precision unseen Dice mean foreground", "continued mean foreground"]
    for row in (*targets.rows(True), *targets.rows(False)):
        assert any(fnmatch.fnmatchcase(name, row.result) for name in declared), row.result


def names(script):
    return [name.replace("*", "1") for record in records(script) for name in record.names]


def test_what_scripts_write_down_is_what_they_declare():
    """Of each call of Record.keep the name, and the keywords that are written out."""
    calls = 0
    for name in SCRIPTS:
        script = importlib.import_module(name)
        for node in ast.walk(ast.parse(Path(script.__file__).read_text())):
            if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "keep"):
                continue
            record = getattr(script, node.func.value.id)
            said = getattr(node.args[0], "values", None) or ast.walk(node.args[0])
            for text in (part.value for part in said if isinstance(part, ast.Constant)):
                assert any(text.strip() in each for each in record.names), (name, text)
            given = {keyword.arg for keyword in node.keywords}
            needed = set(record.types) - record.optional if None not in given else set()
            assert needed <= given <= {*record.types, None}, (name, node.lineno)
            calls += 1
    assert calls > len(SCRIPTS) - 2


def test_a_result_that_is_not_declared_is_kept_and_told(monkeypatch, tmp_path):
    record = measure.Record("size *", optional=("depth",), width=int, depth=int)
    monkeypatch.setenv(measure.RESULTS, str(tmp_path / "results"))
    record.keep("size a", width=1)
    record.keep("size b", width=1, depth=2)
    for name, numbers in (("size c", {"depth": 1}), ("area", {"width": 1})):
        with pytest.raises(ValueError, match="is not what is declared"):
            record.keep(name, **numbers)
    with pytest.raises(ValueError, match="height"):
        record.keep("size d", width=1, height=2)
    assert len((tmp_path / "results").read_text().splitlines()) == 5


def results():
    step = {"ratio": [0.5, 0.625, 0.8], "rate": 7000.0, "share": 0.4, "text": "1.60 x PyTorch"}
    pair = {"text": "-0.0033 (0.0291), 3 pairs"}
    return {
        "segment16": step,
        "segment128": step,
        "epoch segment device": {"waiting_share": 0.03, "text": "waiting 3 %"},
        "projection device": {"hours": 1.5, "text": "1.50 hours"},
        # Slower only where the lower quartile is.
        "form pooling": {"ratio": [0.9, 1.2, 1.4], "text": "1.20"},
        "form 1x1": {"ratio": [1.1, 1.25, 1.4], "text": "1.25"},
        "gradients segment 500": {"error": 0.25, "noise": 0.9, "text": "error 0.250"},
        # Differences -0.03, 0, +0.02, of which two standard errors are 0.02906.
        "precision unseen Dice mean foreground": {
            **pair,
            "float32": [0.6, 0.7, 0.65],
            "bfloat16": [0.57, 0.7, 0.67],
        },
        # -0.002 and 0.002: 0.004.
        "continued mean foreground": {
            **pair,
            "float32": [0.5, 0.6],
            "bfloat16": [0.498, 0.602],
        },
    }


def table(found, problems=None, on_cpu=False):
    text = targets.as_table(targets.rows(on_cpu), found, problems or {})
    return text, {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}


def test_the_table_shows_which_targets_are_met_and_what_is_missing():
    text, lines = table(results(), {"start": "took longer than 9 s"})
    met = {what: line.split(" | ")[-1].strip(" |") for what, line in lines.items()}
    assert "| 1.60 x PyTorch | 1.5 x PyTorch, 6,000 patches/s | yes |" in text
    assert met["segmentation step, batch 128"] == "NO"  # fast, below half of the roofline
    assert met["an epoch, patches cut on the device"] == "NO"
    assert "form pooling: 1.20; form 1x1: 1.25" in lines["hand-written forms beside others"]
    assert met["hand-written forms beside others"] == "NO"
    assert met["the paper's 35 trainings, projected"] == "yes"
    assert met["error of a gradient in bfloat16"] == "yes"
    assert met["bfloat16 minus float32, Dice of unseen phantoms"] == "NO"
    assert met["the same, from one network trained in float32"] == "yes"
    assert "not measured" in lines["pretraining step, batch 16"]
    assert met["pretraining step, batch 16"] == ""
    assert text.endswith("start: took longer than 9 s")


def test_one_pair_of_trainings_meets_and_misses_no_target():
    one = {"float32": [0.6], "bfloat16": [0.6], "text": "1 pair"}
    text, _ = table({"precision unseen Dice mean foreground": one})
    assert "| 1 pair | no loss" in text and "yes" not in text and "NO" not in text


def test_surface_distances_have_the_target_of_the_device():
    assert "at least 100 x" in table({})[0] and "at least 100 x" not in table({}, on_cpu=True)[0]


def test_one_part_that_fails_or_hangs_does_not_end_the_others(tmp_path, monkeypatch, capsys):
    small = ("--shape=16,48,48", "--turns=1")
    parts = {
        "broken": gpu.Part("surface_distances.py", (), ("--nonsense",)),
        "endless": gpu.Part("surface_distances.py", (), small, minutes=0.001),
        "surfaces": gpu.Part("surface_distances.py", (), small),
    }
    monkeypatch.setattr(gpu, "PARTS", parts)
    log = tmp_path / "log"
    # Of another machine: nothing of it is in the table, and that is said.
    kept = tmp_path / "log.small.jsonl"
    other = {"machine": "an abacus", "version": "1", "times": 7.0, "text": "7 x"}
    kept_results.add(kept, "ssim", True, {"ssim": other}, "")
    text = gpu.main(["--small", f"--parts={','.join(parts)}", f"--log={log}"])
    assert "measured on another machine (an abacus): ssim" in text and "7 x" not in text
    assert "broken: ended with status 2" in text and "endless: took longer than 0 s" in text
    assert "unrecognized arguments: --nonsense" in log.read_text()
    line = next(line for line in text.splitlines() if line.startswith("| surface distances"))
    assert " x SciPy, " in line and "(host) | at least 1 x |  |" in line
    assert f"\n\n{targets.SMALL}\n\n| what" in text and "| yes |" not in text
    assert "surfaces: done" in capsys.readouterr().out


SCRIPT = """
import json, os, signal, subprocess, time
subprocess.Popen(["sleep", "600"])
with open(os.environ["BRATS_BENCHMARK_RESULTS"], "a") as file:
    record = {"result": "ssim", "times": 6.0, "text": "6 x", "backend": "gpu"}
    file.write(json.dumps({**record, "machine": "this", "version": "2", "group": os.getpid()}))
    file.write("\\n{half a li")
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(600)
"""


def test_stopped_it_keeps_what_was_measured_and_leaves_nothing_running(tmp_path, monkeypatch):
    script, kept = tmp_path / "script.py", tmp_path / "results.jsonl"
    script.write_text(SCRIPT)
    start = {"machine": "this", "version": "1", "backend": "gpu", "seconds": 8.0, "text": "8 s"}
    kept_results.add(kept, "start", False, {"start": start}, "")
    monkeypatch.setattr(gpu, "PARTS", {n: gpu.Part(str(script), (), ()) for n in ("ssim", "next")})
    before = {number: signal.getsignal(number) for number in gpu.STOPS}
    arguments = [f"--log={tmp_path / 'log'}", f"--results={kept}"]
    try:
        signal.signal(signal.SIGTERM, gpu.stop)
        with pytest.raises(SystemExit) as ended:
            gpu.main(arguments)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended.value.code == 128 + signal.SIGTERM
    line = json.loads(kept.read_text().splitlines()[-1])
    assert (line["part"], line["problem"]) == ("ssim", "stopped")
    deadline = time.monotonic() + 60
    while living_processes_of(line["results"]["ssim"]["group"]):  # killed, they take a moment
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # A later call has it still, with what was there before; that it was on a GPU as well.
    text = gpu.main([*arguments, "--parts="])
    assert "| 6 x | at least 5 x | yes |" in text and "| 8 s | under 10 s | yes |" in text
    assert "at least 100 x" in text and "\nssim: stopped" in text
    assert "measured with another version (1): start" in text


def test_of_a_part_the_newest_that_went_well_counts(tmp_path):
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
        file.write('{"part": "ssim", "res')  # killed while it wrote
    found = kept_results.joined(kept, False)
    assert value() == 4
    assert found.problems == {"ssim": "ended; shown is what an earlier call measured"}
    assert found.notes == [f"{kept}: 1 lines could not be read"]
    add(6)
    assert value() == 6 and kept_results.joined(kept, False).where == "m; v"
