"""Device profiles: what a phone's audio system and processor do to a stream. Each figure with its source.

A profile is a TOML file, schema "hearpack-device/1" (streaming/devices/*.toml, or the user's own):

    schema = "hearpack-device/1"
    title = "iPhone, AVAudioSinkNode, built-in microphone"
    [capture]
    rate_hz = { value = 48000, source = "AVAudioSession documentation" }

Every figure is a table of `value` and `source`; a source names where the figure was read, or begins with the word
"assumption". What is left out has the default below, which is an assumption too and is shown as one. An unknown key or
an absurd figure is refused: a typing error must not become a result.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.common.errors import UsageError
from models.common.files import read_text
from models.common.parsing import parse_toml
from streaming.core.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from streaming.runs.record import ProfileFigure, ProfileRecord

SCHEMA = "hearpack-device/1"
ASSUMED = "assumption: default"
LARGEST_BLOCK_FRAMES = 96_000
LONGEST_S = 86_400.0
_FOLDER = Path(__file__).with_name("profiles")
_CHANGE = "{ at_s, rate_hz, gap_ms } and, where it changes too, block_frames"


@dataclass(frozen=True)
class RateChange:
    """The input's rate changes in mid-stream, as when a headset connects.

    Attributes:
        at_s: last moment heard at the old rate.
        rate_hz: the new rate.
        gap_ms: audio lost from then on.
        block_frames: fewest and most frames of a callback at the new rate; None: as many as before.
    """

    at_s: float
    rate_hz: int
    gap_ms: float
    block_frames: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Limits:
    """A figure's place in the file and what it may be."""

    section: str
    low: float
    high: float
    whole: bool = False
    shape: str = "number"  # number, pair, curve, changes


_BLOCK = _Limits("capture", 1, LARGEST_BLOCK_FRAMES, whole=True, shape="pair")


def _figure(default: Any, section: str, low: float, high: float, whole: bool = False, shape: str = "number") -> Any:
    limits = _Limits(section, low, high, whole, shape)
    if isinstance(default, int | float | tuple):
        return field(default=default, metadata={"limits": limits})
    return field(metadata={"limits": limits})


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """A simulated device. Units are in the names; see docs/simulator.md.

    Attributes:
        name, title: file's name without .toml, and a line for people.
        rate_hz: native capture rate.
        block_frames: fewest and most frames of a callback; equal for a fixed burst, otherwise drawn evenly.
        scheduling_delay_us: mean time from a block's last sample (input latency included) to our callback.
        jitter_us: standard deviation of a normal whose size is added to that.
        late_per_minute, late_ms: how often a callback comes late by that much; those behind it come in a burst.
        dropouts_per_hour, dropout_ms: how often that much audio never reaches a callback.
        input_latency_ms: from the air to the end of the driver: input route.
        cold_input_ms: until the first block comes; audio before it is lost.
        rate_changes: changes of the capture rate.
        output_rate_hz, output_block_frames, output_latency_ms: playout: rate, frames a callback, output route.
        output_clock_ppm: how much faster the output's clock runs than the input's.
        slowdown: time of a call here, times this, is its time there (both paced).
        throttle: points (seconds, factor), linear between them and constant outside; times the time of a call.
        paced_penalty: what a paced call takes of a back-to-back one; used where only the latter was measured.
        wakeup_us: from a block's arrival to the inference thread's start.
        sources: figure's name -> source.
    """

    name: str
    title: str
    rate_hz: int = _figure(None, "capture", LOWEST_RATE_HZ, HIGHEST_RATE_HZ, whole=True)
    block_frames: tuple[int, int] = _figure(None, "capture", 1, LARGEST_BLOCK_FRAMES, whole=True, shape="pair")
    scheduling_delay_us: float = _figure(200.0, "capture", 0, 1e6)
    jitter_us: float = _figure(0.0, "capture", 0, 1e6)
    late_per_minute: float = _figure(0.0, "capture", 0, 600)
    late_ms: float = _figure(0.0, "capture", 0, 10_000)
    dropouts_per_hour: float = _figure(0.0, "capture", 0, 36_000)
    dropout_ms: float = _figure(0.0, "capture", 0, 10_000)
    input_latency_ms: float = _figure(5.0, "capture", 0, 2_000)
    cold_input_ms: float = _figure(0.0, "capture", 0, 10_000)
    rate_changes: tuple[RateChange, ...] = _figure((), "capture", 0, 1e6, shape="changes")
    output_rate_hz: int = _figure(48_000, "playout", LOWEST_RATE_HZ, HIGHEST_RATE_HZ, whole=True)
    output_block_frames: int = _figure(256, "playout", 1, LARGEST_BLOCK_FRAMES, whole=True)
    output_latency_ms: float = _figure(10.0, "playout", 0, 2_000)
    output_clock_ppm: float = _figure(0.0, "playout", -500, 500)
    slowdown: float = _figure(None, "compute", 0.05, 200)
    throttle: tuple[tuple[float, float], ...] = _figure(((0.0, 1.0),), "compute", 0, 1e6, shape="curve")
    paced_penalty: float = _figure(2.0, "compute", 0.2, 50)
    wakeup_us: float = _figure(50.0, "compute", 0, 1e6)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def block_ns(self) -> int:
        """Time between two callbacks, at most."""
        return self.block_frames[1] * 1_000_000_000 // self.rate_hz

    def record(self) -> ProfileRecord:
        """Every figure with its source, for a report."""
        figures = {
            name: ProfileFigure(_plain(getattr(self, name)), self.sources.get(name, ASSUMED))
            for name in figure_limits()
        }
        return ProfileRecord(self.name, self.title, figures)

    def throttle_at(self, time_s: float) -> float:
        """The throttling factor at a time."""
        points = self.throttle
        if time_s <= points[0][0]:
            return points[0][1]
        for (t0, f0), (t1, f1) in itertools.pairwise(points):
            if time_s < t1:
                return f0 + (f1 - f0) * (time_s - t0) / (t1 - t0)
        return points[-1][1]


def figure_limits() -> dict[str, _Limits]:
    """Every figure of a profile."""
    return {f.name: f.metadata["limits"] for f in dataclasses.fields(DeviceProfile) if "limits" in f.metadata}


def profile_names() -> tuple[str, ...]:
    """The profiles that come with hearpack."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.toml")))


def devices(*names: str | Path) -> tuple[DeviceProfile, ...]:
    """Profiles that `simulate` and `advise` can be given; `record()` of one has every figure with its source.

    Args:
        names: of profiles, or .toml files; all that come with hearpack when none is given.

    Returns:
        a profile for each.

    Raises:
        UsageError: as `load_profile`.
    """
    return tuple(map(load_profile, names or profile_names()))


def load_profile(name_or_path: str | Path) -> DeviceProfile:
    """A profile by name, or of a .toml file.

    Raises:
        UsageError: no such profile, not TOML, an unknown key, a missing source, or an absurd figure.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        try:
            return parse_profile(read_text(path), path.stem, str(path))
        except FileNotFoundError as exc:
            raise UsageError(f"{path}: no such profile file; see: hearpack devices") from exc
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"{path}: cannot be read as UTF-8 text: {exc}") from exc
    names = profile_names()
    if str(name_or_path) not in names:
        near = difflib.get_close_matches(str(name_or_path), names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown device {str(name_or_path)!r}; {hint}known: {', '.join(names)}, or a .toml file")
    file = _FOLDER / f"{name_or_path}.toml"
    return parse_profile(file.read_text(encoding="utf-8"), str(name_or_path), f"device {name_or_path}")


def parse_profile(text: str, name: str, origin: str) -> DeviceProfile:
    """A profile from TOML text.

    Raises:
        UsageError: see `load_profile`.
    """
    try:
        data = parse_toml(text)
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"{origin}: not TOML: {exc}") from exc
    if data.get("schema") != SCHEMA:
        raise UsageError(f"{origin}: expected a profile with schema {SCHEMA!r}, got {data.get('schema')!r}")
    limits = figure_limits()
    sections = sorted({limit.section for limit in limits.values()})
    _no_unknown(data, ["schema", "title", *sections], origin)
    if not isinstance(data.get("title"), str) or not data["title"]:
        raise UsageError(f'{origin}: expected title = "...", got {data.get("title")!r}')
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for section in sections:
        table = data.get(section, {})
        if not isinstance(table, dict):
            raise UsageError(f"{origin}: [{section}] must be a table of figures")
        _no_unknown(table, [n for n, limit in limits.items() if limit.section == section], f"{origin}: [{section}]")
        for key, entry in table.items():
            where = f"{origin}: {section}.{key}"
            values[key], sources[key] = _entry(entry, limits[key], where)
    for required in ("rate_hz", "block_frames", "slowdown"):
        if required not in values:
            raise UsageError(f"{origin}: {limits[required].section}.{required} is missing; every profile must have it")
    return DeviceProfile(name=name, title=data["title"], sources=sources, **values)


def _no_unknown(table: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(f"{where}: unknown key {key!r}; {hint}known: {', '.join(known)}")


def _entry(entry: Any, limits: _Limits, where: str) -> tuple[Any, str]:
    if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
        raise UsageError(f'{where}: expected {{ value = ..., source = "..." }}, got {entry!r}')
    source = entry["source"]
    if not isinstance(source, str) or len(source.strip()) < 3:
        raise UsageError(f"{where}: source must say where the figure is from, or begin with assumption; got {source!r}")
    value = entry["value"]
    if limits.shape == "pair":
        return _pair(value, limits, where), source
    if limits.shape == "curve":
        return _curve(value, where), source
    if limits.shape == "changes":
        return _changes(value, where), source
    return _number(value, limits, where), source


def _number(value: Any, limits: _Limits, where: str) -> float:
    kind = "a whole number" if limits.whole else "a number"
    right = isinstance(value, int) if limits.whole else isinstance(value, int | float)
    if not right or isinstance(value, bool) or not math.isfinite(value) or not limits.low <= value <= limits.high:
        raise UsageError(f"{where}: expected {kind} from {limits.low:g} to {limits.high:g}, got {value!r}")
    number: float = value if limits.whole else float(value)
    return number


def _pair(value: Any, limits: _Limits, where: str) -> tuple[int, int]:
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) != 2 or _number(pair[0], limits, where) > _number(pair[1], limits, where):
        raise UsageError(f"{where}: expected one figure, or [fewest, most], got {value!r}")
    return (pair[0], pair[1])


def _curve(value: Any, where: str) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, list) or not value or not all(isinstance(p, list) and len(p) == 2 for p in value):
        raise UsageError(f"{where}: expected [[seconds, factor], ...], got {value!r}")
    time, factor = _Limits("", 0, 1e6), _Limits("", 0.2, 20)
    points = tuple((_number(t, time, where), _number(f, factor, where)) for t, f in value)
    if any(b[0] <= a[0] for a, b in itertools.pairwise(points)):
        raise UsageError(f"{where}: the seconds of a curve must rise, got {[p[0] for p in points]}")
    return points


def _changes(value: Any, where: str) -> tuple[RateChange, ...]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: expected a list of {_CHANGE}, got {value!r}")
    changes = []
    for item in value:
        if not isinstance(item, dict) or set(item) - {"block_frames"} != {"at_s", "rate_hz", "gap_ms"}:
            raise UsageError(f"{where}: expected {_CHANGE}, got {item!r}")
        rate = _number(item["rate_hz"], _Limits("", LOWEST_RATE_HZ, HIGHEST_RATE_HZ, whole=True), where)
        at_s = _number(item["at_s"], _Limits("", 0.1, 1e6), where)
        gap_ms = _number(item["gap_ms"], _Limits("", 0, 10_000), where)
        block = None if "block_frames" not in item else _pair(item["block_frames"], _BLOCK, where)
        changes.append(RateChange(at_s, int(rate), gap_ms, block))
    if any(b.at_s <= a.at_s for a, b in itertools.pairwise(changes)):
        raise UsageError(f"{where}: rate changes must be in order of time")
    return tuple(changes)


def _plain(value: Any) -> Any:
    """Tuples and dataclasses as JSON's own types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value
