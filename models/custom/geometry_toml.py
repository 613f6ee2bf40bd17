"""geometry.toml: what a user says of their own net. Light.

    name = "bells"                 task = "classifier"        summary, author, licence, citation: text
    [geometry]    sample_rate_hz, window_samples, hop_samples, delay_samples = 0, channels = 1
    [net]         form = "window" | "step" | "causal", layout, activation, output, max_hops, fp32_modules
    [front_end]   kind = "log_mel" | "mfcc" | "stft_magnitude", ... (models/custom/entry.py has them all)
    [[states]]    name, shape
    [labels]      file = "labels.txt" or names = ["bell", "horn"]
    [decisions]   on_threshold, off_threshold, ... (docs/bundle.md)

A key that is not known is refused with the nearest one; what was not said is listed in `assumed`.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.common.errors import UsageError
from models.common.files import read_text
from models.common.parsing import parse_toml
from models.custom.entry import CustomEntry
from models.geometry import StateSpec, StreamGeometry, TensorSpec
from models.layers.front_end_spec import FEATURE_LAYOUTS, WAVEFORM_LAYOUTS, FrontEndSpec

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_TENSOR = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MISSING = object()
MOST_FFT = 65_536  # the DFT is a matrix in the graph: no phone takes one of this size


class _Table:
    """A table whose keys are taken out one by one; what is left at the end was not known."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise UsageError(f"{where}: expected a table, got {values!r}")
        self.left, self.where = dict(values), where
        self.known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self.left

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        self.known.append(key)
        if key not in self.left:
            if default is _MISSING:
                raise UsageError(f"{self.where}: {key} is missing; it has to be said")
            return default
        value = self.left.pop(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
            wanted = " or ".join(k.__name__ for k in kinds)
            raise UsageError(f"{self.where}: {key}: expected {wanted}, got {value!r}")
        return value

    def number(self, key: str, default: Any = _MISSING) -> Any:
        value = self.take(key, (int, float), default)
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def choice(self, key: str, valid: Sequence[str], default: Any = _MISSING) -> str:
        value: str = self.take(key, str, default)
        if value not in valid:
            raise UsageError(f"{self.where}: {key}: expected one of {', '.join(valid)}, got {value!r}")
        return value

    def end(self) -> None:
        for key in self.left:
            near = difflib.get_close_matches(key, self.known, n=1, cutoff=0.5)
            offer = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"{self.where}: unknown key {key!r}; {offer}known: {', '.join(self.known)}")


def read_toml(path: Path) -> dict[str, Any]:
    """A geometry.toml as a mapping; the file of labels it names is read in.

    Raises:
        UsageError: no such file, not TOML, or no readable file of labels.
    """
    try:
        data = parse_toml(read_text(path))
    except FileNotFoundError as exc:
        raise UsageError(f"{path}: no such file; expected a geometry.toml (hearpack scaffold NAME writes one)") from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"{path}: cannot be read as TOML: {exc}") from exc
    labels = data.get("labels")
    if isinstance(labels, Mapping) and "file" in labels:
        file = path.parent / str(labels["file"])
        try:
            names = read_text(file).splitlines()
        except (OSError, ValueError) as exc:  # ValueError: a NUL in the name, no UTF-8 in the file
            raise UsageError(f"{path}: labels.file {labels['file']!r} cannot be read: {exc}") from exc
        data["labels"] = {"names": names}
    return data


def parse(values: Mapping[str, Any], where: str, default_name: str, keras: bool = False) -> CustomEntry:
    """The entry that a geometry.toml (or a mapping of its shape) describes; its net is not loaded.

    Args:
        values: the tables.
        where: file or module, for messages.
        default_name: of the model, where the tables have none.
        keras: the net is a .keras file.

    Raises:
        UsageError: a key is missing, unknown, or of the wrong kind, or keys do not fit each other.
    """
    top = _Table(values, where)
    assumed: list[str] = []
    if "name" not in top:
        assumed.append(f"name: {default_name} (from the file)")
    name = top.take("name", str, default_name)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{where}: name: expected lower-case letters, digits, - and _, got {name!r}")
    task = top.choice("task", ("classifier", "enhancer"), "classifier")
    geometry = _geometry(top.left.pop("geometry", None), where)
    top.known += ["geometry", "net", "front_end", "states", "labels", "decisions"]
    net = _Table(top.left.pop("net", {}), f"{where}: [net]")
    forms = ("window",) if keras else ("window", "step", "causal")
    if "form" not in net and not keras:
        assumed.append("net.form: window")
    form = net.choice("form", forms, "window")
    if task == "enhancer" and form == "window":
        raise UsageError(
            f"{where}: an enhancer gives as many samples as it takes: net.form must be step or causal, got window"
        )
    front_end = None
    if "front_end" in top:
        front_end = _front_end(top.left.pop("front_end"), f"{where}: [front_end]", geometry, form, assumed)
    layouts = FEATURE_LAYOUTS if front_end else WAVEFORM_LAYOUTS
    layout = net.choice("layout", layouts, layouts[0])
    if front_end is not None and "layout" in net.known and layout != front_end.layout:
        front_end = dataclasses.replace(front_end, layout=layout)
    activation = net.choice("activation", ("none", "sigmoid", "softmax"), "none")
    fp32 = tuple(net.take("fp32_modules", list, []))
    max_hops = net.take("max_hops", int, 16 if form == "causal" and task == "enhancer" else 1)
    scores = task == "classifier"
    said = {key: top.left.pop(key, None) for key in ("labels", "decisions")}
    for key, verb in (("labels", "is"), ("decisions", "are")):
        if not scores and said[key] is not None:
            raise UsageError(f"{where}: [{key}] {verb} for classifiers, the task is {task}")
    labels = _labels(said["labels"], where) if scores else ()
    output = net.take("output", str, "scores" if scores else "enhanced")
    states = _states(top.left.pop("states", []), where, form)
    decisions = _decisions(said["decisions"], where, geometry, assumed) if scores else {}
    summary = top.take("summary", str, f"{task} of the user's own")
    author = top.take("author", str, "author not stated")
    licence, citation = top.take("licence", str, "not stated"), top.take("citation", str, "not stated")
    for key, text in (("licence", licence), ("citation", citation)):
        if text == "not stated":
            assumed.append(f"{key}: not stated")
    net.end()
    top.end()
    if scores:
        spec = TensorSpec(output, (1, len(labels)), (0.0, 1.0), "probability of each label in labels.txt")
    else:
        meaning = "the waveform after the net, delay_samples behind `audio`"
        spec = TensorSpec(output, (1, geometry.hop_samples), (-1.0, 1.0), meaning)
    return CustomEntry(
        name=name,
        task=task,  # type: ignore[arg-type]  # choice() has compared it with the literals
        summary=summary,
        factory="",
        geometry=geometry,
        buffer_kind="window" if form == "window" else "step",
        max_hops=1 if form == "window" else max_hops,
        output=spec,
        parameters_millions=0.0,
        paper=author,
        states=states,
        fp32_named=tuple(str(m) for m in fp32),
        decisions=decisions,
        form="keras" if keras else form,  # type: ignore[arg-type]
        layout=layout,
        activation=activation,  # type: ignore[arg-type]
        front_end=front_end,
        labels=labels,
        licence=licence,
        citation=citation,
        assumed=tuple(assumed),
    )


def _geometry(values: Any, where: str) -> StreamGeometry:
    if isinstance(values, StreamGeometry):
        geometry = values
    elif values is None:
        raise UsageError(f"{where}: [geometry] is missing; it has sample_rate_hz, window_samples and hop_samples")
    else:
        table = _Table(values, f"{where}: [geometry]")
        geometry = StreamGeometry(
            table.take("sample_rate_hz", int),
            table.take("channels", int, 1),
            table.take("window_samples", int),
            table.take("hop_samples", int),
            table.take("delay_samples", int, 0),
        )
        table.end()
    if geometry.channels != 1:
        raise UsageError(f"{where}: the streams of hearpack's loop are mono; geometry.channels is {geometry.channels}")
    return geometry


def _front_end(values: Any, where: str, geometry: StreamGeometry, form: str, assumed: list[str]) -> FrontEndSpec:
    if form == "step":
        raise UsageError(f"{where}: a step net keeps its own frames: give it audio, or make it causal")
    table = _Table(values, where)
    rate = geometry.sample_rate_hz
    kind = table.choice("kind", ("log_mel", "mfcc", "stft_magnitude"))
    n_fft = table.take("n_fft", int)
    log = table.choice("log", ("natural", "log10", "db", "none"), "db" if kind == "mfcc" else "natural")
    if kind == "stft_magnitude" and log != "natural":
        raise UsageError(f"{where}: stft_magnitude has no logarithm; use log_mel, or take the logarithm in the net")
    said = set(table.left)
    spec = FrontEndSpec(
        kind=kind,  # type: ignore[arg-type]
        sample_rate_hz=rate,
        n_fft=n_fft,
        window_samples=table.take("window_samples", int, n_fft),
        hop_samples=table.take("hop_samples", int),
        window=table.choice("window", ("hann", "hamming", "rectangular"), "hann"),
        pad_window=table.choice("pad_window", ("center", "end"), "center"),
        center=table.take("center", bool, False),
        power=table.take("power", int, 1 if kind == "stft_magnitude" else 2),
        bands=table.take("bands", int, 128 if kind == "mfcc" else 64),
        low_hz=table.number("low_hz", 0.0),
        high_hz=table.number("high_hz", rate / 2),
        mel_scale=table.choice("mel_scale", ("slaney", "htk"), "slaney"),
        mel_norm=table.choice("mel_norm", ("slaney", "none"), "slaney"),
        log="none" if kind == "stft_magnitude" else log,
        floor=table.number("floor", 1e-10 if log == "db" else 0.0),
        offset=table.number("offset", 0.0 if log in ("db", "none") else 1e-6),
        top_db=table.number("top_db", None),
        coefficients=table.take("coefficients", int, 20),
        mean=table.number("mean", 0.0),
        std=table.number("std", 1.0),
    )
    table.end()
    if kind != "stft_magnitude":
        keys = ("bands", "low_hz", "high_hz", "mel_scale", "mel_norm", "power", "log", "floor", "offset")
        unsaid = [f"{key} = {getattr(spec, key)}" for key in keys if key not in said and key != "log"]
        if unsaid:
            assumed.append(f"front_end: {', '.join(unsaid)}")
    _check_front_end(spec, where, form, geometry)
    return spec


def _check_front_end(spec: FrontEndSpec, where: str, form: str, geometry: StreamGeometry) -> None:
    faults = (
        (
            not 2 <= spec.n_fft <= MOST_FFT or spec.n_fft % 2 != 0,
            f"n_fft must be even, positive and at most {MOST_FFT}, got {spec.n_fft}",
        ),
        (spec.bands > MOST_FFT, f"bands must be at most {MOST_FFT}, got {spec.bands}"),
        (not 1 <= spec.window_samples <= spec.n_fft, f"window_samples must be 1 to n_fft, got {spec.window_samples}"),
        (not 1 <= spec.hop_samples <= spec.frame_samples, f"hop_samples must be 1 to a frame, got {spec.hop_samples}"),
        (spec.power not in (1, 2), f"power must be 1 or 2, got {spec.power}"),
        (spec.bands < 1 or not 0 <= spec.low_hz < spec.high_hz <= spec.sample_rate_hz / 2, "bands, low_hz < high_hz"),
        (spec.log != "none" and spec.floor <= 0 and spec.offset <= 0, "a logarithm needs a floor or an offset above 0"),
        (spec.kind == "mfcc" and not 1 <= spec.coefficients <= spec.bands, "coefficients must be 1 to bands"),
        (spec.top_db is not None and spec.log != "db", "top_db goes with log = 'db'"),
        (spec.std == 0, "std must not be 0"),
        (form == "causal" and spec.center, "center looks ahead by n_fft / 2: a causal net needs center = false"),
        (form == "causal" and spec.top_db is not None, "top_db needs the whole recording: leave it out for a stream"),
        (
            form == "causal" and geometry.hop_samples % max(1, spec.hop_samples) != 0,
            f"geometry.hop_samples must be a multiple of the front end's hop of {spec.hop_samples}",
        ),
    )
    for wrong, message in faults:
        if wrong:
            raise UsageError(f"{where}: {message}")
    if form == "window":
        spec.frames(geometry.window_samples)


def _labels(values: Any, where: str) -> tuple[str, ...]:
    if values is None:
        raise UsageError(f"{where}: a classifier needs [labels]: file = 'labels.txt', or names = ['bell', 'horn']")
    table = _Table(values, f"{where}: [labels]")
    names = table.take("names", list)
    table.known.append("file")
    table.end()
    bad = [n for n in names if not isinstance(n, str) or not n.strip() or len(n.splitlines()) != 1]
    if bad or not names or len(set(names)) != len(names):
        raise UsageError(f"{where}: labels must be different non-empty lines, got {bad[0] if bad else names!r}")
    return tuple(names)


def _states(values: Any, where: str, form: str) -> tuple[StateSpec, ...]:
    if form == "step" and not values:
        raise UsageError(f"{where}: a step net needs [[states]], each with name and shape")
    if form != "step" and values:
        raise UsageError(f"{where}: [[states]] are for net.form = 'step'; a {form} net has none of its own")
    states = []
    for index, item in enumerate(values):
        table = _Table(item, f"{where}: [[states]] {index + 1}")
        name, shape = table.take("name", str), table.take("shape", list)
        table.end()
        if not _TENSOR.fullmatch(name):
            raise UsageError(f"{where}: a state's name is letters, digits and _, got {name!r}")
        if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
            raise UsageError(f"{where}: state {name}: shape must be positive whole numbers, got {shape!r}")
        states.append(StateSpec(name, tuple(shape)))
    names = [s.name for s in states]
    if len(set(names)) != len(names):
        raise UsageError(f"{where}: two states have the same name: {', '.join(names)}")
    return tuple(states)


def _decisions(values: Any, where: str, geometry: StreamGeometry, assumed: list[str]) -> dict[str, Any]:
    table = _Table({} if values is None else values, f"{where}: [decisions]")
    decisions = {
        "window_hop_samples": table.take("window_hop_samples", int, geometry.hop_samples),
        "smoothing_windows": table.take("smoothing_windows", int, 1),
        "on_threshold": table.number("on_threshold", 0.5),
        "off_threshold": table.number("off_threshold", 0.3),
        "min_on_ms": table.number("min_on_ms", 0.0),
        "min_off_ms": table.number("min_off_ms", 0.0),
        "per_label": table.take("per_label", dict, {}),
    }
    table.end()
    if values is None:
        assumed.append(
            "decisions: on at 0.5, off at 0.3, no smoothing, no minimum duration (editable in manifest.json)"
        )
    return decisions
