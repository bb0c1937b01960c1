"""The parts of a measurement: each runs once, in a process of its own, and leaves a document."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from brats_jax.errors import BratsError
from brats_jax.runtime.files import read_json, write_json

ROOT = Path(__file__).parents[2]
GRACE_S = 20.0  # for a stopped part to save
REMEDY = "remove it, and give the same command again"


class Parts:
    """Runs parts of a measurement, each once.

    Args:
      output: the folder of the measurement.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        for name in ("parts", "logs", "predictions"):
            (output / name).mkdir(parents=True, exist_ok=True)

    def document(self, name: str) -> Path:
        """The JSON file that a part writes at its end."""
        return self.output / "parts" / f"{name}.json"

    def run(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """Runs a part, unless it has its document; returns that.

        A command without --document gets a document of its wall time alone.

        Raises:
          BratsError: the part failed; with the last line of its log.
        """
        path = self.document(name)
        if path.exists():
            print(f"{name}: done, skipped", flush=True)
            return read_json(path, REMEDY)
        log = self.output / "logs" / f"{name}.log"
        print(f"{name}: runs, log {log}", flush=True)
        load, begin = os.getloadavg()[0], time.monotonic()
        with log.open("ab") as file:
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=ROOT,
                env=dict(environment), start_new_session=True,
            )  # fmt: skip
            try:
                status = process.wait()
            except BaseException:
                measure.end_group(process, GRACE_S)
                raise
        if status:
            lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise BratsError(f"the part {name} ended with status {status}: {lines[-1]} ({log})")
        found = read_json(path, REMEDY) if path.exists() else {}
        found["wall"] = time.monotonic() - begin
        found["load"] = [load, os.getloadavg()[0]]
        write_json(path, found)
        print(f"{name}: {found['wall']:.0f} s", flush=True)
        return found
