"""A foreign .tflite is opened and called in a process of its own before this process touches it.

LiteRT is native code that trusts its input: what the checks of runtimes/inspect let through may still end, hang or fill
the process that opens it. So a file whose hash is not known here is given to a child first, which opens it in both
engines and calls each. A death of the child is an error of one line. What was exported here, or tried before with this
LiteRT, is known by an empty file in the cache, so that the child costs its start once per file. It is no sandbox: the
child has the user's rights.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.common.child import python_command
from models.common.errors import ArtefactError, OutputError
from models.geometry import GraphSignature, StateSpec, TensorSpec
from models.weights.fetch import cache_dir

# An honest file of 16 MB is through in a second; a busy machine is given more.
SECONDS, SECONDS_PER_MB = 15.0, 0.1
# LiteRT, Python and numpy take 200 MB; packing may hold the weights four times.
MOST_BYTES, BYTES_PER_BYTE = 1500 * 1000 * 1000, 5
_POLL_SECONDS = 0.02
_READ_BYTES = 1 << 16
_CODE = "from runtimes.trial_process import main; main()"
_known: set[str] = set()


def remember(key: str) -> None:
    """Take a .tflite as one of this machine's own: no child is asked about it any more.

    Args:
        key: of the file, see runtimes.litert.trial_key.
    """
    _known.add(key)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs the child's start again
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / key).touch()


def is_known(key: str) -> bool:
    """Whether a .tflite was exported or tried here."""
    if key in _known:
        return True
    with contextlib.suppress(OSError):
        return (_folder() / key).is_file()
    return False


def try_first(data: bytes, key: str, what: str, signature: GraphSignature, io_names: Mapping[str, str]) -> None:
    """Have a child open a .tflite in both engines and call each, unless it is known here.

    Args:
        data: the file, walked already.
        key: what it is known by.
        what: its name, for messages.
        signature: names and shapes of one call.
        io_names: our name -> name in the file, where they differ.

    Raises:
        ArtefactError: the child died, took too long or too much memory. What it reports as an error is none here: this
            process will meet the same one.
        OutputError: no child could be started, or TMPDIR cannot hold the file.
    """
    request = {**plain(signature), "io_names": dict(io_names)}
    ask_child("LiteRT", _CODE, json.dumps(request).encode() + b"\n" + data, len(data), key, what)


def ask_child(library: str, code: str, sent: bytes, size_bytes: int, key: str, what: str) -> None:
    """Have a child try what is not known here.

    Args:
        library: whose native code is tried, for messages.
        code: what the child runs.
        sent: what it reads from its standard input.
        size_bytes: of the artefact; time and memory that are given grow with it.
        key, what: as in `try_first`.

    Raises:
        ArtefactError, OutputError: as `try_first`.
    """
    if is_known(key):
        return
    try:
        wrong = _run(code, sent, SECONDS + SECONDS_PER_MB * size_bytes / 1e6, MOST_BYTES + BYTES_PER_BYTE * size_bytes)
    except OSError as exc:
        raise OutputError(f"{what}: cannot be tried in a process of its own: {exc}; is TMPDIR full?") from exc
    if wrong:
        raise ArtefactError(
            f"{what}: {library} {wrong} when a process of its own opened the file and called it once, so it is not "
            f"opened here; it is damaged, or made to do harm: export it again"
        )
    remember(key)


def plain(signature: GraphSignature) -> dict[str, Any]:
    """A signature as JSON; `signature_of` reads it."""
    return {
        "inputs": [[t.name, t.shape] for t in signature.inputs],
        "outputs": [[t.name, t.shape] for t in signature.outputs],
        "states": [[s.name, s.shape] for s in signature.states],
    }


def signature_of(request: Mapping[str, Any]) -> GraphSignature:
    """What `plain` was given, names and shapes of it."""
    tensors = ([TensorSpec(n, tuple(s), (-1.0, 1.0), "") for n, s in request[side]] for side in ("inputs", "outputs"))
    inputs, outputs = map(tuple, tensors)
    return GraphSignature(inputs, outputs, tuple(StateSpec(n, tuple(s)) for n, s in request["states"]))


def _folder() -> Path:
    return cache_dir() / "tried"


def _run(code: str, sent: bytes, seconds: float, most_bytes: int) -> str:
    """Run the child; what it came to in words, empty where all went well."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(sent)
        given.seek(0)
        child = subprocess.Popen(python_command(code), stdin=given, stdout=subprocess.DEVNULL, stderr=said)
        ends = time.monotonic() + seconds
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_POLL_SECONDS)
                    break
                if time.monotonic() > ends:
                    return f"did not come to an end within {seconds:.0f} s"
                taken = _resident_bytes(child.pid)
                if taken > most_bytes:
                    return f"took {taken / 1e9:.1f} GB of memory, at most {most_bytes / 1e9:.1f} GB are given,"
        finally:
            child.kill()
            child.wait()
        said.seek(0)
        lines = said.read(_READ_BYTES).decode("utf-8", "replace").strip().splitlines()
    if child.returncode < 0:
        return f"died of {signal.Signals(-child.returncode).name}"
    if child.returncode > 0:
        return f"ended with code {child.returncode} ({lines[-1] if lines else 'nothing said'})"
    return ""


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process, 0 where it cannot be told."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        if sys.platform == "linux":
            fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
            return int(fields[1]) * 4096
        told = subprocess.run(["/bin/ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=False)
        return int(told.stdout) * 1024
    return 0
