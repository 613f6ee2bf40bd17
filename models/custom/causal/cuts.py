"""Frames cut off a value in time, or passed over."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from models.custom.causal.walk import Timing, Walk
from models.graph.builder import Value


def cut(walk: Walk, node: fx.Node, x: Value, timing: Timing, front: int, behind: int) -> bool:
    """Frames cut off at both ends of the recording."""
    from_past = max(0, behind - timing.trailing)
    context = timing.context - front - from_past
    if context < 0 and front == timing.context == 0:  # the last frames alone: those before them are there in time
        walk.keep(node, x, replace(timing, trailing=timing.trailing - behind))
        return True
    if context < 0 and walk.lookahead:
        return _run_ahead(walk, node, x, timing, front, behind)
    if context < 0:
        walk.refuse(
            node,
            f"cuts {front + from_past} frames that were not padded: the output would run ahead of its input; "
            "net.lookahead = 'delay' makes it delay",
        )
    last = timing.context + timing.rate * walk.hops - from_past
    out = walk.builder.op("slice", x, timing.axis, front, last)
    walk.keep(node, out, replace(timing, context=context, trailing=max(0, timing.trailing - behind)))
    return True


def _run_ahead(walk: Walk, node: fx.Node, x: Value, timing: Timing, front: int, behind: int) -> bool:
    """Frames cut off in front that were not padded: the same frames, and the stream is that much behind."""
    ahead = max(0, front - timing.context)
    first = min(front, timing.context)
    out = walk.builder.op("slice", x, timing.axis, first, timing.frames(walk.hops)) if first else x
    trailing = timing.trailing - behind - ahead
    walk.keep(
        node, out,
        replace(timing, context=timing.context - first, trailing=trailing, delay=timing.delay + ahead),
    )  # fmt: skip
    return True


def every(walk: Walk, node: fx.Node, x: Value, timing: Timing, front: int, jump: int) -> bool:
    """Every `jump`th frame from the `front`th, where a hop has a whole number of them."""
    after = walk.time_of(node)
    if after is None:
        return False
    if timing.rate % jump:
        walk.refuse(
            node,
            f"takes every {jump}th frame of {timing.rate} a hop; geometry.hop_samples must be a multiple of the stride",
        )
    # What is behind by a part of a stride waits for the rest of it.
    wait = -timing.delay % jump
    x = walk.delayed(node, x, timing, wait)
    # The last frames of a call are those of the recording's own grid: it begins `front` frames in.
    context = -((front - timing.context) // jump)
    frames = context + after[1] * walk.hops
    if (frames - 1) * jump + front + 1 > x.shape[timing.axis] or context < 0:
        walk.refuse(node, f"takes every {jump}th frame from the {front + 1}th: it needs later frames")
    out = walk.builder.op("slice", x, timing.axis, front, front + (frames - 1) * jump + 1, jump)
    trailing = walk.surplus(node, *after) - context
    walk.keep(node, out, Timing(after[0], after[1], context, trailing, 1, (timing.delay + wait) // jump))
    return True
