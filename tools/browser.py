"""A real headless Chromium, spoken to over its debugging pipe: what a page logs, asks of the network, and looks like.

    python tools/browser.py report.html shot.png [--width 360] [--height 800] [--dark] [--whole]

Needs Debian's package `chromium` (or a Chrome under another name on PATH). Standard library only.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)


def find_browser() -> str | None:
    """The browser's path, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Seen:
    """What a page did when it was opened at one width in one colour scheme.

    Attributes:
        log: console messages, errors and policy violations.
        requests: URLs asked for, data: URLs and the page itself left out.
        scroll_width, client_width: of the document, CSS pixels; more means that the page scrolls sideways.
        results: of the scripts evaluated.
        png: a screenshot.
    """

    log: tuple[str, ...]
    requests: tuple[str, ...]
    scroll_width: int
    client_width: int
    results: tuple[Any, ...]
    png: bytes


class Browser:
    """One browser process; use as a context."""

    def __init__(self, path: str, timeout_s: float = 60.0) -> None:
        self._timeout_s = timeout_s
        self._profile = tempfile.TemporaryDirectory(prefix="hearpack-browser-", ignore_cleanup_errors=True)
        to_browser, from_us = os.pipe()
        from_browser, to_us = os.pipe()[0:2]
        read_end, write_end = from_browser, to_us

        def place() -> None:  # the browser reads commands on descriptor 3 and answers on 4
            first, second = os.dup(to_browser), os.dup(write_end)
            high = [os.dup2(first, 100), os.dup2(second, 101)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        command = [path, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=place, close_fds=False
        )
        os.close(to_browser)
        os.close(write_end)
        self._out, self._in = from_us, read_end
        self._buffer, self._number = b"", 0
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)
        self._profile.cleanup()

    def look(
        self,
        page: Path | str,
        width: int,
        height: int = 900,
        dark: bool = False,
        whole: bool = False,
        scripts: tuple[str, ...] = (),
    ) -> Seen:
        """Open a page, a file or an address, and look at it once the scripts, one after the other, are done."""
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self._events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable", {}, session)
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 2 if width < 600 else 1,
            "mobile": width < 600,
        }
        self._call("Emulation.setDeviceMetricsOverride", metrics, session)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", {"features": scheme}, session)
        url = page if isinstance(page, str) else page.resolve().as_uri()
        self._call("Page.navigate", {"url": url}, session)
        self._wait("Page.loadEventFired")
        widths = self._evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]", session)
        results = tuple(self._evaluate(script, session) for script in scripts)
        shot = self._call(
            "Page.captureScreenshot",
            {"format": "png", "captureBeyondViewport": whole, **self._clip(whole, session)},
            session,
        )
        log = tuple(message for event in self._events if (message := _message(event)))
        requests = tuple(
            asked
            for event in self._events
            if event["method"] == "Network.requestWillBeSent"
            and not (asked := event["params"]["request"]["url"]).startswith("data:")
            and asked != url
        )
        self._call("Target.closeTarget", {"targetId": target})
        return Seen(log, requests, widths[0], widths[1], results, base64.b64decode(shot["data"]))

    def _clip(self, whole: bool, session: str) -> dict[str, Any]:
        if not whole:
            return {}
        size = self._call("Page.getLayoutMetrics", {}, session)["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def _evaluate(self, script: str, session: str) -> Any:
        answer = self._call(
            "Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True}, session
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def _call(self, method: str, params: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self._number += 1
        wanted = self._number
        message: dict[str, Any] = {"id": wanted, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") != wanted:
                self._events.append(answer)
                continue
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            result: dict[str, Any] = answer["result"]
            return result

    def _wait(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._read())

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + self._timeout_s
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            data = os.read(self._in, 1 << 20) if ready else b""
            if not data:
                raise RuntimeError(f"the browser said nothing for {self._timeout_s:g} s, or ended")
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        event: dict[str, Any] = json.loads(message)
        return event


def _message(event: dict[str, Any]) -> str:
    """What an event says that a person should read, or nothing."""
    params = event.get("params", {})
    if event.get("method") == "Runtime.exceptionThrown":
        return f"exception: {params['exceptionDetails'].get('text')}"
    if event.get("method") == "Runtime.consoleAPICalled":
        return f"console.{params['type']}: {params['args']}"
    if event.get("method") == "Log.entryAdded":
        return f"{params['entry']['level']}: {params['entry']['text']}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("png", type=Path)
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--whole", action="store_true", help="the whole page, not the first screen")
    arguments = parser.parse_args()
    path = find_browser()
    if path is None:
        sys.exit(f"no browser: none of {', '.join(NAMES)} is on PATH; apt-get install chromium")
    with Browser(path) as browser:
        seen = browser.look(arguments.page, arguments.width, arguments.height, arguments.dark, arguments.whole)
    arguments.png.write_bytes(seen.png)
    print(
        f"{len(seen.log)} messages, {len(seen.requests)} requests, {seen.scroll_width} of {seen.client_width} px wide"
    )
    for message in seen.log:
        print(message)


if __name__ == "__main__":
    main()
