"""Several outputs, looked up in what a net gives for noise: where each is, and of which shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.common.errors import ConversionError
from models.custom.adapters import OfflineNet, fits
from models.custom.causal.offline import LONG_HOPS, SHORT_HOPS
from models.custom.entry import CustomEntry
from models.custom.forms import StepNet, WindowNet, parted
from models.custom.shapes.outputs import ExtraOutput, Pick, is_name, picked, placed


def with_outputs(entry: CustomEntry) -> CustomEntry:
    """The entry with its outputs where forward returns them.

    A net that gives one tensor, and does not run, is left as it is: whoever runs it next says what is wrong with it.

    Raises:
        ConversionError: what it returns is not what its geometry.toml says.
    """
    if entry.form == "keras":
        return entry
    few, many = (SHORT_HOPS, LONG_HOPS) if entry.form == "causal" else (1, 2)
    result = _returned(entry, few)
    if result is None:
        return entry
    who = entry.original.factory
    if not entry.outputs_said:
        if entry.task != "embedder" and _one_tensor(result):
            return entry
        picks = _guessed(entry, result)
    else:
        picks = placed(entry.outputs_said, result, who, bool(entry.sources))
    own = entry.sources or (entry.output.name,)
    picks = tuple(sorted(picks, key=lambda pick: own.index(pick.name) if pick.name in own else len(own)))
    values = [_tensor(picked(result, pick), f"{who}: output {pick.name!r}") for pick in picks]
    if entry.task == "embedder":
        entry = _embedder(entry, values[0])
    longer = _returned(entry, many) if entry.max_hops > 1 or entry.form == "causal" else None
    extras = []
    for pick, value in list(zip(picks, values, strict=True))[len(own) :]:
        other = value if longer is None else _tensor(picked(longer, pick), f"{who}: output {pick.name!r}")
        extras.append(_extra(pick.name, value, other, many - few, who))
    return dataclasses.replace(entry, picks=picks, extras=tuple(extras))


def _returned(entry: CustomEntry, hops: int) -> Any:
    """What forward returns for noise, without its states; None where it does not run."""
    generator = torch.Generator().manual_seed(0)

    def noise(shape: tuple[int, ...]) -> Tensor:
        return 0.1 * torch.randn(shape, generator=generator)

    samples = entry.geometry.window_samples if entry.buffer_kind == "window" else hops * entry.geometry.hop_samples
    audio = noise((1, *entry.geometry.lead, samples))
    far = [noise((1, samples)) for _ in entry.far_inputs]
    try:
        with torch.no_grad():
            if entry.form == "causal":
                return OfflineNet(entry).eval().returned(audio)
            if entry.form == "window":
                return WindowNet(entry).eval().returned(audio, *far)
            results = StepNet(entry, 1).eval().returned(audio, *far, *(noise(s.shape) for s in entry.states))
    except ConversionError:
        raise
    except Exception:  # a user's forward may raise anything; the checks that follow say what
        return None
    return parted(entry, results)[0]


def _one_tensor(result: Any) -> bool:
    return isinstance(result, Tensor) or (isinstance(result, tuple | list) and len(result) == 1)


def _guessed(entry: CustomEntry, result: Any) -> tuple[Pick, ...]:
    """The places of outputs that nobody named."""
    who, own = entry.original.factory, entry.output.name
    if _one_tensor(result):
        return (Pick(own),)
    if not isinstance(result, Mapping):
        count = len(result) if isinstance(result, tuple | list) else 1
        if count == 1:
            raise ConversionError(f"{who}: forward returned a {type(result).__name__}, expected a tensor")
        shapes = ", ".join(str(list(v.shape)) if isinstance(v, Tensor) else type(v).__name__ for v in result)
        raise ConversionError(
            f"{who}: forward returned {count} results ({shapes}), expected one tensor; name them in this order, "
            f"net.outputs = ['{own}', ...], '' for one to leave out"
        )
    wanted = entry.offline_shape(SHORT_HOPS) if entry.form == "causal" else entry.output.shape
    fitting = [key for key, value in result.items() if isinstance(value, Tensor) and fits(value, wanted)]
    fitting = [own] if own in result else fitting
    others = [str(key) for key in result if key not in fitting]
    if len(fitting) != 1 or entry.task == "embedder" or not all(is_name(key) and key != own for key in others):
        raise ConversionError(
            f"{who}: forward returned a dict of {', '.join(map(str, result))}; say which is which, net.outputs = "
            f"{{{own} = '{next(iter(result))}', ...}}"
        )
    return (Pick(own, fitting[0]), *(Pick(key, key) for key in others))


def _tensor(value: Any, who: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise ConversionError(f"{who} is a {type(value).__name__}, expected a tensor")
    if not value.dtype.is_floating_point:
        raise ConversionError(f"{who} is of {str(value.dtype).removeprefix('torch.')}, expected floats: add .float()")
    if not 1 <= value.dim() <= 8:
        raise ConversionError(f"{who} has {value.dim()} axes, expected 1 to 8")
    return value


def _embedder(entry: CustomEntry, value: Tensor) -> CustomEntry:
    axes = [n for n in value.shape if n > 1]
    if len(axes) != 1:
        raise ConversionError(
            f"{entry.original.factory}: an embedder gives one vector, [1, d]; forward returned {list(value.shape)}"
        )
    return dataclasses.replace(entry, output=dataclasses.replace(entry.output, shape=(1, axes[0])))


def _extra(name: str, few: Tensor, many: Tensor, hops: int, who: str) -> ExtraOutput:
    """From its values for two numbers of hops."""
    shape = list(few.shape)
    grown = [axis for axis, (a, b) in enumerate(zip(shape, many.shape, strict=False)) if a != b]
    if few.dim() != many.dim() or len(grown) > 1 or (grown and (many.shape[grown[0]] - shape[grown[0]]) % hops):
        raise ConversionError(
            f"{who}: output {name!r} is {shape} and {list(many.shape)} for {hops} hops more; expected one axis that "
            "grows by whole frames a hop, or none"
        )
    axis = grown[0] if grown else None
    if axis is not None:
        shape[axis] = (many.shape[axis] - shape[axis]) // hops
    return ExtraOutput(name, tuple(shape), axis)
