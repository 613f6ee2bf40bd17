"""`hearpack simulate`: the loop of a phone over a sound, every millisecond accounted for."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hearpack.commands.shared import (
    JsonOption,
    console,
    print_json,
    progress_bars,
    say,
    second_of,
    show_table,
)
from hearpack.commands.simulated import show
from models.common.errors import UsageError

if TYPE_CHECKING:
    from streaming.runs.record import RunRecord
    from streaming.simulator.modes import Microphone, Replay, Search, Simulate
    from streaming.simulator.pipeline.pipeline import Observer, Status

_BAR = 20
_FLOOR_DBFS = -60.0


def simulate(
    bundle: Path = typer.Argument(..., help="A bundle's folder."),
    audio: Path | None = typer.Argument(None, help="Audio file: what the microphone hears. Not with --mic."),
    device: str = typer.Option("this-machine", "--device", "-d", help="A device (see: hearpack devices) or a .toml."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Folder NAME.run to write."),
    clock: str = typer.Option(
        "virtual", help="virtual: deterministic, as fast as it computes. realtime: real threads in real time."
    ),
    seconds: float | None = typer.Option(None, help="Length; the file is repeated or cut to it."),
    seed: int = typer.Option(0, min=0, help="Seed of jitter, losses and compute times."),
    policy: str = typer.Option(
        "drop_oldest", help="On overload: drop_oldest is what the apps do; no app does skip_hop or grow_delay."
    ),
    ring_ms: float | None = typer.Option(None, help="Capacity of the ring before the net."),
    prefill_ms: float | None = typer.Option(None, help="Audio held before playing (enhancers)."),
    calibration: Path | None = typer.Option(
        None, help="Compute times of this machine (hearpack calibrate -o); without it, measured for 5 s."
    ),
    compute_ms: float | None = typer.Option(None, help="Fixed time of a call on the device, instead of measured ones."),
    first_call_ms: float | None = typer.Option(None, help="Time of the first call on the device."),
    coldstart: Path | None = typer.Option(
        None, help="A file of hearpack coldstart -o: its first call, times the device's slowdown, is the first call."
    ),
    slowdown: float | None = typer.Option(None, help="Slowdown, instead of the device's."),
    fault: list[str] = typer.Option([], help="KIND@SECONDS[:AMOUNT], e.g. stall@2:500ms; see docs/simulator.md."),
    search: str | None = typer.Option(None, help="slowdown, ring or prefill: find the limit instead of one run."),
    parity: int | None = typer.Option(
        None, help="Instead of a run: this many random partitions, rates and resets against one push of the whole."
    ),
    replay: Path | None = typer.Option(
        None, help="A device trace (.json or .json.gz): its callbacks and times instead of a profile's."
    ),
    mic: bool = typer.Option(False, "--mic", help="Listen to the microphone (real time, extra `live`)."),
    artefact: str | None = typer.Option(None, help="Artefact id; litert-fp32 by default."),
    engine: str | None = typer.Option(None, help="litert-interpreter, litert-compiled, coreml, mil-fp32, mil-fp16."),
    beside: Path | None = typer.Option(None, help="A second bundle that hears the same, on the same thread."),
    then: Path | None = typer.Option(None, help="A second bundle that hears what the first, an enhancer, gives."),
    gate: str = typer.Option("", help="With --beside: call the second only while the first hears this label."),
    second_compute_ms: float | None = typer.Option(None, help="--compute-ms of the second bundle."),
    no_audio: bool = typer.Option(False, "--no-audio", help="Do not keep heard.wav and output.wav."),
    json_output: bool = JsonOption,
) -> None:
    """Run the phone's loop (capture, ring, net, decisions) and account for its delay."""
    from streaming.simulator.simulate import simulate as run_simulate

    two = second_of(beside, then, gate, second_compute_ms)
    if two is not None and (parity is not None or search is not None or replay is not None or mic):
        raise UsageError("two bundles are simulated over a file: leave out --parity, --search, --replay and --mic")
    if parity is not None:
        _parity(bundle, audio, parity, seed, artefact, engine, json_output)
        return
    common: dict[str, Any] = {
        "device": device,
        "seconds": seconds,
        "seed": seed,
        "policy": policy,
        "ring_ms": ring_ms,
        "prefill_ms": prefill_ms,
        "faults": tuple(fault),
        "artefact": artefact,
        "engine": engine,
        "keep_audio": not no_audio,
    }
    times: dict[str, Any] = {"calibration": calibration, "compute_ms": compute_ms, "slowdown": slowdown}
    mode = _mode(
        audio, "realtime" if clock == "wall" else clock, search, replay, mic, (first_call_ms, coldstart), common, times
    )
    if two is not None:
        _together(
            bundle,
            two,
            mode,
            behind=then is not None,
            gate=gate,
            second_compute_ms=second_compute_ms,
            output=output,
            json_output=json_output,
        )
        return
    live = (clock in ("realtime", "wall") or mic) and not json_output and sys.stderr.isatty()
    with progress_bars(json_output) as progress, _display(live) as observer:
        record = run_simulate(
            bundle,
            mode,
            output=output,
            command=("hearpack", *sys.argv[1:]),
            progress=progress,
            observer=observer,
        )
    if json_output:
        print_json(record)
    else:
        show(record, output)
    if record.delay_check is not None and not record.delay_check.passed:
        sys.stderr.write(
            "hearpack: the ledger disagrees with the measured delay: this is a bug in hearpack; please report it\n"
        )
        raise typer.Exit(1)
    _exit_of(record)


def _exit_of(record: RunRecord) -> None:
    if record.ended == "error":
        raise typer.Exit(1)
    if record.ended == "interrupted":
        raise typer.Exit(130)


def _together(bundle: Path, second: Path, mode: Any, *, output: Path | None, json_output: bool, **options: Any) -> None:
    """Two bundles on one thread."""
    from streaming.simulator.simulate import simulate_together

    command = ("hearpack", *sys.argv[1:])
    with progress_bars(json_output) as progress:
        runs = simulate_together(bundle, second, mode, output=output, command=command, progress=progress, **options)
    if json_output:
        print_json(runs)
    else:
        for run in runs:
            show(run.record, None)
        rows = [
            (
                run.record.bundle,
                str(run.record.counts.calls - run.spared),
                str(run.spared),
                f"{run.record.compute[0].quantiles.mean / 1e6:.3f}" if run.record.compute else "none",
                f"{100 * run.busy:.1f} %",
            )
            for run in runs
        ]
        show_table(("on one thread", "calls", "spared", "mean ms", "of the time"), rows)
        if output is not None:
            say(f"wrote {output.stem}-1.run and {output.stem}-2.run")
    _exit_of(runs[0].record)


def _mode(
    audio: Path | None,
    clock: Any,  # the two choices are checked here
    search: Any,
    replay: Path | None,
    mic: bool,
    first_call: tuple[float | None, Path | None],
    common: dict[str, Any],
    times: dict[str, Any],
) -> Simulate | Replay | Microphone | Search:
    """The mode that the options ask for.

    Raises:
        UsageError: an option that is wrong by itself or together with others.
    """
    from streaming.simulator import modes

    modes.check_choice("policy", common["policy"])
    modes.check_choice("clock", clock)
    if search is not None:
        modes.check_choice("search", search)
    for name in ("compute_ms", "slowdown"):
        modes.check_figure(name, times[name])
    modes.check_figure("seconds", common["seconds"])
    if first_call != (None, None) and (mic or replay is not None or search is not None):
        raise UsageError(
            "--first-call-ms and --coldstart are for a run in the virtual clock, without --mic, --replay and --search"
        )
    if mic and (audio is not None or replay is not None or search is not None):
        raise UsageError("--mic listens to the microphone: leave out the audio file, --replay and --search")
    if replay is not None and (search is not None or clock == "realtime"):
        raise UsageError("--replay runs in the virtual clock, without --search")
    if search is not None and clock == "realtime":
        raise UsageError("--search needs the virtual clock")
    if times["calibration"] is not None and times["compute_ms"] is not None:
        raise UsageError("--calibration and --compute-ms both say how long a call takes; give one")
    if mic:
        return modes.Microphone(**common, slowdown=times["slowdown"])
    if replay is not None:
        return modes.Replay(**common, trace=replay, audio=audio)
    if audio is None:
        raise UsageError("simulate: expected an audio file (or --mic, or --replay TRACE)")
    if search is not None:
        return modes.Search(**common, **times, audio=audio, what=search)
    return modes.Simulate(
        **common, **times, audio=audio, clock=clock, first_call_ms=first_call[0], cold_start=first_call[1]
    )


def _parity(
    bundle: Path, audio: Path | None, trials: int, seed: int, artefact: str | None, engine: str | None, as_json: bool
) -> None:
    """Streams against the whole; exit 1 where one differs."""
    from streaming.metrics.partition import check_partitions

    found = check_partitions(bundle, audio, trials=trials, seed=seed, artefact=artefact, engine=engine)
    if as_json:
        print_json(found)
    else:
        rows = []
        for t in found.trials:
            reset, first = (str(v) if v >= 0 else "none" for v in (t.reset_at, t.first_diverging))
            figures = f"{t.error_db:.1f}", f"{t.edge_click_db:+.2f}"
            rows.append((f"{t.rate_hz} Hz", str(t.blocks), reset, first, *figures))
        show_table(("rate", "blocks", "reset at", "first diverging", "error dB", "edges dB"), rows)
        say("every stream equals the whole, bit for bit" if found.equal else "FAILED: a stream differs")
    if not found.equal:
        raise typer.Exit(1)


@contextmanager
def _display(live: bool) -> Iterator[Observer]:
    """In real time: level, score and delay on stderr, ten times a second."""
    from streaming.simulator.pipeline.pipeline import Observer

    if not live:
        yield Observer()
        return
    from rich.live import Live

    with Live(console=console(err=True), refresh_per_second=10, transient=True) as shown:
        yield Observer(on_tick=lambda pipeline, now, total: shown.update(live_line(pipeline.status, now, total)))


def live_line(status: Status, now_ns: int, total_ns: int) -> str:
    """For instance "  3.2 s |######      | -21 dBFS  ring 128  late 86 ms  misses 0  Speech 0.93"."""
    dbfs = status.level.rms_dbfs
    share = max(0.0, min(1.0, 1.0 - dbfs / _FLOOR_DBFS)) if math.isfinite(dbfs) else 0.0
    bar = "#" * round(_BAR * share)
    loudness = f"{dbfs:4.0f} dBFS" if math.isfinite(dbfs) else "silence  "
    total = f"/{total_ns / 1e9:.1f}" if total_ns else ""
    line = (
        f"{now_ns / 1e9:7.1f}{total} s |{bar:<{_BAR}}| {loudness}  ring {status.held:6d}  "
        f"late {status.delay_ns / 1e6:6.1f} ms  misses {status.misses}"
    )
    if status.best is not None:
        label, score = status.best
        line += f"  {label} {score:.2f}"
    return line if status.underruns is None else f"{line}  underruns {status.underruns}"
