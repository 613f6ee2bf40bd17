"""Attention over time to a fixed number of frames: their keys and values are the past of a stream.

Which frames is read from the mask at the longer of both recordings: a band below its diagonal, whose values depend on
the distance alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx

from models.custom.causal.walk import Timing, Walk

_NEVER = -3.0e4  # what a softmax takes for never, in half too
_LEAST = -1.0e4  # what a mask says below this is never


@dataclass(frozen=True, eq=False)
class Square:
    """A constant that grows with the recording along both of its last axes: what each frame is told of each.

    Attributes:
        long: its value for the longer recording.
    """

    long: Tensor


def square(short: Tensor, long: Tensor) -> Square | None:
    """Two lengths of a constant as one that grows along its last axes."""
    rank = long.dim()
    grows = rank >= 2 and short.dim() == rank and short.shape[:-2] == long.shape[:-2] and short.shape != long.shape
    each = all(len({*value.shape[-2:]}) == 1 for value in (short, long))
    return Square(long) if grows and each else None


def attention(walk: Walk, node: fx.Node) -> bool:
    """Inside a frame it is generic; over time it needs a mask that lets no frame see all before it."""
    query, key, value, *rest = cast("tuple[Any, ...]", node.args)
    mask = rest[0] if rest else node.kwargs.get("attn_mask")
    over_time = [
        source
        for source in (query, key, value)
        if source in walk.timings and walk.timings[source].axis == len(walk.shape(source)) - 2
    ]
    if not over_time:
        return False
    known = walk.new.get(mask) if isinstance(mask, fx.Node) else None
    band = _band(walk, node, known.long) if isinstance(known, Square) and len(over_time) == 3 else None
    if band is None:
        walk.refuse(
            node,
            "frames look at all frames so far (attention over time), which grow without end in a stream; attend to "
            "the last frames only (a mask that is a band, or unfold the keys and values)",
        )
    _banded(walk, node, (query, key, value), band)
    return True


def _band(walk: Walk, node: fx.Node, mask: Tensor) -> Tensor | None:
    """What a frame adds for those before it, from itself backwards: [.., 1 + frames]; None: it sees all of them."""
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, _NEVER)
    count = mask.shape[-1]
    seen = (mask > _LEAST).flatten(0, -3).any(0) if mask.dim() > 2 else mask > _LEAST
    if bool(seen.triu(1).any()):
        walk.refuse(node, "frames look at later frames (attention over time): mask what is above the diagonal")
    far = max(distance for distance in range(count) if bool(seen.diagonal(-distance).any()))
    if far >= count - 1:
        return None
    rows = [mask.diagonal(-distance, -2, -1) for distance in range(far + 1)]
    if any(not torch.equal(row, row[..., :1].expand(row.shape)) for row in rows):
        walk.refuse(node, "what its mask says of a frame depends on the position in the recording")
    return torch.stack([row[..., 0] for row in rows], -1).float().clamp(min=_NEVER)


def _banded(walk: Walk, node: fx.Node, sources: tuple[fx.Node, ...], band: Tensor) -> None:
    timings = [walk.timings[source] for source in sources]
    first = timings[0]
    if any(t.context or t.outer > 1 or t.rate != first.rate for t in timings):
        walk.refuse(node, "attends to frames that are padded in time; slice the surplus off first")
    delay, b = max(t.delay for t in timings), walk.builder
    query, key, value = (
        walk.delayed(node, walk.value(source), timing, delay - timing.delay)
        for source, timing in zip(sources, timings, strict=True)
    )
    far, frames = band.shape[-1] - 1, first.rate * walk.hops
    if far:
        key = walk.with_past(node, key, len(key.shape) - 2, far, "keys")
        value = walk.with_past(node, value, len(value.shape) - 2, far, "values")
    # Query i stands at key far + i.
    distance = far + torch.arange(frames)[:, None] - torch.arange(far + frames)
    told = band[..., distance.clamp(0, far)]
    mask = b.constant(torch.where((distance < 0) | (distance > far), torch.tensor(_NEVER), told))
    there = walk.valid(node, Timing(first.axis, first.rate, far, 0, 1, delay))
    before = b.op("mul", b.op("sub", there, 1.0), -_NEVER)
    mask = b.op("clamp", b.op("add", mask, before), min=_NEVER)
    scale = node.kwargs.get("scale")
    y = b.op("scaled_dot_product_attention", query, key, value, mask, 0.0, False, scale=scale)
    walk.keep(node, y, Timing(first.axis, first.rate, 0, min(t.trailing for t in timings), 1, delay))
