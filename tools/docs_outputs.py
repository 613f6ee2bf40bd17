"""The outputs in the pages come from the commands beside them: run them again, compare, or write them anew.

    python -m tools.docs_outputs                      # compare every page; exit 1 where a line is not put out any more
    python -m tools.docs_outputs --write docs/report.md

A page shows a command in a console block: `$ hearpack ...`, then some lines of its output; "..." stands for what was
left out. The commands of a page run in one folder, in order, on what `prepare` puts there. Figures differ from run to
run and machine to machine, so a line is known again by its first cell (an event by its label, too), or by its first
words, without figures.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/tutorial.md", "docs/report.md", "docs/simulator.md")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
LEFT_OUT = "..."
NOISY_S = 20.0
TRACE_S = 20.0


@dataclass(frozen=True)
class Shown:
    """A command of a page, and the lines of its output that the page shows."""

    command: str
    lines: tuple[str, ...]


def shown(text: str) -> list[Shown]:
    """The commands of a page, in order."""
    found = []
    for block in BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *lines = part.rstrip("\n").split("\n")
            found.append(Shown(command.partition("  #")[0].strip(), tuple(lines)))
    return found


def shape(line: str) -> str:
    """What a line is known by: its first cell, or the first words of a sentence; without figures."""
    line = re.sub(r"^(keeps up|does not keep up|within the budget|FAILED: ).*", "verdict", line.strip())
    cells = re.split(r"\s{2,}", line)
    words = cells[0] if len(cells) > 1 else " ".join(line.split()[:3])
    if re.fullmatch(r"[\d.]+ s", words):  # an event: its label is in the last cell
        words = f"{words} {cells[-1]}"
    return re.sub(r"\d[\d.,]*", "#", words)


def missing(page: Shown, output: str) -> list[str]:
    """Lines of a page that the output has nothing like."""
    given = {shape(line) for line in output.splitlines()}
    return [line for line in page.lines if line.strip() not in ("", LEFT_OUT) and shape(line) not in given]


def refreshed(page: Shown, output: str) -> list[str]:
    """The lines of a page as the output has them now; one that is not there any more stays."""
    left = output.splitlines()
    lines = []
    for line in page.lines:
        place = next((n for n, other in enumerate(left) if shape(other) == shape(line)), None)
        known = place is not None and line.strip() not in ("", LEFT_OUT)
        lines.append(left[place].rstrip() if known and place is not None else line)
        left = left[place + 1 :] if known and place is not None else left
    return lines


def prepare(folder: Path) -> None:
    """Bundles, recordings, labels, a budget, the Android sample and a made-up trace, as the pages name them."""
    import hearpack
    from converters.bundle.test_audio import noisy_speech
    from models.pretrained import pull
    from models.weights.fetch import cache_dir
    from streaming.files.wav import write_wav

    for name, hops in (("yamnet", 1), ("dtln", 1), ("dtln", 4)):
        hearpack.export(name, folder, hops_per_call=hops)
    pull("yamnet")
    street = next(cache_dir().glob("street-*"))
    shutil.copy(street / "mini-test.wav", folder / "street.wav")
    shutil.copy(street / "mini-test.csv", folder / "street.csv")
    write_wav(folder / "noisy.wav", np.asarray(noisy_speech(16_000, NOISY_S)[1], np.float32)[None], 16_000)
    shutil.copytree(ROOT / "android-sample", folder / "android-sample", ignore=shutil.ignore_patterns("build"))
    budget = "[budget]\nsize_mb = 20\ncompute_p99_ms = 50\nrtf = 0.5\ndelay_ms = 600\nmisses = 0\nlost_samples = 0\n"
    (folder / "budget.toml").write_text(budget + "cold_start_ms = 2000\nmemory_mb = 200\n", encoding="utf-8")
    (folder / "trace.json").write_text(json.dumps(made_up_trace(folder / "dtln-128.hearpack")), encoding="utf-8")


def made_up_trace(bundle: Path) -> dict[str, object]:
    """What a phone with bursts of 192 frames and calls of about 0.7 ms would write; no phone did."""
    from runtimes.bundle import Bundle

    artefact = next(a for a in Bundle.open(bundle).manifest.artefacts if a.id == "litert-fp32")
    generator = np.random.default_rng(1)
    callbacks: list[dict[str, int]] = []
    calls: list[dict[str, int]] = []
    begin, free, block = 500_000_000, 0, 192
    for n in range(int(TRACE_S * 48_000) // block):
        time_ns = begin + n * block * 1_000_000_000 // 48_000 + int(abs(generator.normal(0, 200_000)))
        hardware = begin + n * block * 1_000_000_000 // 48_000 - 6_000_000
        row = {"time_ns": time_ns, "end_ns": time_ns + 40_000, "frames": block, "rate_hz": 48_000}
        callbacks.append({**row, "hardware_time_ns": hardware, "hardware_frame": n * block})
        while (n + 1) * block // 3 >= (len(calls) + 1) * 128:
            at = max(time_ns + 80_000, free)
            free = at + int(max(0.5, generator.normal(0.7, 0.08)) * 1e6)
            end = {"end_sample": (len(calls) + 1) * 128, "waiting_samples": 0}
            calls.append({"begin_ns": at, "end_ns": free, **end})
    capture = {"rate_hz": 48_000, "channels": 1, "block_frames": block, "format": "float32", "mode": "low_latency"}
    route = {"time_ns": begin, "input": "built_in", "output": "wired", "rate_hz": 48_000, "channels": 1}
    phone = {"manufacturer": "made up", "model": "no phone", "os": "android", "os_version": "15", "emulated": False}
    return {
        "schema": "hearpack-trace/1",
        "app": {"name": "hearpack-android", "version": "0.1.0", "build": "release"},
        "device": phone,
        "bundle": {
            "name": "dtln",
            "buffer_samples": 128,
            "artefact_id": artefact.id,
            "artefact_sha256": artefact.files[0].sha256,
            "runtime": "litert",
            "runtime_version": "2.2.0",
        },
        "audio": {"model_rate_hz": 16_000, "requested": capture, "granted": capture, "ring_samples": 32_000},
        "cold_start": {
            "model_load_begin_ns": 100_000_000,
            "model_load_end_ns": 140_000_000,
            "first_call_begin_ns": 140_000_000,
            "first_call_end_ns": 142_000_000,
        },
        "callbacks": callbacks,
        "inferences": calls,
        "gaps": [],
        "thermal": [{"time_ns": begin, "state": "nominal"}],
        "routes": [route],
        "gains": [],
        "compute_units": [{"time_ns": begin, "requested": "cpu", "used": "cpu"}],
        "end": {
            "time_ns": free + 1_000_000,
            "reason": "stopped",
            "callbacks": len(callbacks),
            "inferences": len(calls),
        },
    }


def run(command: str, folder: Path) -> str:
    """What a command puts out, stdout and stderr as one; `hearpack` is this checkout's.

    Raises:
        ValueError: a command that a page may not have here.
    """
    words = shlex.split(command)
    if words[0] not in ("hearpack", "head"):
        raise ValueError(f"a console block may have hearpack and head, got {command!r}")
    given = [sys.executable, "-m", "hearpack", *words[1:]] if words[0] == "hearpack" else words
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    done = subprocess.run(
        given, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


def pages(names: list[str]) -> Iterator[tuple[Path, list[tuple[Shown, str]]]]:
    """Each page with its commands and what they put out now."""
    with tempfile.TemporaryDirectory() as scratch:
        start = Path(scratch) / "start"
        start.mkdir()
        prepare(start)
        for number, name in enumerate(names):
            folder = Path(scratch) / f"page{number}"
            shutil.copytree(start, folder)
            page = ROOT / name
            yield page, [(s, run(s.command, folder)) for s in shown(page.read_text(encoding="utf-8"))]


def write(page: Path, outputs: list[tuple[Shown, str]]) -> None:
    """Put the new lines into the page."""
    text = page.read_text(encoding="utf-8")
    for one, output in outputs:
        old, new = "\n".join(one.lines), "\n".join(refreshed(one, output))
        text = text.replace(old, new, 1) if old.strip() else text
    page.write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Compare, or with --write put the new lines into the pages; 1 if a line has gone."""
    names = [a for a in arguments if a != "--write"] or list(PAGES)
    gone = 0
    for page, outputs in pages(names):
        if "--write" in arguments:
            write(page, outputs)
        for one, output in outputs:
            lines = missing(one, output)
            gone += len(lines)
            for line in lines:
                sys.stdout.write(
                    f"{page.relative_to(ROOT)}: $ {one.command}\n    not put out any more: {line}\n{output}\n"
                )
    return 1 if gone else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
