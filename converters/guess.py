"""A geometry.toml for a net that has none: from what its forward takes and gives at a few lengths, and a clip's rate.

Whatever is guessed is written with its reason beside it, so that it can be read and put right. What cannot be guessed
is refused: states, features in front, several inputs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.custom import net_of, open_custom
from converters.delay import CLEAR, delay_of
from models.common.errors import ConversionError, UsageError
from models.common.files import cannot_write, write_atomic
from models.common.parsing import parse_toml
from models.custom.loading import load, parse_target
from runtimes.mil.deps import require_torch
from streaming.files.wav import read_wav

if TYPE_CHECKING:
    from torch import nn

    from models.custom.loading import Target

LENGTHS = (30_720, 46_080, 61_440)  # multiples of 160, 256, 320, 480, 512 and 1024: whole hops of most nets
_LAYOUTS = {"samples": (1, -1), "channel_samples": (1, 1, -1), "samples_channel": (1, -1, 1)}
WINDOWS_S = (1.0, 0.96, 0.975, 0.5, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0)
_SHAPES = "[1, n] to [1, labels], to [1, n], or to [1, hops, labels]"


@dataclass(frozen=True)
class _Heard:
    """What a net gives for audio in one layout: by length, the shape, and the smallest and largest value."""

    layout: str
    shapes: dict[int, tuple[int, ...]]
    low: float
    high: float


def guess_geometry(target_text: str, sample: str | Path, output: str | Path = ".") -> Path:
    """Write the geometry.toml that a net seems to have.

    Args:
        target_text: "path/net.py:build" or "package.module:build"; it is loaded and run.
        sample: a clip of what the net is to hear, at its rate.
        output: folder of the new file, NAME.geometry.toml; one that is there already is never overwritten.

    Returns:
        the file: to be read, put right, and given as `geometry`.

    Raises:
        UsageError: what cannot be guessed, or another file of that name.
        ConversionError: it is a net for streams, and with no hop that was tried it is one.
        AudioError: the clip is not usable.
    """
    target = parse_target(target_text)
    require_torch("loading a net of your own")
    if target.is_keras:
        raise UsageError(f"{target.factory}: --sample looks at torch nets; write a geometry.toml for a .keras file")
    clip = read_wav(sample)
    loaded = load(target)
    if (target.is_file and Path(target.module).with_name("geometry.toml").is_file()) or hasattr(
        loaded.module, "GEOMETRY"
    ):
        raise UsageError(f"{target.factory}: its geometry is known (geometry.toml or GEOMETRY); leave --sample out")
    net = net_of(loaded, target).eval()
    _refuse_more_inputs(net, target)
    name = re.sub(r"[^a-z0-9_-]+", "-", target.stem).lstrip("-_0123456789") or "net"
    said = [f'name = "{name}"', ""]
    said += _lines(net, target, clip.mono(), clip.sample_rate_hz, Path(sample).name, target_text)
    return _write(Path(output) / f"{name}.geometry.toml", "\n".join(said) + "\n")


def _lines(
    net: nn.Module, target: Target, audio: np.ndarray[Any, Any], rate: int, clip: str, target_text: str
) -> list[str]:
    heard = _listen(net, audio, LENGTHS)
    if heard is None:
        lengths = [round(rate * seconds) for seconds in WINDOWS_S] + [2**k for k in range(8, 18)] + [len(audio)]
        heard = next((one for n in lengths if (one := _listen(net, audio, (n,))) is not None), None)
    if heard is None:
        raise UsageError(
            f"{target.factory}: forward takes no audio of {LENGTHS[0]} samples, of 0.5 to 10 s or of 2^8 to 2^17 "
            f"samples; expected {_SHAPES}; write a geometry.toml (features are a [front_end])"
        )
    geometry = ["[geometry]", f"sample_rate_hz = {rate}  # of {clip}"]
    shapes = heard.shapes
    if len(shapes) > 1 and all(_count(shape) == n for n, shape in shapes.items()):
        return _enhancer(net, target, target_text, geometry, heard)
    shape = next(iter(shapes.values()))
    if len(set(shapes.values())) == 1 and len(shape) == 2:
        window = next(iter(shapes)) if len(shapes) == 1 else min(rate, len(audio))
        why = "the only length that was tried and taken" if len(shapes) == 1 else "any length is taken: a second"
        geometry += [f"window_samples = {window}  # {why}", f"hop_samples = {window // 2}  # half a window"]
        return [
            'task = "classifier"  # as many values whatever the length',
            "",
            *geometry,
            "",
            *_scores(heard, "window", shape),
        ]
    hop = _hop_of_scores(shapes)
    if hop:
        geometry += [f"window_samples = {hop}  # as a hop", f"hop_samples = {hop}  # samples for a frame of scores"]
        return ['task = "classifier"  # scores for every hop', "", *geometry, "", *_scores(heard, "causal", shape)]
    came = ", ".join(f"{n} samples give {list(shape)}" for n, shape in shapes.items())
    raise UsageError(f"{target.factory}: {came}; expected {_SHAPES}; write a geometry.toml")


def _refuse_more_inputs(net: nn.Module, target: Target) -> None:
    wanted = [
        p.name
        for p in inspect.signature(net.forward).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(wanted) > 1:
        raise UsageError(
            f"{target.factory}: forward takes {', '.join(wanted)}: the shapes of states cannot be guessed; write a "
            f"geometry.toml with net.form = 'step' and [[states]] (hearpack scaffold writes a beginning)"
        )


def _listen(net: nn.Module, audio: np.ndarray[Any, Any], lengths: tuple[int, ...]) -> _Heard | None:
    """The first layout in which the net takes more than one of the lengths, or the only one."""
    import torch

    for layout, shape in _LAYOUTS.items():
        shapes, low, high = {}, np.inf, -np.inf
        for count in lengths:
            signal = torch.from_numpy(np.resize(audio, count).astype(np.float32).reshape(shape))
            try:
                with torch.no_grad():
                    out = net(signal)
            except Exception:  # noqa: S112  a user's forward may raise anything: it does not take this
                continue
            out = out[0] if isinstance(out, tuple | list) and len(out) == 1 else out
            if isinstance(out, torch.Tensor) and out.dim() > 1 and out.shape[0] == 1:
                shapes[count] = tuple(out.shape)
                low, high = min(low, float(out.min())), max(high, float(out.max()))
        if len(shapes) >= min(len(lengths), 2):
            return _Heard(layout, shapes, low, high)
    return None


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _hop_of_scores(shapes: dict[int, tuple[int, ...]]) -> int:
    """Samples for a frame, where a frame's scores come last; 0 where they do not."""
    (one, first), *_, (two, second) = shapes.items()
    if len(first) != 3 or len(second) != 3 or first[2] != second[2] or second[1] == first[1]:
        return 0
    hop, rest = divmod(two - one, second[1] - first[1])
    return 0 if rest else hop


def _scores(heard: _Heard, form: str, shape: tuple[int, ...]) -> list[str]:
    inside = heard.low >= 0.0 and heard.high <= 1.0
    values = f"the clip gives {heard.low:.3g} to {heard.high:.3g}"
    activation = "none" if inside else "softmax"
    other = "" if inside else "; write sigmoid if several labels may be true at once"
    names = ", ".join(f'"{index}"' for index in range(shape[-1]))
    return [
        "[net]",
        f'form = "{form}"',
        f'layout = "{heard.layout}"  # that forward takes',
        f'activation = "{activation}"  # {values}{other}',
        "",
        "[labels]",
        f"names = [{names}]  # by number: write what they are",
    ]


def _enhancer(net: nn.Module, target: Target, target_text: str, geometry: list[str], heard: _Heard) -> list[str]:
    """The first hop with which the net is one for streams, and its delay with that."""
    rate = parse_toml("\n".join(geometry))["geometry"]["sample_rate_hz"]
    errors: list[str] = []
    for hop, window, why in _hops(net, rate):
        tables = {
            "task": "enhancer",
            "geometry": {"sample_rate_hz": rate, "window_samples": window, "hop_samples": hop},
            "net": {"form": "causal", "layout": heard.layout},
        }
        try:
            entry = open_custom(target_text, tables)
        except ConversionError as exc:
            errors.append(str(exc))
            continue
        measured = delay_of(entry)
        clear = measured.likeness >= CLEAR
        delay = measured.lag if clear else 0
        how = f"measured, correlation {measured.likeness:.2f}" if clear else "it cannot be measured: say it"
        return [
            'task = "enhancer"  # as many samples as it takes',
            "",
            *geometry,
            f"window_samples = {window}  # {why}",
            f"hop_samples = {hop}  # {why}",
            f"delay_samples = {delay}  # {how}",
            "",
            "[net]",
            'form = "causal"  # proved with this hop',
            f'layout = "{heard.layout}"  # that forward takes',
        ]
    raise ConversionError(f"{target.factory}: no hop that was tried makes it a net for streams; the first: {errors[0]}")


def _hops(net: nn.Module, rate: int) -> Iterator[tuple[int, int, str]]:
    """Hops to try, each with a window and a reason: a stride of a layer, all strides together, 10 ms."""
    from torch import nn as layers

    strided = [m for m in net.modules() if isinstance(m, layers.Conv1d | layers.ConvTranspose1d) and m.stride[0] > 1]
    found: dict[int, tuple[int, str]] = {}
    for kind in (layers.ConvTranspose1d, layers.Conv1d):
        chosen = [m for m in strided if isinstance(m, kind)]
        if chosen:
            product = int(np.prod([m.stride[0] for m in chosen]))
            window = max(product, *(m.kernel_size[0] for m in chosen)) if len(chosen) == 1 else product
            found.setdefault(product, (window, f"strides of {kind.__name__}"))
    for module in net.modules():
        for key in ("hop", "hop_length", "hop_size", "hop_samples"):
            value = getattr(module, key, None)
            if isinstance(value, int) and not isinstance(value, bool) and 1 < value <= rate:
                found.setdefault(value, (value, f"the net's {key}"))
    found.setdefault(rate // 100, (rate // 100, "10 ms: no layer has a stride"))
    yield from ((hop, window, why) for hop, (window, why) in found.items())


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = path.read_text(encoding="utf-8") if path.exists() else text
    except UnicodeDecodeError:
        known = ""
    except OSError as exc:
        raise cannot_write(exc, path, "choose another folder with --output") from exc
    if known != text:
        raise UsageError(f"{path}: is there already and says something else; give it with --geometry, or take it away")
    write_atomic(path, text)
    return path
