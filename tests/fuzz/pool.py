"""Runs cases in processes of their own and sees what a process cannot tell: that it died, hangs or grows."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.kinds import Kind

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 20.0
LARGEST_BYTES = 2 * 10**9
START_S = 240.0
OUTCOMES = ("ok", "clean", "traceback", "text", "crash", "hang", "memory")
GOOD = ("ok", "clean")


@dataclass
class Tally:
    """Outcomes of one kind, and each bad one with its number."""

    kind: str
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, number: int, found: str, said: str) -> None:
        self.counts[found] += 1
        if found not in GOOD:
            self.bad.append((number, found, said))


def attempt(
    kind: Kind, seed: int, first: int, count: int, place: Path, tell: Callable[[Tally], None] = lambda _: None
) -> Tally:
    """Try cases `first` to `first + count` of a kind; a process that ends early is followed by another one."""
    tally = Tally(kind.name, seed)
    done = 0
    while done < count:
        before = done
        for number, found, said in _cases(kind, seed, first + done, min(kind.per_process, count - done), place):
            tally.add(number, found, said)
            done = number + 1 - first
        tell(tally)
        if done == before:
            raise RuntimeError(f"{kind.name}: the worker did nothing")
    return tally


def _cases(kind: Kind, seed: int, first: int, count: int, place: Path) -> Iterator[tuple[int, str, str]]:
    arguments = [kind.name, str(seed), str(first), str(count), str(place)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = place / "stderr.txt"
    place.mkdir(parents=True, exist_ok=True)
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", *arguments],
            stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=ROOT,
        ) as process,
    ):  # fmt: skip
        try:
            yield from _listen(process, log)
        finally:
            process.kill()


def _listen(process: subprocess.Popen[bytes], log: Path) -> Iterator[tuple[int, str, str]]:
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    pending, current, since = b"", None, time.monotonic()
    while True:
        ready, _, _ = select.select([pipe], [], [], 0.2)
        data = os.read(pipe, 1 << 16) if ready else None
        for line in _lines(pending, data):
            word, number, *rest = line.decode("ascii").split(" ", 3)
            current, since = (int(number) if word == "begin" else None), time.monotonic()
            if word == "end":
                yield int(number), rest[0], rest[1] if len(rest) > 1 else ""
        pending = (pending + (data or b"")).rpartition(b"\n")[2]
        waited = time.monotonic() - since
        if data == b"":
            code = process.wait()
            if code:
                tail = log.read_bytes()[-3_000:].decode("utf-8", "replace").strip()
                if current is None:
                    raise RuntimeError(f"the worker ended with {code} before a case:\n{tail}")
                yield current, "crash", f"ended with {code}: {tail[-300:]}"
            return
        if current is not None and waited > HANG_S:
            yield current, "hang", f"{waited:.0f} s"
            return
        if current is not None and _resident(process.pid) > LARGEST_BYTES:
            yield current, "memory", f"{_resident(process.pid) / 1e9:.1f} GB"
            return
        if current is None and waited > START_S:
            raise RuntimeError(f"the worker did not begin within {START_S:g} s")


def _lines(pending: bytes, data: bytes | None) -> list[bytes]:
    return (pending + data).split(b"\n")[:-1] if data else []


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
