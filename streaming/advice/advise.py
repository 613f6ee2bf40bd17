"""Which buffer? Delay, load and misses of every bundle and artefact given, on every device, and advice.

Modelled throughout: compute times measured on this machine, times a device profile's factors, in runs of the virtual
clock without the net (a probe takes its place, its times stay). Another buffer is another bundle
(`hearpack export NAME --hops 1,4,16`).

Of the bundles that ran clean with the 99th percentile of a call below `MARGIN` of a hop, the one with the least delay
is recommended for a device; within `ALIKE_MS`, the one with the least load. Clean: no late call, and nothing dropped or
played dry that this device would not drop or play dry with a net that takes no time. Where nothing ran clean, nothing
is recommended.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter

from models.common.documents import Count, DocumentKind, Milliseconds, Share, Text
from models.common.errors import UsageError
from models.common.files import save_text
from models.common.printable import counted
from models.common.progress import Progress, silent
from models.common.version import __version__
from runtimes.bundle import Bundle
from runtimes.engines import choose
from streaming.measure.calibrate import calibrate
from streaming.measure.calibration import Calibration, read_calibration
from streaming.runs.record import RunRecord
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.device.profile import DeviceProfile, load_profile, profile_names
from streaming.simulator.run import run_scenario
from streaming.simulator.scenario import Scenario, Settings, Sound, clip_sound

SCHEMA = "hearpack-advice/1"
SECONDS = 30.0
CALIBRATION_S = 5.0
MARGIN = 0.7
ALIKE_MS = 1.0
_TONE_S = 1.0
MOST_ROWS = 1_000


@dataclass(frozen=True)
class Candidate:
    """One artefact on one device. All modelled.

    Attributes:
        device, device_title: the profile.
        bundle, artefact, buffer_ms: what ran, and how much sound a call takes (a windowed net: the hop).
        load: mean time of a call / its hop: the share of a core.
        p99_of_hop: 99th percentile of a call / its hop.
        delay_p50_ms, delay_p95_ms: microphone to ear (enhancer), or to the scores' window (classifier).
        calls, misses, dropped, underruns: late calls, samples dropped, playout reads run dry.
        own_dropped, own_underruns: what the device drops and plays dry even with a net that takes no time (a route
            that changes in mid-stream, callbacks that come late): no choice of buffer can fix that.
        ring_ms: most that the capture ring held.
    """

    device: Text
    device_title: Text
    bundle: Text
    artefact: Text
    buffer_ms: Milliseconds
    load: Share
    p99_of_hop: Share
    delay_p50_ms: Milliseconds
    delay_p95_ms: Milliseconds
    calls: Count
    misses: Count
    dropped: Count
    underruns: Count
    own_dropped: Count
    own_underruns: Count
    ring_ms: Milliseconds

    @property
    def clean(self) -> bool:
        """Nothing went wrong that the net had a part in."""
        return not self.misses and self.dropped <= self.own_dropped and self.underruns <= self.own_underruns

    @property
    def safe(self) -> bool:
        """Clean, with time to spare."""
        return self.clean and self.p99_of_hop <= MARGIN

    @property
    def name(self) -> str:
        return f"{self.bundle.removesuffix('.hearpack')} {self.artefact}"


@dataclass(frozen=True)
class DeviceAdvice:
    """What to ship for a device: index into its candidates or None, and why."""

    device: Text
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1, max_length=MOST_ROWS)]
    recommended: Count | None
    why: Text


@dataclass(frozen=True)
class Advice:
    """Advice for all devices.

    Attributes:
        machine: whose compute times were scaled.
        engine: what computed.
        seconds, seed: of each run.
        devices: by profile.
    """

    machine: Text
    engine: Text
    seconds: Share
    seed: int
    devices: Annotated[tuple[DeviceAdvice, ...], Field(min_length=1, max_length=MOST_ROWS)]

    def dump(self) -> str:
        """The text of an advice file."""
        data = {"schema": SCHEMA, "hearpack": __version__, **dataclasses.asdict(self)}
        return json.dumps(data, sort_keys=True, indent=1, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write an advice file; OutputError if it cannot be written."""
        save_text(path, self.dump())


_ADVICE = DocumentKind(
    SCHEMA,
    "advice",
    not_json="cut off or no JSON (line {line}: {message}); advise again",
    other_schema="expected advice ({expected}); make it with: hearpack advise BUNDLE... -o FILE",
    invalid="not advice: {where}: {message}; advise again",
)


def read_advice(path: str | Path) -> Advice:
    """Read what `hearpack advise -o` wrote.

    Raises:
        UsageError: not there, cut off, another file, or a recommendation of what is no candidate.
    """
    found = _ADVICE.read(Path(path), TypeAdapter(Advice).validate_python)
    for device in found.devices:
        if device.recommended is not None and device.recommended >= len(device.candidates):
            raise UsageError(f"{path}: not advice: {device.device}: recommended is no candidate's index; advise again")
    return found


def advise(
    *bundles: Bundle | str | Path,
    devices: Sequence[str] = (),
    artefacts: Sequence[str] = (),
    engine: str | None = None,
    calibration: Calibration | str | Path | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
    progress: Progress = silent,
) -> Advice:
    """Which buffer and artefact for which device: delay, load and misses, all modelled.

    Args:
        bundles: bundles or their folders, of one model in several buffers, or of several models of one task.
        devices: profiles' names or .toml files; all that come with hearpack when empty.
        artefacts: ids, of each bundle; the usual one when empty.
        engine: whose times are scaled.
        calibration: compute times of this machine, or their file; measured for `CALIBRATION_S` each when None.
        seconds: of each run.
        seed: of everything random in them.
        progress: called with (what, fraction done).

    Returns:
        every candidate's figures on every device, the recommended one, and why.

    Raises:
        UsageError: no bundle, bundles of several tasks, an unknown device, or a calibration without what is needed.
        BundleError, ArtefactError: a bundle is damaged or does not run.
    """
    opened = [Bundle.of(bundle) for bundle in bundles]
    if isinstance(calibration, str | Path):
        calibration = read_calibration(calibration)
    if not opened:
        raise UsageError("advise: expected at least one bundle")
    tasks = {b.manifest.task for b in opened}
    if len(tasks) > 1:
        raise UsageError(
            f"advise: expected bundles of one task, got {', '.join(sorted(tasks))}; ask for each by itself"
        )
    if not 1.0 <= seconds <= 3600.0:
        raise UsageError(f"--seconds: expected 1 to 3600, got {seconds:g}")
    profiles = [load_profile(name) for name in devices or profile_names()]
    if calibration is None:
        calibration, _ = calibrate(
            *opened, artefacts=artefacts, engine=engine, seconds=CALIBRATION_S, progress=progress
        )
    pairs = [(bundle, artefact) for bundle in opened for artefact in artefacts or (None,)]
    found = []
    for number, profile in enumerate(profiles):
        candidates = []
        for place, (bundle, artefact) in enumerate(pairs):
            progress("simulating devices", (number + place / len(pairs)) / len(profiles))
            candidates.append(candidate(bundle, artefact, engine, profile, calibration, seconds, seed))
        found.append(recommend(profile.name, tuple(candidates)))
    progress("simulating devices", 1.0)
    return Advice(calibration.machine, choose(opened[0], None, engine).engine, seconds, seed, tuple(found))


def candidate(
    bundle: Bundle,
    artefact: str | None,
    engine: str | None,
    profile: DeviceProfile,
    calibration: Calibration,
    seconds: float,
    seed: int,
) -> Candidate:
    """One run without the net."""
    entries = [entry for entry in calibration.entries if entry.bundle == bundle.path.name] or calibration.entries
    settings = Settings(
        seed=seed,
        calibration=dataclasses.replace(calibration, entries=entries),
        artefact=artefact,
        engine=engine,
        keep_audio=False,
        check=False,
    )
    rate = bundle.manifest.geometry.sample_rate_hz
    scenario = Scenario(bundle, _tone(rate, seconds), profile, settings).without_dsp()
    probe = ProbeRuntime(scenario.bundle.manifest)
    record = run_scenario(scenario, runtime=probe)
    own = (0, 0)
    if any(_losses(record)):
        own = _losses(run_scenario(scenario.changed(compute_ns=1), runtime=probe))
    return _candidate(record, own, 1000.0 * scenario.hop_samples / rate)


def _losses(record: RunRecord) -> tuple[int, int]:
    """Samples dropped, and playout reads run dry."""
    dry = 0 if record.playout is None else record.playout.underruns
    return record.counts.dropped + record.counts.skipped_hops, dry


def _tone(rate_hz: int, seconds: float) -> Sound:
    samples = 0.1 * np.sin(2.0 * np.pi * 440.0 / rate_hz * np.arange(round(_TONE_S * rate_hz)))
    return clip_sound(samples.astype(np.float32), rate_hz, "tone", seconds)


def _candidate(record: RunRecord, own: tuple[int, int], hop_ms: float) -> Candidate:
    if record.ended != "finished":
        raise UsageError(f"advise: {record.bundle} on {record.profile.name} ended early: {record.message}")
    times = record.compute[0].quantiles
    delay = next(entry.total for entry in record.ledger if entry.kind != "event")
    dropped, underruns = _losses(record)
    return Candidate(
        device=record.profile.name,
        device_title=record.profile.title,
        bundle=record.bundle,
        artefact=record.artefact,
        buffer_ms=hop_ms,
        load=times.mean / 1e6 / hop_ms,
        p99_of_hop=times.p99 / 1e6 / hop_ms,
        delay_p50_ms=delay.p50 / 1e6,
        delay_p95_ms=delay.p95 / 1e6,
        calls=record.counts.calls,
        misses=record.counts.misses,
        dropped=dropped,
        underruns=underruns,
        own_dropped=own[0],
        own_underruns=own[1],
        ring_ms=1000.0 * record.ring.high_water_samples / record.model_rate_hz,
    )


def recommend(device: str, candidates: tuple[Candidate, ...]) -> DeviceAdvice:
    """Choose, and say why in a sentence that has the figures."""
    safe = [c for c in candidates if c.safe]
    if not safe:
        best = min(candidates, key=lambda c: (c.misses / max(1, c.calls), c.dropped, c.underruns, c.p99_of_hop))
        return DeviceAdvice(
            device, candidates, None, f"{device}: nothing keeps up with time to spare; {_trouble(best)}."
        )
    soonest = min(c.delay_p95_ms for c in safe)
    chosen = min((c for c in safe if c.delay_p95_ms <= soonest + ALIKE_MS), key=lambda c: c.load)
    why = (
        f"{device}: {chosen.name}, a delay of {chosen.delay_p95_ms:.0f} ms (p95) at {chosen.load:.1%} of a core; the "
        f"slowest hundredth of its calls takes {chosen.p99_of_hop:.0%} of a hop"
    )
    if chosen.own_dropped or chosen.own_underruns:
        why += ". The device itself causes its losses: it loses even with a net that takes no time"
    lighter = [c for c in safe if c.load < 0.8 * chosen.load]
    if lighter:
        other = min(lighter, key=lambda c: c.delay_p95_ms)
        why += (
            f". {other.name} would load {other.load:.1%} and be {other.delay_p95_ms - chosen.delay_p95_ms:.0f} ms later"
        )
    sooner = [c for c in candidates if c.delay_p95_ms < chosen.delay_p95_ms - ALIKE_MS]
    if sooner:
        why += f". Sooner would be {_trouble(min(sooner, key=lambda c: c.delay_p95_ms))}"
    return DeviceAdvice(device, candidates, candidates.index(chosen), f"{why}.")


def _trouble(c: Candidate) -> str:
    """What is wrong with a candidate."""
    wrong = []
    if c.misses:
        wrong.append(f"{c.misses} of {counted(c.calls, 'call')} late")
    if c.dropped > c.own_dropped:
        wrong.append(f"{c.dropped} samples dropped, {c.own_dropped} with a net that takes no time")
    if c.underruns > c.own_underruns:
        wrong.append(f"playout dry {c.underruns} times, {c.own_underruns} with a net that takes no time")
    if c.p99_of_hop > MARGIN:
        wrong.append(f"p99 of a call {c.p99_of_hop:.0%} of its hop")
    return f"{c.name} ({c.delay_p95_ms:.0f} ms): {', '.join(wrong) or 'clean'}"
