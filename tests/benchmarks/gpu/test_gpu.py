"""The driver of all benchmarks: arguments of its parts, failures and signals."""

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
    """The module name of a script, given its path in benchmarks/."""
    return "benchmarks." + script.removesuffix(".py").replace("/", ".")


SCRIPTS = {dotted(part.script) for part in gpu.PARTS.values()}


def module(part):
    return importlib.import_module(dotted(part.script))


def records(script):
    return [r for r in vars(script).values() if isinstance(r, measure.Record)]


def names(script):
    return [name.replace("*", "1") for record in records(script) for name in record.names]


@pytest.mark.parametrize("small", [True, False])
def test_every_script_accepts_the_arguments_of_its_part(small):
    given = SimpleNamespace(small=small, peer_python="python", real="folder")
    for name, part in gpu.PARTS.items():
        arguments, script = gpu.arguments_of(part, given), module(part)
        if script is measure:  # takes no arguments
            assert not arguments
            continue
        parser = script.parser()
        parser.allow_abbrev = False  # requires full names
        try:
            found = parser.parse_args(arguments)
            if hasattr(script, "check"):
                script.check(found, parser)
        except SystemExit:
            pytest.fail(f"{name}: {part.script} does not accept {' '.join(arguments)}")


def test_every_row_of_the_table_names_a_result_that_a_script_declares():
    declared = [name for script in map(importlib.import_module, SCRIPTS) for name in names(script)]
    declared += [name for name, part in gpu.PARTS.items() if part.script == "train_step.py"]
    # The names of Dice results come from the rows of an evaluation.
    declared += ["precision unseen Dice mean foreground", "continued mean foreground"]
    for row in (*targets.rows(True), *targets.rows(False)):
        assert any(fnmatch.fnmatchcase(name, row.result) for name in declared), row.result


def test_scripts_write_the_results_that_they_declare():
    """Checks the name and the literal keywords of each call of Record.keep."""
    calls = 0
    for name in SCRIPTS:
        script = importlib.import_module(name)
        for node in ast.walk(ast.parse(Path(script.__file__).read_text())):
            if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "keep"):
                continue
            record = getattr(script, node.func.value.id)
            values = getattr(node.args[0], "values", None) or ast.walk(node.args[0])
            for text in (part.value for part in values if isinstance(part, ast.Constant)):
                assert any(text.strip() in each for each in record.names), (name, text)
            given = {keyword.arg for keyword in node.keywords}
            needed = set(record.types) - record.optional if None not in given else set()
            assert needed <= given <= {*record.types, None}, (name, node.lineno)
            calls += 1
    assert calls > len(SCRIPTS) - 2


def test_a_part_that_fails_or_hangs_does_not_end_the_others(tmp_path, monkeypatch, capsys):
    small = ("--shape=16,48,48", "--turns=1")
    broken, endless = tmp_path / "broken.py", tmp_path / "endless.py"
    broken.write_text("import argparse; argparse.ArgumentParser().parse_args()")
    endless.write_text("import time; time.sleep(600)")
    parts = {
        "broken": gpu.Part(str(broken), (), ("--nonsense",)),
        "endless": gpu.Part(str(endless), (), (), minutes=0.001),
        "surfaces": gpu.Part("surface_distances.py", (), small),
    }
    monkeypatch.setattr(gpu, "PARTS", parts)
    log = tmp_path / "log"
    # A result of another machine: the table omits it, and a note names it.
    kept = tmp_path / "log.small.jsonl"
    other = {"machine": "an abacus", "version": "1", "times": 7.0, "text": "seven times"}
    kept_results.add(kept, "ssim", True, {"ssim": other}, "")
    text = gpu.main(["--small", f"--parts={','.join(parts)}", f"--log={log}"])
    assert "measured on another machine (an abacus): ssim" in text and "seven times" not in text
    assert "broken: ended with status 2" in text and "endless: took longer than 0 s" in text
    assert "unrecognized arguments: --nonsense" in log.read_text()
    line = next(line for line in text.splitlines() if line.startswith("| surface distances"))
    assert " x SciPy, " in line and "(host) | at least 1 x |  |" in line
    assert f"\n\n{targets.SMALL}\n\n| quantity" in text and "| yes |" not in text
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


def test_a_stopped_benchmark_keeps_its_results_and_leaves_no_process(tmp_path, monkeypatch):
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
    while living_processes_of(line["results"]["ssim"]["group"]):  # killed processes end soon
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # A later call still shows it, the earlier result, and the targets of a GPU.
    text = gpu.main([*arguments, "--parts="])
    assert "| 6 x | at least 5 x | yes |" in text and "| 8 s | under 10 s | yes |" in text
    assert "at least 100 x" in text and "\nssim: stopped" in text
    assert "measured with another version (1): start" in text
