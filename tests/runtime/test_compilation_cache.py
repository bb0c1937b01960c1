"""What one process has compiled, the next one does not compile again."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import collections, json, sys
import jax
from brats_jax.runtime import devices
heard = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: heard.update([event.split("/")[-1]]))
devices.use_compilation_cache(sys.argv[1])
jax.jit(lambda x: (x @ x.T).sum())(jax.numpy.arange(12.0).reshape(3, 4)).block_until_ready()
print(json.dumps({name: heard[name] for name in ("cache_hits", "cache_misses")}))
"""


def compile_in_a_process(setting, home, threshold):
    """(hits, misses) of the cache; programs are kept that take `threshold` seconds, if given."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(home)}
    del environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]  # what the tests are run with
    if threshold is not None:
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = threshold
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, setting],
        cwd=ROOT, capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    heard = json.loads(done.stdout)
    return heard["cache_hits"], heard["cache_misses"]


def test_a_second_process_compiles_nothing_anew(tmp_path):
    folder = tmp_path / "brats_jax" / "compiled"
    hits, misses = compile_in_a_process("auto", tmp_path, "0")
    assert hits == 0 and misses > 1
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(kept) == misses

    assert compile_in_a_process(str(folder), tmp_path / "else", "0") == (misses, 0)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == kept
    assert not (tmp_path / "else").exists()


def test_what_compiles_in_a_moment_is_not_kept_unless_asked_for(tmp_path):
    compile_in_a_process("auto", tmp_path, None)
    assert not list((tmp_path / "brats_jax" / "compiled").iterdir())
