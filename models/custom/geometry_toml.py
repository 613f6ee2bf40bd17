"""geometry.toml: what a user says of their own net. Light.

    name = "bells"                 task = "classifier" | "enhancer" | "separator" | "embedder"
    summary, author, licence, citation: text
    [geometry]    sample_rate_hz, window_samples, hop_samples, delay_samples = 0, channels = 1
    [net]         form = "window" | "step" | "causal", layout, activation, output, outputs, max_hops, fp32_modules
    [front_end]   kind = "log_mel" | "mfcc" | "stft_magnitude", ... (models/custom/front_end_toml.py has them all)
    [[states]]    name, shape, dtype = "float32"; net.states: how forward holds them (models/custom/shapes/states.py)
    [[inputs]]    name, and file = "speaker.npy" (a constant) or kind = "audio" (models/custom/shapes/inputs.py)
    [labels]      file = "labels.txt" or names = ["bell", "horn"]
    [decisions]   on_threshold, off_threshold, ... (docs/bundle.md)

A key that is not known is refused with the nearest one; what was not said is listed in `assumed`.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from models.common.errors import UsageError
from models.common.files import read_file, read_text
from models.common.parsing import parse_toml
from models.custom.entry import CustomEntry
from models.custom.front_end_toml import front_end_of, npy, with_mel_matrix
from models.custom.shapes.inputs import said_inputs, with_values
from models.custom.shapes.outputs import said_outputs
from models.custom.shapes.states import DTYPES, ROUGH, said_structure
from models.custom.tables import Table
from models.geometry import StateSpec, StreamGeometry, Task, TensorSpec
from models.layers.front_end_spec import FEATURE_LAYOUTS, WAVEFORM_LAYOUTS

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
MOST_CHANNELS = 8
TASKS: tuple[Task, ...] = get_args(Task)
_OUTPUTS: Mapping[str, str] = {"classifier": "scores", "enhancer": "enhanced", "separator": "", "embedder": "embedding"}
_TENSOR = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_toml(path: Path) -> dict[str, Any]:
    """A geometry.toml as a mapping; the files of labels and of a mel matrix that it names are read in.

    Raises:
        UsageError: no such file, not TOML, or no readable file of these.
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
    if "front_end" in data:
        data["front_end"] = with_mel_matrix(data["front_end"], path.parent, str(path))
    if "inputs" in data:
        data["inputs"] = with_values(data["inputs"], path.parent, str(path), lambda file: npy(read_file(file)))
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
    top = Table(values, where)
    assumed: list[str] = []
    if "name" not in top:
        assumed.append(f"name: {default_name} (from the file)")
    name = top.take("name", str, default_name)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{where}: name: expected lower-case letters, digits, - and _, got {name!r}")
    task = top.choice("task", TASKS, "classifier")
    geometry = _geometry(top.left.pop("geometry", None), where)
    top.known += ["geometry", "net", "front_end", "states", "inputs", "labels", "decisions"]
    net = Table(top.left.pop("net", {}), f"{where}: [net]")
    forms = ("window",) if keras else ("window", "step", "causal")
    if "form" not in net and not keras:
        assumed.append("net.form: window")
    form = net.choice("form", forms, "window")
    _check_form(task, form, keras, where)
    if geometry.channels > 1 and (keras or "front_end" in top):
        what = "a .keras file" if keras else "a [front_end]"
        raise UsageError(f"{where}: {what} takes one channel, geometry.channels is {geometry.channels}")
    front_end = None
    if "front_end" in top:
        front_end = front_end_of(top.left.pop("front_end"), f"{where}: [front_end]", geometry, form, assumed)
    layouts = FEATURE_LAYOUTS if front_end else WAVEFORM_LAYOUTS
    layout = net.choice("layout", layouts, layouts[0])
    if front_end is not None and "layout" in net.known and layout != front_end.layout:
        front_end = dataclasses.replace(front_end, layout=layout)
    activation = net.choice("activation", ("none", "sigmoid", "softmax"), "none")
    if task == "embedder":
        activation = "unit"
    lookahead = net.choice("lookahead", ("refuse", "delay"), "refuse")
    if lookahead == "delay" and form != "causal":
        raise UsageError(f"{where}: net.lookahead is for net.form = 'causal', got form {form}")
    fp32 = tuple(net.take("fp32_modules", list, []))
    max_hops = net.take("max_hops", int, 16 if form == "causal" and task == "enhancer" else 1)
    scores, sources = task == "classifier", task == "separator"
    said = {key: top.left.pop(key, None) for key in ("labels", "decisions")}
    for key, verb in (("labels", "is"), ("decisions", "are")):
        if not scores and said[key] is not None:
            raise UsageError(f"{where}: [{key}] {verb} for classifiers, the task is {task}")
    labels = _labels(said["labels"], where) if scores else ()
    output = net.take("output", str, _OUTPUTS[task])
    outputs = said_outputs(net.take("outputs", (list, dict), None), where, output, sources)
    if keras and outputs:
        raise UsageError(f"{where}: net.outputs: a .keras net has one output here; leave it out")
    states, dtypes = _states(top.left.pop("states", []), where, form)
    structure = said_structure(net.take("states", list, None), [s.name for s in states], where)
    for state, kind in dtypes:
        if kind in ROUGH:
            assumed.append(f"states: {state} is {kind} in the net and float32 in the bundle, which rounds less")
    more = said_inputs(top.left.pop("inputs", []), where, {"audio", output, *(n for n, _ in outputs), *_names(states)})
    if keras and any(more):
        raise UsageError(f"{where}: [[inputs]]: a .keras net takes its audio alone here")
    if form == "causal" and more[1]:
        raise UsageError(
            f"{where}: [[inputs]] {more[1][0]}: a causal net takes one audio input; write the net as a step, with its "
            "states, and it takes more"
        )
    decisions = _decisions(said["decisions"], where, geometry, assumed) if scores else {}
    summary = top.take("summary", str, f"{task} of the user's own")
    author = top.take("author", str, "author not stated")
    licence, citation = top.take("licence", str, "not stated"), top.take("citation", str, "not stated")
    for key, text in (("licence", licence), ("citation", citation)):
        if text == "not stated":
            assumed.append(f"{key}: not stated")
    net.end()
    top.end()
    names = tuple(name for name, _ in outputs if name)
    return CustomEntry(
        name=name,
        task=task,  # type: ignore[arg-type]  # choice() has compared it with the literals
        summary=summary,
        factory="",
        geometry=geometry,
        buffer_kind="window" if form == "window" else "step",
        max_hops=1 if form == "window" else max_hops,
        output=_output(task, output, geometry, len(labels)),
        sources=names if sources else (),
        outputs_said=outputs,
        state_structure=structure,
        state_dtypes=dtypes,
        constants=more[0],
        far_inputs=more[1],
        parameters_millions=0.0,
        paper=author,
        states=states,
        fp32_named=tuple(str(m) for m in fp32),
        decisions=decisions,
        form="keras" if keras else form,  # type: ignore[arg-type]
        layout=layout,
        lookahead=lookahead,  # type: ignore[arg-type]
        activation=activation,  # type: ignore[arg-type]
        front_end=front_end,
        labels=labels,
        licence=licence,
        citation=citation,
        assumed=tuple(assumed),
    )


def _names(states: tuple[StateSpec, ...]) -> tuple[str, ...]:
    return tuple(name for state in states for name in (state.name, state.out_name))


def _check_form(task: str, form: str, keras: bool, where: str) -> None:
    """Raise UsageError where a task has no such form."""
    who = f"{'an' if task[0] in 'aeiou' else 'a'} {task}"
    if task in ("enhancer", "separator") and form == "window":
        raise UsageError(
            f"{where}: {who} gives as many samples as it takes: net.form must be step or causal, got window"
        )
    if task == "embedder" and (form != "window" or keras):
        came = "a .keras file" if keras else form
        raise UsageError(f"{where}: {who} is a torch net that takes windows: net.form must be window, got {came}")


def _output(task: str, name: str, geometry: StreamGeometry, labels: int) -> TensorSpec:
    """The task's own output for a window or a hop; of a separator, one source."""
    if task == "classifier":
        return TensorSpec(name, (1, labels), (0.0, 1.0), "probability of each label in labels.txt")
    if task == "embedder":  # how long it is, the net will tell
        return TensorSpec(name, (1, 1), (-1.0, 1.0), "a vector of unit length")
    what = "its share of the sound" if task == "separator" else "the waveform after the net"
    shape = (1, *geometry.lead, geometry.hop_samples)
    return TensorSpec(name, shape, (-1.0, 1.0), f"{what}, delay_samples behind `audio`")


def _geometry(values: Any, where: str) -> StreamGeometry:
    if isinstance(values, StreamGeometry):
        geometry = values
    elif values is None:
        raise UsageError(f"{where}: [geometry] is missing; it has sample_rate_hz, window_samples and hop_samples")
    else:
        table = Table(values, f"{where}: [geometry]")
        geometry = StreamGeometry(
            table.take("sample_rate_hz", int),
            table.take("channels", int, 1),
            table.take("window_samples", int),
            table.take("hop_samples", int),
            table.take("delay_samples", int, 0),
        )
        table.end()
    if geometry.channels > MOST_CHANNELS:
        raise UsageError(f"{where}: geometry.channels: expected 1 to {MOST_CHANNELS}, got {geometry.channels}")
    return geometry


def _labels(values: Any, where: str) -> tuple[str, ...]:
    if values is None:
        raise UsageError(f"{where}: a classifier needs [labels]: file = 'labels.txt', or names = ['bell', 'horn']")
    table = Table(values, f"{where}: [labels]")
    names = table.take("names", list)
    table.known.append("file")
    table.end()
    bad = [n for n in names if not isinstance(n, str) or not n.strip() or len(n.splitlines()) != 1]
    if bad or not names or len(set(names)) != len(names):
        raise UsageError(f"{where}: labels must be different non-empty lines, got {bad[0] if bad else names!r}")
    return tuple(names)


def _states(values: Any, where: str, form: str) -> tuple[tuple[StateSpec, ...], tuple[tuple[str, str], ...]]:
    """States, and name and type of those that are not float32 in the net."""
    if form == "step" and not values:
        raise UsageError(f"{where}: a step net needs [[states]], each with name and shape")
    if form != "step" and values:
        raise UsageError(f"{where}: [[states]] are for net.form = 'step'; a {form} net has none of its own")
    states, dtypes = [], []
    for index, item in enumerate(values):
        table = Table(item, f"{where}: [[states]] {index + 1}")
        name, shape = table.take("name", str), table.take("shape", list)
        kind = table.choice("dtype", DTYPES, "float32")
        table.end()
        if not _TENSOR.fullmatch(name):
            raise UsageError(f"{where}: a state's name is letters, digits and _, got {name!r}")
        if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
            raise UsageError(f"{where}: state {name}: shape must be positive whole numbers, got {shape!r}")
        states.append(StateSpec(name, tuple(shape)))
        dtypes += [] if kind == "float32" else [(name, kind)]
    names = [s.name for s in states]
    if len(set(names)) != len(names):
        raise UsageError(f"{where}: two states have the same name: {', '.join(names)}")
    return tuple(states), tuple(dtypes)


def _decisions(values: Any, where: str, geometry: StreamGeometry, assumed: list[str]) -> dict[str, Any]:
    table = Table({} if values is None else values, f"{where}: [decisions]")
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
