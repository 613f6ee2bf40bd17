"""From a mode to a run: devices, times and sizes are found, checked and put together."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from models.common.errors import UsageError
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle, require_mono, require_output
from runtimes.engines import choose
from streaming.runs.record import RunRecord
from streaming.runs.together import gate_of
from streaming.simulator.capacity import search_limit
from streaming.simulator.device.faults import parse_fault
from streaming.simulator.device.profile import DeviceProfile, load_profile
from streaming.simulator.device.trace_file import read_trace
from streaming.simulator.microphone import run_microphone
from streaming.simulator.modes import LONGEST_RING_MS, Microphone, Replay, Search, Simulate, check_figure
from streaming.simulator.pipeline.pipeline import NOBODY, Observer, Pipeline
from streaming.simulator.replay import replay_run
from streaming.simulator.run import run_scenario
from streaming.simulator.scenario import Scenario, Settings, calibration_of, file_sound, silence
from streaming.simulator.together import NetRun, run_pair


def simulate(
    bundle: Bundle | str | Path,
    mode: Simulate | Replay | Microphone | Search,
    *,
    output: str | Path | None = None,
    command: Sequence[str] = (),
    progress: Progress = silent,
    observer: Observer = NOBODY,
) -> RunRecord:
    """Run the loop of a phone over a sound and account for its delay.

    Args:
        bundle: a bundle, or its folder.
        mode: what the microphone hears, on which device, and how it runs.
        output: folder NAME.run to write; nothing is written without.
        command: the command line, for the record.
        progress: called with (what, fraction done).
        observer: what looks on as the run goes.

    Returns:
        the record of the run, as `streaming.runs.record.read_run` gives it.

    Raises:
        UsageError: a device, size or fault that is wrong by itself or together with others.
        AudioError, BundleError, ArtefactError, OutputError: as their names say.
    """
    bundle = Bundle.of(bundle)
    require_output(bundle.manifest, "simulate", "audio", "scores")
    require_mono(bundle.manifest, "simulate")
    profile = load_profile(mode.device)
    folder = None if output is None else Path(output)
    if folder is not None and folder.suffix != ".run":
        raise UsageError(f"--output: a run is a folder NAME.run, got {folder.name!r}")
    settings = _settings(bundle, mode, profile)
    if isinstance(mode, Microphone):
        return run_microphone(bundle, profile, settings, mode.seconds, folder, command, observer)
    if isinstance(mode, Replay):
        trace = read_trace(mode.trace)
        seconds = trace.duration_s if mode.seconds is None else mode.seconds
        sound = silence(seconds) if mode.audio is None else file_sound(Path(mode.audio), seconds)
        return replay_run(Scenario(bundle, sound, profile, settings), trace, folder, command)
    sound = file_sound(Path(mode.audio), mode.seconds)
    if settings.clock == "virtual" and mode.compute_ms is None:
        found = calibration_of(bundle, mode.calibration, mode.artefact, mode.engine, progress)
        settings = dataclasses.replace(settings, calibration=found)
    if isinstance(mode, Simulate) and mode.cold_start is not None:
        settings = dataclasses.replace(settings, first_call_ns=_cold_call_ns(bundle, mode, mode.cold_start, profile))
    scenario = Scenario(bundle, sound, profile, settings)
    figures: dict[str, float] = {}
    if isinstance(mode, Search):
        limit = search_limit(scenario, mode.what, progress)
        scenario, figures = scenario.changed(**limit.settings), limit.figures
    if observer.on_tick is None:
        observer = dataclasses.replace(observer, on_tick=_Percent(progress))
    return run_scenario(scenario, output=folder, command=command, observer=observer, search=figures)


def simulate_together(
    first: Bundle | str | Path,
    second: Bundle | str | Path,
    mode: Simulate,
    *,
    behind: bool = False,
    gate: str = "",
    second_compute_ms: float | None = None,
    output: str | Path | None = None,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> tuple[NetRun, NetRun]:
    """Run two bundles on one device: their calls take turns on one inference thread, in the virtual clock.

    Args:
        first: a bundle, or its folder.
        second: another.
        mode: what the microphone hears, and on which device; its compute_ms is the first's.
        behind: the second hears what the first, an enhancer, gives; without it, both hear the microphone.
        gate: a label of the first, a classifier: the second is called only while it is on.
        second_compute_ms: time of a call of the second on the device; given if mode.compute_ms is.
        output: NAME.run: the runs are written to NAME-1.run and NAME-2.run; nothing is written without.
        command: the command line, for the records.
        progress: called with (what, fraction done).

    Returns:
        of each bundle its record, the calls that the gate spared, and its share of the thread's time.

    Raises:
        UsageError: bundles, gate, device or figures that are wrong by themselves or together.
        AudioError, BundleError, ArtefactError, OutputError: as their names say.
    """
    bundles = Bundle.of(first), Bundle.of(second)
    for bundle in bundles:
        require_output(bundle.manifest, "simulate", "audio", "scores")
        require_mono(bundle.manifest, "simulate")
    check_figure("second_compute_ms", second_compute_ms)
    if (mode.compute_ms is None) != (second_compute_ms is None):
        raise UsageError("--compute-ms is a call of the first bundle, --second-compute-ms of the second: give both")
    one = (mode.calibration, mode.cold_start, mode.first_call_ms, mode.artefact, mode.engine)
    if mode.clock != "virtual" or any(option is not None for option in one):
        raise UsageError(
            "two bundles run as they are, in the virtual clock: leave out --clock realtime, --calibration, "
            "--coldstart, --first-call-ms, --artefact and --engine"
        )
    profile, sound = load_profile(mode.device), file_sound(Path(mode.audio), mode.seconds)
    switch = gate_of(bundles[0], gate)
    scenarios = []
    for bundle, compute_ms in zip(bundles, (mode.compute_ms, second_compute_ms), strict=True):
        settings = _settings(bundle, dataclasses.replace(mode, compute_ms=compute_ms), profile)
        if compute_ms is None:
            settings = dataclasses.replace(settings, calibration=calibration_of(bundle, None, None, None, progress))
        scenarios.append(Scenario(bundle, sound, profile, settings))
    outputs = () if output is None else tuple(_numbered(Path(output), number) for number in (1, 2))
    return run_pair(scenarios, behind=behind, gate=switch, outputs=outputs, command=command, progress=progress)


def _numbered(output: Path, number: int) -> Path:
    if output.suffix != ".run":
        raise UsageError(f"--output: runs are folders NAME-1.run and NAME-2.run of NAME.run, got {output.name!r}")
    return output.with_name(f"{output.stem}-{number}.run")


def _settings(bundle: Bundle, mode: Simulate | Replay | Microphone | Search, profile: DeviceProfile) -> Settings:
    settings = Settings(
        seed=mode.seed,
        policy=mode.policy,
        ring_samples=_samples("--ring-ms", mode.ring_ms, bundle.manifest.geometry.sample_rate_hz),
        prefill_samples=_samples("--prefill-ms", mode.prefill_ms, profile.output_rate_hz),
        faults=tuple(map(parse_fault, mode.faults)),
        artefact=mode.artefact,
        engine=mode.engine,
        keep_audio=mode.keep_audio,
    )
    if isinstance(mode, Replay):
        return settings
    settings = dataclasses.replace(settings, slowdown=mode.slowdown)
    if isinstance(mode, Microphone):
        return dataclasses.replace(settings, clock="realtime")
    compute_ns = None if mode.compute_ms is None else max(1, round(mode.compute_ms * 1e6))
    clock = mode.clock if isinstance(mode, Simulate) else "virtual"
    first = mode.first_call_ms if isinstance(mode, Simulate) else None
    first_ns = None if first is None else max(1, round(first * 1e6))
    return dataclasses.replace(settings, clock=clock, compute_ns=compute_ns, first_call_ns=first_ns)


def _cold_call_ns(bundle: Bundle, mode: Simulate, file: str | Path, profile: DeviceProfile) -> int:
    """What the first call of a cold start takes on the device.

    Raises:
        UsageError: no cold-start file, or one of another artefact or engine.
    """
    from streaming.measure.cold_start import read_cold_start  # late: few runs have one

    cold, choice = read_cold_start(file), choose(bundle, mode.artefact, mode.engine)
    theirs, ours = (cold.artefact_sha256, cold.engine), (choice.artefact.digest, choice.engine)
    if theirs != ours:
        raise UsageError(
            f"{file}: is of {cold.artefact} of {cold.bundle} ({theirs[0][:12] or 'no sha256'}) on {cold.engine}, this "
            f"run of {choice.artefact.id} of {bundle.path.name} ({ours[0][:12]}) on {choice.engine}; measure that one "
            f"(hearpack coldstart --engine {choice.engine} -o FILE)"
        )
    slowdown = profile.slowdown if mode.slowdown is None else mode.slowdown
    first_ms = statistics.median(run.calls_ms[0] for run in cold.conditions[0].runs)  # the coldest comes first
    return max(1, round(first_ms * 1e6 * slowdown))


class _Percent:
    """Progress in whole percents, each once."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._next_ns = progress, 0

    def __call__(self, _pipeline: Pipeline, now_ns: int, total_ns: int) -> None:
        if now_ns >= self._next_ns:
            percent = 100 * now_ns // max(1, total_ns)
            self._next_ns = -(-(percent + 1) * max(1, total_ns) // 100)
            self._progress("simulating", min(1.0, percent / 100.0))


def _samples(name: str, value_ms: float | None, rate_hz: int) -> int | None:
    if value_ms is None:
        return None
    if not (math.isfinite(value_ms) and 0.0 <= value_ms <= LONGEST_RING_MS):
        raise UsageError(f"{name}: expected 0 to {LONGEST_RING_MS:g} ms, got {value_ms:g}")
    return round(value_ms * rate_hz / 1000.0)
