"""The driver of the GPU benchmark, and its table: what each part is told, and what it is read."""

import ast
import importlib
import json
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import pytest
import report_examples
from processes import living_processes_of

from benchmarks import forms, measure
from benchmarks.gpu import gpu, gpu_measured, gpu_results, gpu_table
from benchmarks.numerics import continued, precision
from brats_jax.evaluation import conventions
from brats_jax.evaluation.rows import rows_of


def dotted(script: str) -> str:
    """The module of a script, which is named by its path in benchmarks/."""
    return "benchmarks." + script.removesuffix(".py").replace("/", ".")


SCRIPTS = {dotted(part.script) for part in gpu.PARTS.values()} - {"benchmarks.forms"}
EXAMPLES = {float: 1.5, int: 1, str: "text", list: [0.5, 0.75], dict: {"kind": 0.1}}
EXAMPLES[measure.Spread] = [0.5, 0.6, 0.7]


def module(part):
    return importlib.import_module(dotted(part.script))


def records(script):
    return [r for r in vars(script).values() if isinstance(r, measure.Record)]


@pytest.mark.parametrize("small", [True, False])
def test_every_part_is_told_what_its_script_takes(small):
    given = SimpleNamespace(small=small, peer_python="python", real="folder")
    for name, part in gpu.PARTS.items():
        arguments, script = gpu.told(part, given), module(part)
        if script in (measure, forms):  # the one takes none, the other's are tried below
            assert script is forms or not arguments
            continue
        parser = script.parser()
        parser.allow_abbrev = False  # else a longer name would do
        try:
            found = parser.parse_args(arguments)
            if hasattr(script, "check"):
                script.check(found, parser)
        except SystemExit:
            pytest.fail(f"{name}: {part.script} does not take {' '.join(arguments)}")


def one_of_forms(monkeypatch, path):
    """What forms.py records, of one trivial pair, told what gpu.py tells it."""
    pair = forms.Pair("x", jnp.sin, jnp.sin, (jnp.ones((1, 2, 2, 1)),))
    monkeypatch.setattr(forms, "pairs", lambda batch, width: [pair])
    monkeypatch.setenv(measure.RESULTS, str(path))
    part = gpu.PARTS["forms"]
    for arguments in (part.small, (*part.full, "--turns=1")):
        monkeypatch.setattr(sys, "argv", ["forms.py", *arguments])
        forms.main()
    return gpu.recorded("forms", path)


class Watched(dict):
    """A dict that takes down what was looked for in vain."""

    def __init__(self, content, name, missed):
        super().__init__(content)
        self.name, self.missed = name, missed

    def __missing__(self, key):
        self.missed.add(f"{self.name}: {key}")
        raise KeyError(key)

    def __contains__(self, key):
        return super().__contains__(key) or bool(self.missed.add(f"{self.name}: {key}"))

    def get(self, key, default=None):
        return super().get(key, default) if key in self else default


def test_every_number_in_the_table_is_one_that_a_script_records(monkeypatch, tmp_path):
    found = one_of_forms(monkeypatch, tmp_path / "results")
    for name, part in gpu.PARTS.items():
        for record in records(module(part)):
            numbers = {field: EXAMPLES[kind] for field, kind in record.types.items()}
            for each in [name] if part.script == "train_step.py" else record.names:
                full = each.replace("*", "1")
                found[full] = {"result": full, **numbers}
    # A run's own test set, or the unseen phantoms: which Dice there are, only an evaluation says.
    tally = report_examples._segmentation(2, 0.1, "tumour", False, (0,))
    rows = rows_of("segment", conventions.scores_of(tally))
    dice = found.pop("precision 1")
    for key in precision.test_numbers(rows, precision.UNSEEN):
        found[f"precision {key}"] = dice
    for key in continued.JUDGED:
        found[f"continued {key}"] = dice
    missed = set()
    watched = Watched({n: Watched(r, n, missed) for n, r in found.items()}, "results", missed)
    for on_cpu in (False, True):
        text = gpu_table.as_table(gpu_table.rows(on_cpu), watched, {})
        assert not missed and "not measured" not in text
        lines = [line.split(" | ") for line in text.splitlines()[2:]]
        assert all(met.strip() for _, _, target, met, _ in lines if target.strip())


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
    step = {
        "ratio": [0.5, 0.625, 0.8],
        "rate": 7000.0,
        "memory": 2**30,
        "peer_memory": 2**31,
        "least_flops": 4e11,
        "least_bytes": 1e9,
        "flops": 5e11,
        "bytes": 9e9,
        "seconds": [0.001, 0.0016, 0.002],
        "operations": 500,
    }
    return {
        "ceilings": {"launch": 2e-6, "dispatch": 1e-4, "flops": 8e14, "bandwidth": 1e12},
        "segment16": step,
        "segment128": {**step, "seconds": [0.001, 0.0025, 0.003]},
        "epoch segment device": {
            "result": "epoch segment device",
            "waiting_share": 0.03,
            "step": 0.002,
            "bare": 0.0019,
        },
        "projection device": {"hours": 1.5},
        "projection host": {"hours": 2.5},
        # Slower only where the lower quartile says so too.
        "form pooling": {"ratio": [0.9, 1.2, 1.4]},
        "form 1x1": {"ratio": [1.1, 1.25, 1.4]},
        "gradients segment 0": {"error": 1.2, "noise": 0.9},
        "gradients segment 500": {
            "result": "gradients segment 500",
            **{"error": 0.25, "noise": 0.9, "bias": 0.125, "chance": 0.125},
        },
        # Differences -0.03, 0, +0.02, of which two standard errors are 0.02906.
        "precision unseen Dice mean foreground": {
            "float32": [0.6, 0.7, 0.65],
            "bfloat16": [0.57, 0.7, 0.67],
        },
        # -0.002 and 0.002: 0.004.
        "continued mean foreground": {"float32": [0.5, 0.6], "bfloat16": [0.498, 0.602]},
    }


def test_table_says_what_is_met_and_what_is_missing():
    text = gpu_table.as_table(
        gpu_table.rows(on_cpu=False), results(), {"start": "took longer than 9 s"}
    )
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    segment = lines["segmentation step, batch 16"]
    assert (
        "1.60 x PyTorch (quartiles 1.25 to 2.00); 7000 images/s; peak 1.0 GiB, PyTorch 2.0"
        in segment
    )
    assert "| 1.5 x, 6,000 patches/s | yes |" in segment
    assert (
        "62% of the roofline: arithmetic 0.50, memory 1.00 of 1.60 ms; 500 operations: 1.00 ms"
        in segment
    )
    # Fast enough beside PyTorch, and below half of the roofline.
    assert "| NO |" in lines["segmentation step, batch 128"]
    assert "segment device: 3.00%" in lines["waiting for data, cut on the device"]
    assert "| NO |" in lines["waiting for data, cut on the device"]
    assert "| 1 of 2; 1x1 1.25 | none | NO |" in lines["forms in use that are slower than another"]
    projection = lines["the paper's 35 trainings, projected"]
    assert "| 1.50 hours | under 2 hours | yes | 2.50 hours if cut on the host |" in projection
    gradients = lines["bfloat16's error of a gradient, in training"]
    assert "segment 500 steps: error 0.250, noise 0.900" in gradients and "| yes |" in gradients
    dice = lines["bfloat16 minus float32, Dice of phantoms that no run has seen"]
    assert "-0.0033 (+- 0.0291, two standard errors; 3 pairs)" in dice and "| NO |" in dice
    going_on = lines["the same, both going on from the same network trained in float32"]
    assert "+0.0000 (+- 0.0040, two standard errors; 2 pairs)" in going_on and "| yes |" in going_on
    # One seed says nothing of chance.
    one = {gpu_measured.PRECISION: {"float32": [0.6], "bfloat16": [0.6]}}
    text_of_one = gpu_table.as_table(gpu_table.rows(False), one, {})
    assert "+0.0000 (+- nan, two standard errors; 1 pairs) | no loss" in text_of_one
    assert "yes" not in text_of_one and "NO" not in text_of_one
    assert "not measured (pretrain16)" in lines["pretext step, batch 16"]
    assert "at least 100 x" in text and "at least 100 x" not in gpu_table.as_table(
        gpu_table.rows(True), {}, {}
    )
    assert text.endswith("start: took longer than 9 s")


def test_without_ceilings_only_the_limits_are_missing():
    found = {name: r for name, r in results().items() if name != "ceilings"}
    text = gpu_table.as_table(gpu_table.rows(False), found, {})
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    segment = lines["segmentation step, batch 16"]
    assert "1.60 x PyTorch" in segment and segment.endswith("| 1.5 x, 6,000 patches/s | yes |  |")
    # Half of the roofline cannot be told; 1.60 x is enough, 0.5 x would not be.
    assert lines["segmentation step, batch 128"].endswith("of the roofline |  |  |")
    found["segment128"]["ratio"] = [2, 2, 2]
    text = gpu_table.as_table(gpu_table.rows(False), found, {})
    assert "above 50 % of the roofline | NO |  |" in text


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
    gpu_results.add(kept, "ssim", True, {"ssim": other}, "")
    text = gpu.main(["--small", f"--parts={','.join(parts)}", f"--log={log}"])
    assert "measured on another machine (an abacus): ssim" in text and "7 x" not in text
    assert "broken: ended with status 2" in text and "endless: took longer than 0 s" in text
    assert "unrecognized arguments: --nonsense" in log.read_text()
    line = next(line for line in text.splitlines() if line.startswith("| surface distances"))
    assert " x SciPy, " in line and "(host) | at least 1 x |  |" in line
    assert f"\n\n{gpu_table.SMALL}\n\n| what" in text and "| yes |" not in text
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
    gpu_results.add(kept, "start", False, {"start": start}, "")
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
    assert "| 6 x | 5 x | yes |" in text and "| 8 s | under 10 s | yes |" in text
    assert "at least 100 x" in text and "\nssim: stopped" in text
    assert "measured with another version (1): start" in text


def test_of_a_part_the_newest_that_went_well_counts(tmp_path):
    kept = tmp_path / "results.jsonl"

    def add(value, problem="", small=False):
        found = {"ssim": {"machine": "m", "version": "v", "value": value}} if value else {}
        gpu_results.add(kept, "ssim", small, found, problem)

    def value():
        return gpu_results.joined(kept, False).results["ssim"]["value"]

    assert gpu_results.joined(kept, False) == ({}, {}, [], "")
    add(9, small=True)
    assert gpu_results.joined(kept, False).notes == ["left out, measured at small size: ssim"]
    add(1, "stopped")
    add(2, "stopped")
    assert value() == 2
    add(3)
    add(4)
    assert value() == 4 and gpu_results.joined(kept, False).problems == {}
    add(5, "took too long")
    add(None, "ended")
    with open(kept, "a") as file:
        file.write('{"part": "ssim", "res')  # killed while it wrote
    found = gpu_results.joined(kept, False)
    assert value() == 4
    assert found.problems == {"ssim": "ended; shown is what an earlier call measured"}
    assert found.notes == [f"{kept}: 1 lines could not be read"]
    add(6)
    assert value() == 6 and gpu_results.joined(kept, False).where == "m; v"
