"""`hearpack simulate`: the loop of a phone over a sound, every millisecond accounted for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, print_json, progress_bars, wide_console

if TYPE_CHECKING:
    from streaming.runs.record import RunRecord
    from streaming.simulator.simulate import Tick


def simulate(
    bundle: Path = typer.Argument(..., help="A bundle's folder."),
    audio: Path | None = typer.Argument(None, help="Audio file: what the microphone hears. Not with --mic."),
    device: str = typer.Option("this-machine", "--device", "-d", help="A device (see: hearpack devices) or a .toml."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Folder NAME.run to write."),
    clock: str = typer.Option(
        "virtual", help="virtual: deterministic, as fast as it goes. wall: threads in real time."
    ),
    seconds: float | None = typer.Option(None, help="Length; the file is repeated or cut to it."),
    seed: int = typer.Option(0, min=0, help="Of jitter, losses and compute times."),
    policy: str = typer.Option("drop_oldest", help="Overload: drop_oldest, skip_hop or grow_delay."),
    ring_ms: float | None = typer.Option(None, help="Capacity of the ring before the net."),
    prefill_ms: float | None = typer.Option(None, help="Audio held before playing (enhancers)."),
    calibration: Path | None = typer.Option(None, help="Compute times of this machine; measured for 5 s without."),
    compute_ms: float | None = typer.Option(None, help="Instead: each call takes this on the device."),
    slowdown: float | None = typer.Option(None, help="Instead of the device's."),
    fault: list[str] = typer.Option([], help="KIND@SECONDS[:AMOUNT], e.g. stall@2:500ms; see docs/simulator.md."),
    search: str | None = typer.Option(None, help="slowdown, ring or prefill: find the limit instead of one run."),
    parity: int | None = typer.Option(
        None, help="Instead of a run: this many random partitions, rates and resets against one push of the whole."
    ),
    replay: Path | None = typer.Option(None, help="A device trace: its callbacks and times instead of a profile's."),
    mic: bool = typer.Option(False, "--mic", help="Listen to the microphone (wall clock, extra `live`)."),
    artefact: str | None = typer.Option(None, help="Artefact id; litert-fp32 by default."),
    engine: str | None = typer.Option(None, help="litert-interpreter, litert-compiled, coreml, mil-fp32, mil-fp16."),
    no_audio: bool = typer.Option(False, "--no-audio", help="Do not keep heard.wav and output.wav."),
    json_output: bool = JsonOption,
) -> None:
    """Run the phone's loop (capture, ring, net, act) and account for its delay."""
    from hearpack.api import simulate as run_simulate
    from streaming.simulator.command import SimulateOptions

    if parity is not None:
        _parity(bundle, audio, parity, seed, artefact, engine, json_output)
        return
    options = SimulateOptions(
        device=device,
        clock=clock,
        seconds=seconds,
        seed=seed,
        policy=policy,
        ring_ms=ring_ms,
        prefill_ms=prefill_ms,
        calibration=calibration,
        compute_ms=compute_ms,
        slowdown=slowdown,
        faults=tuple(fault),
        search=search,
        replay=replay,
        microphone=mic,
        artefact=artefact,
        engine=engine,
        keep_audio=not no_audio,
    )
    with progress_bars(json_output) as progress, _live(json_output, clock == "wall" or mic) as tick:
        record = run_simulate(
            bundle, audio, options, output=output, command=("hearpack", *sys.argv[1:]), progress=progress, tick=tick
        )
    if json_output:
        print_json(record)
    else:
        show(record, output)
    if record.delay_check is not None and not record.delay_check.passed:
        sys.stderr.write(
            "hearpack: the ledger disagrees with the measured delay: an error of hearpack's, please tell\n"
        )
        raise typer.Exit(1)
    if record.ended == "error":
        raise typer.Exit(1)
    if record.ended == "interrupted":
        raise typer.Exit(130)


def _parity(
    bundle: Path, audio: Path | None, trials: int, seed: int, artefact: str | None, engine: str | None, as_json: bool
) -> None:
    """Streams against the whole; exit 1 where one differs."""
    from rich.table import Table

    from hearpack.api import check_partitions

    found = check_partitions(bundle, audio, trials=trials, seed=seed, artefact=artefact, engine=engine)
    if as_json:
        print_json(found)
    else:
        table = Table("rate", "blocks", "reset at", "first diverging", "error dB", "edges dB", box=None, pad_edge=False)
        for t in found.trials:
            reset, first = (str(v) if v >= 0 else "none" for v in (t.reset_at, t.first_diverging))
            table.add_row(
                f"{t.rate_hz} Hz", str(t.blocks), reset, first, f"{t.error_db:.1f}", f"{t.edge_click_db:+.2f}"
            )
        console = wide_console()
        console.print(table)
        console.print("every stream equals the whole, bit for bit" if found.equal else "FAILED: a stream differs")
    if not found.equal:
        raise typer.Exit(1)


_ARTICLE = {"block": "a", "window": "a", "event": "an"}


@contextmanager
def _live(quiet: bool, wall: bool) -> Iterator[Tick | None]:
    """In wall mode: level, score and delay on stderr, ten times a second."""
    if quiet or not wall or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    from hearpack.commands.live import live_line

    with Live(console=Console(stderr=True), refresh_per_second=10, transient=True) as live:
        yield lambda pipeline, now, total: live.update(live_line(pipeline, now, total))


def show(record: RunRecord, output: Path | None) -> None:
    """The record as text."""
    from rich.table import Table

    console = wide_console()
    counts = record.counts
    console.print(
        f"{record.bundle} {record.artefact} on {record.engine}; {record.profile.name}: {record.profile.title}; "
        f"{record.clock} clock, {record.simulated_s:.1f} s, seed {record.seed}, {record.policy}"
    )
    if record.ended != "finished":
        console.print(record.message if record.ended == "interrupted" else f"error: {record.message}")
    for provenance in dict.fromkeys(times.provenance for times in record.compute):
        table = Table(f"time of a call, {provenance}", "p50", "p95", "p99", "max ms", box=None, pad_edge=False)
        for times in (t for t in record.compute if t.provenance == provenance):
            q = times.quantiles
            table.add_row(times.label, *(f"{v / 1e6:.3f}" for v in (q.p50, q.p95, q.p99, q.max)))
        console.print(table)
    for ledger in record.ledger:
        table = Table(
            f"delay of {_ARTICLE[ledger.kind]} {ledger.kind}", "mean", "p50", "p95", "max ms", box=None, pad_edge=False
        )
        for name, q in ledger.parts.items():
            row = (ledger.mean_parts[name], q.p50, q.p95, q.max)
            if any(abs(v) >= 500 for v in row):
                table.add_row(name, *(f"{v / 1e6:.3f}" for v in row))
        q = ledger.total
        table.add_row("total", *(f"{v / 1e6:.3f}" for v in (q.mean, q.p50, q.p95, q.max)))
        console.print(table)
    check = record.delay_check
    if check is not None:
        console.print(
            f"ledger {check.ledger_ns / 1e6:.3f} ms, measured by {check.method} {check.measured_ns / 1e6:.3f} ms: "
            f"{abs(check.mismatch_samples):.2f} samples apart (at most {check.limit_samples:g}): "
            f"{'ok' if check.passed else 'FAILED'}"
        )
    console.print(
        f"{counts.calls} calls, {counts.misses} past their deadline, {counts.skipped_hops} skipped, "
        f"{counts.failed_calls} failed; ring: {counts.written} written = {counts.read} read + {counts.held} held + "
        f"{counts.dropped} dropped, at most {record.ring.high_water_samples} of {record.ring.capacity_samples} held"
    )
    if record.playout is not None:
        p = record.playout
        console.print(
            f"playout: {p.underruns} underruns ({p.underrun} samples), {p.dropped} dropped, {p.trimmed} trimmed"
        )
    for event in record.events[:20]:
        rate = record.model_rate_hz
        console.print(
            f"{event.onset_sample / rate:9.3f} s {event.offset_sample / rate:9.3f} s {event.confidence:5.2f}  "
            f"{event.label}, told {event.delay_ns / 1e6:.0f} ms after its onset"
        )
    if len(record.events) > 20:
        console.print(f"… and {len(record.events) - 20} more events")
    kinds: dict[str, int] = {}
    for fault in record.faults:
        kinds[fault.kind] = kinds.get(fault.kind, 0) + 1
    if kinds:
        beyond = record.faults_total - len(record.faults)
        told = f"{record.faults_total:,} faults, of the first {len(record.faults):,}: " if beyond else "faults: "
        console.print(told + ", ".join(f"{n} x {k}" for k, n in sorted(kinds.items())))
    for name, value in record.search.items():
        console.print(f"{name}: {value:g}")
    if output is not None:
        console.print(f"wrote {output}")
