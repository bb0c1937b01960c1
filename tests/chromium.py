"""Headless Chromium, driven by its DevTools protocol through a pair of pipes. No tests.

The protocol (https://chromedevtools.github.io/devtools-protocol/) is JSON with a zero byte after
each message, to the browser's file descriptor 3 and from its descriptor 4: no library, no port.
"""

import base64
import io
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imread

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60  # time limit for every wait
# WebGL on the CPU, and no background requests of the browser.
OPTIONS = (
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--use-gl=angle",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions",
    "--disable-dev-shm-usage", "--mute-audio", "--window-size=1200,1100",
)  # fmt: skip
KEYS = {"PageDown": 34, "PageUp": 33, "Home": 36, "ArrowUp": 38, "ArrowDown": 40}


def find() -> str | None:
    """The browser of BRATS_CHROMIUM, or one on the PATH; None if no browser starts."""
    named = os.environ.get("BRATS_CHROMIUM")
    path = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        return None
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if done.returncode == 0 else None


class Browser:
    """One browser with one page; records the errors and requests of the page.

    Attributes:
      errors: exceptions, errors and warnings of the page.
      requests: the URLs that it requested.
    """

    def __init__(self, path: str, profile: Path) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._received, self._number, self._session = b"", 0, ""
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", path, *OPTIONS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # its children go with it
        )
        os.close(theirs_in)
        os.close(theirs_out)
        page = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser and its children."""
        os.close(self._out)
        os.close(self._in)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and returns its answer; records the events before it."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._record(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._in], [], [], SECONDS)
            part = os.read(self._in, 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)

    def _record(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(values["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "warning", "assert"):
                self.errors.append(json.dumps(values["args"]))
            case "Log.entryAdded" if values["entry"]["level"] in ("error", "warning"):
                self.errors.append(values["entry"]["text"])

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; waits for promises."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Waits until a JavaScript expression is true."""
        until = time.monotonic() + SECONDS
        while not self.run(expression):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.05)

    def frame(self) -> None:
        """Waits until the changes are drawn."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """x, y, width, height of an element."""
        return tuple(
            self.run(
                f"(({{x, y, width, height}}) => [x, y, width, height])"
                f"(document.querySelector(`{selector}`).getBoundingClientRect())"
            )
        )

    def pixels(self, selector: str = "html") -> np.ndarray:
        """float[H, W, 3] from 0 to 1: a screenshot of an element."""
        self.frame()
        x, y, width, height = self.box(selector)
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        data = self.send("Page.captureScreenshot", format="png", clip=clip)["data"]
        return imread(io.BytesIO(base64.b64decode(data)))[..., :3]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def click(self, selector: str) -> None:
        """Clicks into the middle of an element; scrolls to it if it is out of the window."""
        self.run(f"document.querySelector(`{selector}`).scrollIntoView({{block: 'nearest'}})")
        x, y, width, height = self.box(selector)
        self.drag((x + width / 2, y + height / 2))

    def drag(self, *places: tuple[float, float], button: str = "left") -> None:
        """Presses at the first place, moves to the others, releases at the last."""
        buttons = {"left": 1, "right": 2}[button]
        for kind, place in (("Pressed", places[0]), *(("Moved", p) for p in places[1:]),
                            ("Released", places[-1])):  # fmt: skip
            held = 0 if kind == "Released" else buttons
            self.mouse(kind, *place, button=button, buttons=held, clickCount=int(kind != "Moved"))

    def touch(self, *places: list[tuple[float, float]]) -> None:
        """Puts fingers down at the first places, moves them to the others, and lifts them."""
        kinds = ["touchStart", *["touchMove"] * (len(places) - 1)]
        for kind, fingers in zip(kinds, places, strict=True):
            points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(fingers)]
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str) -> None:
        """Presses and releases a key."""
        code = KEYS.get(key) or ord(key.upper())
        event = {"key": key, "windowsVirtualKeyCode": code}
        typed = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **event, **typed)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)
