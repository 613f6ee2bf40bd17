"""Proof that a stream says what the offline net says: every value, call by call, in float64.

The first value that differs names the layer to blame. Half the recording tells why: what changes when later audio is
taken away looks ahead; what does not needs more of the past than its state holds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

from models.common.errors import ConversionError
from models.custom.causal.convert import ExternalStateGraph
from models.custom.causal.loops import outline
from models.custom.causal.offline import SHORT_HOPS, noise, record, recording
from models.custom.causal.walk import Timing
from models.custom.entry import CustomEntry

# Largest difference, relative to the value's largest size, in float64.
LIMIT = 1e-6
_LEAST_HOPS, _MOST_HOPS = 16, 256


def prove(entry: CustomEntry, stream: ExternalStateGraph) -> float:
    """Compare every value of a stream with the offline net's, and what is exported with the stream.

    Args:
        entry: the net.
        stream: what `to_external_state` made of it.

    Returns:
        the largest relative difference.

    Raises:
        ConversionError: naming the first layer whose stream is another, and why.
    """
    hop, hops = entry.geometry.hop_samples, stream.hops
    calls = math.ceil(_proof_hops(stream) / hops)
    offline = recording(entry, calls * hops)
    audio = noise(calls * hops * hop, 3, entry.geometry.lead)
    audio = audio * torch.linspace(0.3, 1.7, audio.shape[-1])  # its level changes: a running mean is not a constant one
    whole = _double(offline.module, audio)
    parts = _run(stream, audio.double(), hop * hops)
    worst = 0.0
    values, places = list(whole.values()), outline(offline).places
    for place, (name, timing) in stream.pairs.items():
        frames = timing.known(calls * hops)
        truth = values[places[place]].narrow(timing.axis, timing.context, frames)
        came = torch.cat([_newest(part[name], timing, hops) for part in parts], timing.axis)
        came = came.narrow(timing.axis, timing.delay, frames)
        if not truth.is_floating_point():
            truth, came = truth.double(), came.double()
        error = float((came - truth).abs().max() / truth.abs().max().clamp(min=1e-6))
        if not error <= LIMIT:
            raise ConversionError(_why(entry, place, timing, audio, truth, error))
        worst = max(worst, error)
    _prove_last(stream, audio[..., : hop * hops], parts[-1])
    return worst


def _double(module: fx.GraphModule, *inputs: Tensor) -> dict[fx.Node, Any]:
    with _computing_in(torch.float64):
        return record(copy.deepcopy(module).double(), *(value.double() for value in inputs))


def _prove_last(stream: ExternalStateGraph, audio: Tensor, last: dict[str, Tensor]) -> None:
    """The last lowerings change nothing: both graphs, on the states in front of a call."""
    states = [last[s.name] for s in stream.states]
    one, two = (_outputs(_double(module, audio, *states)) for module in (stream.stream, stream.graph))
    more = len(one) - len(stream.states) - 1
    names = ["the output", *["an output"] * more, *(s.out_name for s in stream.states)]
    for name, a, b in zip(names, one, two, strict=True):
        error = float((a - b).abs().max() / a.abs().max().clamp(min=1e-6))
        if not error <= LIMIT:
            raise ConversionError(
                f"{name}: a lowering of hearpack's changed it by {error:.2g} of its size; report this net"
            )


def _outputs(values: dict[fx.Node, Any]) -> list[Tensor]:
    return list(next(value for node, value in values.items() if node.op == "output"))


def _newest(value: Tensor, timing: Timing, hops: int) -> Tensor:
    """The frames of a call without those in front of them."""
    frames = timing.rate * hops
    return value.narrow(timing.axis, value.shape[timing.axis] - frames, frames)


def _proof_hops(stream: ExternalStateGraph) -> int:
    """Long enough that everything kept in front of the frames has been filled by real ones."""
    kept = sum((timing.context + timing.delay) / timing.rate for _, timing in stream.pairs.values())
    least = min(timing.rate for _, timing in stream.pairs.values())
    kept += sum(max(s.shape) / least for s in stream.states if s.name.endswith("_past"))
    return 6 * math.ceil(min(max(_LEAST_HOPS, 2 * kept + 4), _MOST_HOPS) / 6)  # one recording for calls of 1, 2, 3 hops


@contextmanager
def _computing_in(dtype: torch.dtype) -> Iterator[None]:
    """What forward makes of nothing (torch.zeros, torch.arange) is of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _run(stream: ExternalStateGraph, audio: Tensor, block: int) -> list[dict[str, Tensor]]:
    graph = copy.deepcopy(stream.stream).double()
    states = [torch.zeros(s.shape, dtype=torch.float64) for s in stream.states]
    parts: list[dict[str, Tensor]] = []
    with _computing_in(torch.float64):
        for part in torch.split(audio, block, -1):
            values = record(graph, part, *states)
            parts.append({node.name: value for node, value in values.items()})
            results = _outputs(values)
            states = results[len(results) - len(states) :]
    return parts


def _why(
    entry: CustomEntry,
    place: int,
    timing: Timing,
    audio: Tensor,
    truth: Tensor,
    error: float,
) -> str:
    hop = entry.geometry.hop_samples
    half = max(SHORT_HOPS, audio.shape[-1] // hop // 2)
    shorter = recording(entry, half)
    known = outline(shorter)
    part = list(_double(shorter.module, audio[..., : half * hop]).values())[known.places[place]]
    part = part.narrow(timing.axis, timing.context, timing.known(half))
    one = truth.narrow(timing.axis, 0, timing.known(half))
    ahead = float((one - part).abs().max()) > 1e-6 * float(one.abs().max().clamp(min=1e-6))
    reason = (
        "its value at a frame depends on later audio (a norm, softmax or mean over time, or padding on both sides)"
        if ahead
        else "it depends on more of the past than a stream carries for it (a recurrence or a position of its own?)"
    )
    origin = known.nodes[place].meta.get("origin", "the net")
    return f"{origin}: {reason}; the stream differs from the offline net by {error:.2g} of its size"
