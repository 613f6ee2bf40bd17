"""golden/: ten seconds that any port of the loop must reproduce, and the first check of every artefact.

golden.json (docs/bundle.md): streams, each with its input, outputs and events, and a copy of the decisions, so that
tuning thresholds in the manifest does not break an app's self-check. All samples raw little-endian float32.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from converters.bundle.reference import StreamOutput, compare, compare_extras, entry_of, original, stream
from converters.bundle.test_audio import golden_input
from converters.tolerances import limits_of
from models.common.documents import Count, DocumentKind, Text
from models.common.errors import BundleError
from models.entry import ModelEntry
from runtimes.bundle import Bundle, Manifest
from runtimes.bundle.manifest import Axis
from runtimes.engines import Choice, engines_for, open_runtime
from streaming.core.decisions import detect
from streaming.core.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, Resampler
from streaming.files.stream_file import event_fields
from streaming.metrics.parity import Check, Parity, judge

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[np.float32]
DEVICE_RATE_HZ = 48000
MOST_STREAMS = 8  # one a rate is written: the model's own, and a device's
# Ten seconds are too short to speak of drift.
LONG_STREAM_METRICS = frozenset({"drift_db"})


@dataclass(frozen=True)
class GoldenResult:
    """One artefact on one engine against the golden vectors."""

    artefact: str
    engine: str
    figures: Parity
    checks: tuple[Check, ...]


def through_resampler(samples: Array, from_hz: int, to_hz: int) -> Array:
    """A whole stream [n] or [channels, n] as the loop hears it: the resampler's lead-in and tail included."""
    if samples.ndim == 2:
        return np.stack([through_resampler(channel, from_hz, to_hz) for channel in samples])
    resampler = Resampler(from_hz, to_hz)
    return np.concatenate([resampler.process(samples), resampler.flush()])


def write_golden(folder: Path, manifest: Manifest, net: nn.Module, entry: ModelEntry | None = None) -> None:
    """Write golden/ of a bundle from the original net.

    Args:
        folder: the bundle being written; labels.txt is there already.
        manifest: its manifest.
        net: the original, offline form.
        entry: its entry, where it is not one of the catalogue.
    """
    target = folder / "golden"
    target.mkdir()
    entry = entry_of(manifest) if entry is None else entry
    own = manifest.geometry.sample_rate_hz
    names = _output_names(manifest)
    streams = []
    for rate in dict.fromkeys((own, DEVICE_RATE_HZ)):
        suffix = "" if rate == own else f"-{rate}"
        samples = golden_input(entry, rate)
        at_model = through_resampler(samples, rate, own)
        reference = original(manifest, net, at_model, entry)
        _write_raw(target / f"input{suffix}.f32", samples)
        values = reference.values if manifest.sources else reference.values[None]
        files = {name: f"{name}{suffix}.f32" for name in names}
        for file, output in zip(files.values(), values, strict=True):
            _write_raw(target / file, output)
        written: dict[str, Any] = {
            "sample_rate_hz": rate,
            "input": f"input{suffix}.f32",
            "outputs": files,
            "shape": list(values.shape[1:]),
            "events": _events(folder, manifest, reference, at_model.shape[-1]),
        }
        if reference.extras:
            written["extras"] = {name: _write_extra(target, name, suffix, v) for name, v in reference.extras.items()}
        streams.append(written)
    golden: dict[str, Any] = {"streams": streams}
    if manifest.decisions is not None:
        golden["decisions"] = manifest.decisions.model_dump(mode="json", exclude_none=True)
    text = json.dumps(golden, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    (target / "golden.json").write_text(text, encoding="utf-8")


def _output_names(manifest: Manifest) -> tuple[str, ...]:
    return manifest.sources or (manifest.outputs[0].name,)


def _write_raw(path: Path, values: Array) -> None:
    path.write_bytes(np.ascontiguousarray(values, "<f4").tobytes())


def _write_extra(target: Path, name: str, suffix: str, values: Array) -> dict[str, Any]:
    """An extra output of every call: its file and its shape, [calls, ...]."""
    _write_raw(target / f"{name}{suffix}.f32", values)
    return {"file": f"{name}{suffix}.f32", "shape": list(values.shape)}


def _read_raw(bundle: Bundle, name: object) -> Array:
    return np.frombuffer(bundle.read(f"golden/{name}"), "<f4").astype(np.float32)


def _events(folder: Path, manifest: Manifest, output: StreamOutput, samples: int) -> list[dict[str, Any]]:
    if manifest.decisions is None:
        return []
    labels = Bundle(folder, manifest).labels()
    rate = manifest.geometry.sample_rate_hz
    events = detect(manifest.decisions, labels, rate, output.ends, output.values, samples)
    return [event_fields(e) for e in events]


@dataclass(frozen=True)
class GoldenStream:
    """One stream of golden/, read back.

    Attributes:
        sample_rate_hz: rate of the input.
        samples: float32 [n] at that rate; [channels, n] of several, or for a separator.
        output: what the original gives, at the model's rate; [sources, channels, n] of a separator.
        events: what the original's scores give.
        extras: outputs beside the task's own by name, [calls, ...].
    """

    sample_rate_hz: int
    samples: Array
    output: Array
    events: tuple[dict[str, Any], ...]
    extras: dict[str, Array] = field(default_factory=dict)


class _Event(BaseModel):
    """As streaming.files.stream_file.event_fields writes it; `emitted_at_sample` is not kept."""

    label: Text
    index: Count
    onset_sample: int = Field(ge=-(2**53), le=2**53)  # negative where the hop exceeds the window
    offset_sample: Count | None
    confidence: float


class _Extra(BaseModel):
    file: str
    shape: tuple[Axis, ...] = Field(min_length=1, max_length=9)


class _Stream(BaseModel):
    sample_rate_hz: int = Field(ge=LOWEST_RATE_HZ, le=HIGHEST_RATE_HZ)
    input: str
    outputs: dict[str, str] = Field(min_length=1)
    shape: tuple[Axis, ...] = Field(min_length=1, max_length=4)
    events: tuple[_Event, ...]
    extras: dict[str, _Extra] = Field(default_factory=dict)


class _Golden(BaseModel):
    streams: tuple[_Stream, ...] = Field(min_length=1, max_length=MOST_STREAMS)


_GOLDEN = DocumentKind(
    "",
    "golden vectors",
    not_json="golden vectors cannot be read: not JSON (line {line}: {message}); export the bundle again",
    other_schema="golden vectors cannot be read: expected an object, got {schema}; export the bundle again",
    invalid="golden vectors cannot be read: {where}: {message}{more}; export the bundle again",
    error=BundleError,
)


def read_golden(bundle: Bundle) -> tuple[GoldenStream, ...]:
    """The golden streams of a bundle.

    Raises:
        BundleError: missing, not JSON, not of the form that docs/bundle.md gives, or files of another length than
            golden.json says.
    """
    folder, manifest = bundle.path / "golden", bundle.manifest
    try:
        text = bundle.read("golden/golden.json").decode("utf-8")
        golden = _GOLDEN.parse(text, str(folder), _Golden.model_validate)
        streams = []
        for item in golden.streams:
            wanted = [*item.outputs, *item.extras]
            missing = [
                n for n in (*_output_names(manifest), *(t.name for t in manifest.extra_outputs)) if n not in wanted
            ]
            if missing:
                raise ValueError(f"no output {missing[0]!r}")
            samples = _read_raw(bundle, item.input)
            files = [item.outputs[name] for name in _output_names(manifest)]
            output = np.stack([_read_raw(bundle, file).reshape(item.shape) for file in files])
            if manifest.sources or manifest.lanes > 1:
                samples = samples.reshape(manifest.lanes, -1)
            if not manifest.sources:
                output = output[0]
            extras = {
                name: _read_raw(bundle, extra.file).reshape(extra.shape)
                for name, extra in item.extras.items()
                if name in (t.name for t in manifest.extra_outputs)
            }
            if not samples.size or not output.size:
                raise ValueError("a stream without samples")
            events = tuple(event.model_dump() for event in item.events)
            streams.append(GoldenStream(item.sample_rate_hz, samples, output, events, extras))
    except (OSError, ValueError) as exc:
        raise BundleError(f"{folder}: golden vectors cannot be read ({exc}); export the bundle again") from exc
    return tuple(streams)


def check_golden(bundle: Bundle, choices: Sequence[Choice] | None = None) -> Iterator[GoldenResult]:
    """Run artefacts over the first golden stream, judged by hearpack's limits or the manifest's stricter ones.

    Args:
        bundle: the opened bundle.
        choices: artefacts and engines; every artefact on every engine of this machine when None.

    Yields:
        the figures and checks, artefact by artefact.

    Raises:
        ArtefactError: an artefact does not run at all.
    """
    golden = read_golden(bundle)[0]
    manifest = bundle.manifest
    at_model = through_resampler(golden.samples, golden.sample_rate_hz, manifest.geometry.sample_rate_hz)
    if choices is None:
        choices = [Choice(artefact, engine) for artefact in manifest.artefacts for engine in engines_for(artefact)]
    for choice in choices:
        limits = [t for t in limits_of(manifest, choice.artefact) if t.metric not in LONG_STREAM_METRICS]
        runtime = open_runtime(bundle, choice)
        try:
            candidate = stream(manifest, runtime, at_model)
        finally:
            runtime.close()
        reference = StreamOutput(golden.output, candidate.ends, golden.extras)
        figures = compare(manifest, reference, candidate)
        checks = (*judge(figures, limits), *compare_extras(choice.artefact, reference, candidate))
        yield GoldenResult(choice.artefact.id, choice.engine, figures, checks)
