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
from models.custom.causal.convert import ExternalStateGraph, noise, record
from models.custom.causal.walk import Timing, where
from models.custom.entry import CustomEntry

# Largest difference, relative to the value's largest size, in float64 and where a net insists on float32. A weight that
# is computed at every call (weight norm) is frozen in float32, which alone makes 1e-8.
LIMIT, LIMIT_FLOAT32 = 1e-6, 1e-3
_LEAST_HOPS, _MOST_HOPS = 16, 256


def prove(entry: CustomEntry, stream: ExternalStateGraph) -> float:
    """Compare every value of a stream with the offline net's.

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
    audio = noise(calls * hops * hop, 3)
    audio = audio * torch.linspace(0.3, 1.7, audio.shape[1])  # its level changes: a running mean is not a constant one
    try:
        offline, graph = (copy.deepcopy(module).double() for module in (stream.offline, stream.graph))
        limit, dtype = LIMIT, torch.float64
        whole, parts = _run(offline, graph, audio.double(), hop * hops, stream)
    except (RuntimeError, ConversionError):
        offline, graph, limit, dtype = stream.offline, stream.graph, LIMIT_FLOAT32, torch.float32
        whole, parts = _run(offline, graph, audio, hop * hops, stream)
    worst = 0.0
    by_name = {n.name: n for n in offline.graph.nodes}
    for node, (name, timing) in stream.pairs.items():
        truth = whole[by_name[node.name]].narrow(timing.axis, timing.context, timing.rate * calls * hops)
        came = torch.cat([_newest(part[name], timing, hops) for part in parts], timing.axis)
        error = float((came - truth).abs().max() / truth.abs().max().clamp(min=1e-6))
        if not error <= limit:
            raise ConversionError(_why(stream, offline, by_name[node.name], timing, audio.to(dtype), whole, error))
        worst = max(worst, error)
    return worst


def _newest(value: Tensor, timing: Timing, hops: int) -> Tensor:
    """The frames of a call without those in front of them."""
    frames = timing.rate * hops
    return value.narrow(timing.axis, value.shape[timing.axis] - frames, frames)


def _proof_hops(stream: ExternalStateGraph) -> int:
    """Long enough that everything kept in front of the frames has been filled by real ones."""
    kept = sum(timing.context / timing.rate for _, timing in stream.pairs.values())
    least = min(timing.rate for _, timing in stream.pairs.values())
    kept += sum(max(s.shape) / least for s in stream.states if s.name.endswith("_past"))
    return int(min(max(_LEAST_HOPS, 2 * kept + 4), _MOST_HOPS))


@contextmanager
def _computing_in(dtype: torch.dtype) -> Iterator[None]:
    """What forward makes of nothing (torch.zeros, torch.arange) is of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _run(
    offline: fx.GraphModule, graph: fx.GraphModule, audio: Tensor, block: int, stream: ExternalStateGraph
) -> tuple[dict[fx.Node, Any], list[dict[str, Tensor]]]:
    states = [torch.zeros(s.shape, dtype=audio.dtype) for s in stream.states]
    parts: list[dict[str, Tensor]] = []
    with _computing_in(audio.dtype):
        whole = record(offline, audio)
        for part in torch.split(audio, block, 1):
            values = record(graph, part, *states)
            parts.append({node.name: value for node, value in values.items()})
            output = next(n for n in values if n.op == "output")
            states = list(values[output][1:])
    return whole, parts


def _why(
    stream: ExternalStateGraph,
    offline: fx.GraphModule,
    node: fx.Node,
    timing: Timing,
    audio: Tensor,
    whole: dict[fx.Node, Any],
    error: float,
) -> str:
    calls = audio.shape[1] // (stream.pairs[next(iter(stream.pairs))][1].rate)
    half = calls // 2
    with _computing_in(audio.dtype):
        part = record(offline, audio[:, : half * (audio.shape[1] // calls)])[node]
    frames = timing.context + timing.rate * half
    one, two = (value.narrow(timing.axis, 0, min(frames, value.shape[timing.axis])) for value in (whole[node], part))
    ahead = one.shape != two.shape or float((one - two).abs().max()) > 1e-6 * float(one.abs().max().clamp(min=1e-6))
    reason = (
        "its value at a frame depends on later audio (a norm, softmax or mean over time, or padding on both sides)"
        if ahead
        else "it depends on more of the past than a stream carries for it (a recurrence or a position of its own?)"
    )
    return f"{where(offline, node)}: {reason}; the stream differs from the offline net by {error:.2g} of its size"
