"""A trace of a run in the Chrome format, written to disk as it goes: open it in ui.perfetto.dev.

Tracks: callback, inference, playout, faults and events as instants, occupancy of the rings as counters. Times are
microseconds with three digits, so every nanosecond is kept. After `limit` slices only faults, events and errors are
written, and the trace says so: an hour of bursts would be too much for any viewer.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from streaming.simulator.pipeline.writers import RawWriter

TRACKS = ("capture", "inference", "playout", "faults", "events")
_TRACK_ID = {name: i + 2 for i, name in enumerate(TRACKS)}  # 1 is the process: viewers call that thread the main one
_FLUSH = 1024


class TraceWriter:
    """Writes one trace.

    Args:
        file: where to, or None to write nothing.
        limit: slices and counters written before only instants are.

    Raises:
        OutputError: the file cannot be written (also from `close` and from the others).
    """

    def __init__(self, file: Path | None, limit: int = 200_000) -> None:
        self._left = limit
        self._lines: list[str] = []
        self._lock = threading.Lock()  # in real time three threads write
        self._writer = None if file is None else RawWriter(file)
        self.full = file is None
        if self._writer is None:
            return
        head = [("process_name", 0, {"name": "hearpack simulate"})]
        head += [("thread_name", _TRACK_ID[t], {"name": t}) for t in TRACKS]
        lines = [json.dumps({"ph": "M", "pid": 1, "tid": tid, "name": kind, "args": args}) for kind, tid, args in head]
        self._writer.write(('{"displayTimeUnit":"ms","traceEvents":[\n' + ",\n".join(lines)).encode())

    def slice(self, track: str, name: str, begin_ns: int, end_ns: int, **arguments: int) -> None:
        """Something that took time."""
        if self.full:
            return
        args = ",".join(f'"{k}":{v}' for k, v in arguments.items())
        self._put(
            f'{{"ph":"X","pid":1,"tid":{_TRACK_ID[track]},"name":"{name}","ts":{_us(begin_ns)},'
            f'"dur":{_us(end_ns - begin_ns)},"args":{{{args}}}}}',
            begin_ns,
        )

    def counter(self, name: str, time_ns: int, value: int) -> None:
        """A level that changed."""
        if self.full:
            return
        self._put(
            f'{{"ph":"C","pid":1,"tid":0,"name":"{name}","ts":{_us(time_ns)},"args":{{"samples":{value}}}}}', time_ns
        )

    def instant(self, track: str, name: str, time_ns: int, **arguments: int | float | str) -> None:
        """A fault or an event: always written."""
        if self._writer is None:
            return
        line = (
            f'{{"ph":"i","s":"t","pid":1,"tid":{_TRACK_ID[track]},"name":{json.dumps(name)},"ts":{_us(time_ns)},'
            f'"args":{json.dumps(arguments, sort_keys=True)}}}'
        )
        with self._lock:
            self._lines.append(line)
            self._flush_if(_FLUSH)

    def _put(self, line: str, time_ns: int) -> None:
        with self._lock:
            self._lines.append(line)
            self._left -= 1
            self._flush_if(_FLUSH)
        if self._left == 0:
            self.full = True
            self.instant("faults", "trace is full: only faults and events from here on", time_ns)

    def _flush_if(self, count: int) -> None:
        if len(self._lines) >= count and self._writer is not None:
            self._writer.write((",\n" + ",\n".join(self._lines)).encode())
            self._lines.clear()

    def close(self) -> None:
        """Write what is left and end the file."""
        if self._writer is None:
            return
        self._flush_if(1)
        self._writer.write(b"\n]}\n")
        self._writer.close()
        self._writer, self.full = None, True


def _us(time_ns: int) -> str:
    return f"{time_ns // 1000}.{time_ns % 1000:03d}"
