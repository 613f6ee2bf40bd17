"""From the words of a command line to a run: devices, times and sizes are found, checked and put together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.common.errors import AudioError, UsageError
from models.common.files import atomic_file
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle, refuse_separator
from runtimes.engines import choose, open_runtime
from streaming.files.wav import read_wav
from streaming.measure.calibration import Calibration, read_calibration
from streaming.metrics.partition import PartitionReport, check_partitions
from streaming.runs.record import Policy, RunRecord
from streaming.simulator.capacity import search_limit
from streaming.simulator.device.faults import parse_fault
from streaming.simulator.device.profile import LONGEST_S, load_profile
from streaming.simulator.device.trace_file import read_trace
from streaming.simulator.fit import FittedProfile, fit_device
from streaming.simulator.pipeline.pipeline import Pipeline
from streaming.simulator.replay import check_fits, replay_run
from streaming.simulator.scenario import Settings, Sound, clip_sound, file_sound
from streaming.simulator.simulate import Tick, simulate

POLICIES: tuple[Policy, ...] = ("drop_oldest", "skip_hop", "grow_delay")
CLOCKS = ("virtual", "wall")
SEARCHES = ("slowdown", "ring", "prefill")
CALIBRATION_S = 5.0
LONGEST_RING_MS = 60_000.0


@dataclass(frozen=True)
class SimulateOptions:
    """How a simulation runs; docs/simulator.md explains each.

    Attributes:
        device: profile's name or .toml file.
        clock: "virtual" or "wall".
        seconds: length, the sound repeated or cut.
        seed: of everything random.
        policy: "drop_oldest", "skip_hop" or "grow_delay".
        ring_ms, prefill_ms: sizes of the two rings.
        calibration: file of compute times; without one, and without compute_ms, they are measured for 5 s.
        compute_ms: a call's time on the device.
        slowdown: instead of the device's.
        faults: KIND@SECONDS[:AMOUNT] each.
        search: "slowdown", "ring" or "prefill".
        replay: a device trace.
        microphone: instead of a file.
        artefact, engine: as in `run`.
        keep_audio: whether the folder gets heard.wav and output.wav.
    """

    device: str = "this-machine"
    clock: str = "virtual"
    seconds: float | None = None
    seed: int = 0
    policy: str = "drop_oldest"
    ring_ms: float | None = None
    prefill_ms: float | None = None
    calibration: str | Path | None = None
    compute_ms: float | None = None
    slowdown: float | None = None
    faults: tuple[str, ...] = ()
    search: str | None = None
    replay: str | Path | None = None
    microphone: bool = False
    artefact: str | None = None
    engine: str | None = None
    keep_audio: bool = True


def run_session(
    bundle: Bundle,
    audio: Path | None,
    options: SimulateOptions,
    *,
    output: Path | None = None,
    command: Sequence[str] = (),
    progress: Progress = silent,
    tick: Tick | None = None,
) -> RunRecord:
    """What `hearpack simulate` does.

    Args:
        bundle: the bundle.
        audio: what the microphone hears.
        options: see there.
        output: folder to write.
        command: for the record.
        progress, tick: called as the run goes.

    Raises:
        UsageError: options that are wrong by themselves or together.
        AudioError, BundleError, ArtefactError, OutputError: as their names say.
    """
    refuse_separator(bundle.manifest, "simulate")
    _check(options, audio)
    profile = load_profile(options.device)
    if output is not None and output.suffix != ".run":
        raise UsageError(f"--output: a run is a folder NAME.run, got {output.name!r}")
    settings = Settings(
        profile=profile,
        clock="wall" if options.microphone else options.clock,
        seed=options.seed,
        policy=next(p for p in POLICIES if p == options.policy),
        ring_samples=_samples("--ring-ms", options.ring_ms, bundle.manifest.geometry.sample_rate_hz),
        prefill_samples=_samples("--prefill-ms", options.prefill_ms, profile.output_rate_hz),
        compute_ns=None if options.compute_ms is None else max(1, round(options.compute_ms * 1e6)),
        slowdown=options.slowdown,
        seconds=options.seconds,
        faults=tuple(map(parse_fault, options.faults)),
        keep_audio=options.keep_audio,
    )
    if options.microphone:
        from streaming.simulator.microphone import run_microphone

        return run_microphone(bundle, settings, output, command, options.artefact, options.engine, tick)
    if options.replay is not None:
        trace = read_trace(options.replay)
        seconds = trace.duration_s if options.seconds is None else options.seconds
        sound = _silence(seconds) if audio is None else file_sound(audio, seconds)
        return replay_run(bundle, trace, sound, settings, output, command, options.artefact, options.engine)
    if audio is None:
        raise UsageError("simulate: expected an audio file (or --mic, or --replay TRACE)")
    sound = file_sound(audio, options.seconds)
    if settings.clock == "virtual" and options.compute_ms is None:
        calibration = _calibration(bundle, options.calibration, options.artefact, options.engine, progress)
        settings = dataclasses.replace(settings, calibration=calibration)
    if options.search is not None:
        limit = search_limit(
            bundle, sound, settings, options.search, artefact=options.artefact, engine=options.engine, progress=progress
        )
        settings = dataclasses.replace(settings, **limit.settings)
        return _run(bundle, sound, settings, options, output, command, progress, tick, limit.figures)
    return _run(bundle, sound, settings, options, output, command, progress, tick, {})


def _run(
    bundle: Bundle,
    sound: Sound,
    settings: Settings,
    options: SimulateOptions,
    output: Path | None,
    command: Sequence[str],
    progress: Progress,
    tick: Tick | None,
    found: dict[str, float],
) -> RunRecord:
    shown = [-1]

    def note(pipeline: Pipeline, now_ns: int, total_ns: int) -> None:
        if tick is not None:
            tick(pipeline, now_ns, total_ns)
            return
        percent = 100 * now_ns // max(1, total_ns)
        if percent > shown[0]:
            shown[0] = percent
            progress("simulating", min(1.0, percent / 100.0))

    return simulate(
        bundle,
        sound,
        settings,
        output=output,
        command=command,
        artefact=options.artefact,
        engine=options.engine,
        tick=note,
        found=lambda _record: found,
    )


def _check(options: SimulateOptions, audio: Path | None) -> None:
    """Raise unless the options go together."""
    for name, value, known in (
        ("--policy", options.policy, POLICIES),
        ("--clock", options.clock, CLOCKS),
        ("--search", options.search, (None, *SEARCHES)),
    ):
        if value not in known:
            raise UsageError(f"{name}: expected one of {', '.join(k for k in known if k)}, got {value!r}")
    for name, number, low, high in (
        ("--compute-ms", options.compute_ms, 1e-6, 600_000.0),
        ("--slowdown", options.slowdown, 0.001, 10_000.0),
        ("--seconds", options.seconds, 1e-3, LONGEST_S),
    ):
        if number is not None and not (math.isfinite(number) and low <= number <= high):
            raise UsageError(f"{name}: expected {low:g} to {high:g}, got {number:g}")
    if options.microphone and (audio is not None or options.replay is not None or options.search is not None):
        raise UsageError("--mic listens to the microphone: leave out the audio file, --replay and --search")
    if options.replay is not None and (options.search is not None or options.clock == "wall"):
        raise UsageError("--replay runs in the virtual clock, without --search")
    if options.search is not None and options.clock == "wall":
        raise UsageError("--search needs the virtual clock")
    if options.calibration is not None and options.compute_ms is not None:
        raise UsageError("--calibration and --compute-ms both say how long a call takes; give one")


def _samples(name: str, value_ms: float | None, rate_hz: int) -> int | None:
    if value_ms is None:
        return None
    if not (math.isfinite(value_ms) and 0.0 <= value_ms <= LONGEST_RING_MS):
        raise UsageError(f"{name}: expected 0 to {LONGEST_RING_MS:g} ms, got {value_ms:g}")
    return round(value_ms * rate_hz / 1000.0)


def _calibration(
    bundle: Bundle, file: str | Path | None, artefact: str | None, engine: str | None, progress: Progress
) -> Calibration:
    """The file's, or one measured now."""
    if file is not None:
        return read_calibration(file)
    from streaming.measure.calibrate import calibrate

    choice = choose(bundle, artefact, engine)
    found, _ = calibrate([bundle], [choice.artefact.id], choice.engine, seconds=CALIBRATION_S, progress=progress)
    return found


def parity_session(
    bundle: Bundle, audio: Path | None, trials: int, seed: int, artefact: str | None, engine: str | None
) -> PartitionReport:
    """What `hearpack simulate --parity` does.

    Raises:
        UsageError: no audio file, or an absurd number of trials.
        AudioError, BundleError, ArtefactError: as their names say.
    """
    if audio is None:
        raise UsageError("--parity: expected an audio file")
    if not 1 <= trials <= 10_000:
        raise UsageError(f"--parity: expected 1 to 10000 trials, got {trials}")
    refuse_separator(bundle.manifest, "simulate --parity")
    clip = read_wav(audio)
    runtime = open_runtime(bundle, choose(bundle, artefact, engine))
    try:
        return check_partitions(bundle.manifest, runtime, clip.mono(), clip.sample_rate_hz, trials, seed)
    finally:
        runtime.close()


def fit_session(
    trace_file: Path,
    bundle: Bundle,
    output: Path | None,
    calibration_file: str | Path | None,
    like: str,
    engine: str | None,
    progress: Progress = silent,
) -> FittedProfile:
    """What `hearpack fit-device` does.

    Raises:
        UsageError: a trace, a bundle or a calibration that does not fit.
        OutputError: the profile cannot be written.
    """
    trace = read_trace(trace_file)
    if output is not None and output.suffix != ".toml":
        raise UsageError(f"--output: a profile is a .toml file, got {output.name!r}")
    assumed = load_profile(like)
    check_fits(trace, bundle)
    calibration = _calibration(bundle, calibration_file, trace.bundle.artefact_id, engine, progress)
    name = "device" if output is None else output.stem
    fitted = fit_device(trace, bundle, calibration, name, assumed, engine)
    if output is not None:
        with atomic_file(output) as file:
            file.write(fitted.toml.encode())
    return fitted


def _silence(seconds: float) -> Sound:
    if not 0.0 < seconds <= LONGEST_S:
        raise AudioError(f"replay: a trace of {seconds:g} s cannot be replayed")
    rate = 48_000
    return clip_sound(np.zeros(rate, np.float32), rate, "silence", seconds)
