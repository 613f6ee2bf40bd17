"""Convolutions: padding in front is their past; a transposed one's tail is its state."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

from torch import fx, nn

from models.custom.causal.cuts import cut
from models.custom.causal.layers import StreamConv, StreamConvTranspose
from models.custom.causal.walk import Positions, Timing, Walk
from models.graph.builder import Value
from models.graph.table import per_axis


def conv(walk: Walk, node: fx.Node) -> bool:
    """conv1d and conv2d."""
    source, weight, _, stride, padding, dilation, _ = _arguments(node)
    if weight in walk.timings or isinstance(walk.new[weight], Positions):
        walk.refuse(node, "its weight is computed from the audio")
    timing = walk.timings.get(source)
    if timing is None or timing.axis == 0:  # each frame for itself
        return False
    if timing.axis < 2:
        walk.refuse(node, f"takes {walk.shape(source)} with time on axis {timing.axis}; add a batch axis")
    at = timing.axis - 2
    kernel = walk.shape(weight)[2 + at]
    rank = len(walk.shape(weight)) - 2
    steps, pads, holes = (per_axis(value, rank) for value in (stride, padding, dilation))
    left = right = pads[at]
    total = (kernel - 1) * holes[at]
    if walk.lookahead and _looks_ahead(timing, total, left, steps[at]):
        return _conv_ahead(walk, node, timing, total, left, steps[at])
    if left == 0 and (timing.context or total <= steps[at] - 1):
        return _unpadded(walk, node, kernel, total, steps[at])
    if timing.trailing:
        walk.refuse(
            node,
            f"its input is padded by {timing.trailing} frames behind: its output looks at later frames; "
            "pad in front only, or net.lookahead = 'delay' makes it delay",
        )
    if timing.context:
        walk.refuse(node, "pads time that was padded before; pad once, by the sum")
    ahead = total - left - (steps[at] - 1)
    if right and ahead > 0:
        walk.refuse(
            node,
            f"kernel {kernel}, padding {left} on both sides: its output looks {ahead} frames ahead; pad "
            f"{total - (steps[at] - 1)} frames in front instead (nn.functional.pad(x, (n, 0)) and padding=0), or "
            "net.lookahead = 'delay' makes it delay",
        )
    time = walk.time_of(node)
    if time is None:
        walk.refuse(node, "gives the same number of frames for every recording")
    extra = walk.surplus(node, *time)
    if left == 0 or extra < 0:
        walk.refuse(
            node,
            f"kernel {kernel} has no padding in front: it needs {total - (steps[at] - 1)} "
            f"frames there (nn.functional.pad(x, (n, 0)))",
        )
    if timing.delay % steps[at]:
        walk.refuse(node, "is strided over what looks ahead by a part of its stride")
    x = walk.masked(node, walk.value(source), timing)
    after = Timing(time[0], time[1], 0, extra, 1, timing.delay // steps[at])
    walk.keep(node, _with_past(walk, node, x, timing, left, time[1] * walk.hops), after)
    return True


def _with_past(walk: Walk, node: fx.Node, x: Value, timing: Timing, past: int, out_frames: int) -> Value:
    """The convolution of a call's frames and so many before them; x may have more in front of both."""
    shape = list(x.shape)
    shape[timing.axis] = past
    module = StreamConv(_layer(walk, node), timing.axis, past, timing.rate * walk.hops, out_frames)
    return walk.stateful(node, module, (x,), {"past": tuple(shape)})


def _arguments(node: fx.Node) -> tuple[Any, ...]:
    """Input, weight, bias, stride, padding, dilation, groups."""
    given = cast("tuple[Any, ...]", node.args)
    return (*given, *(None, 1, 0, 1, 1)[len(given) - 2 :])


def _layer(walk: Walk, node: fx.Node) -> Any:
    """The convolution as a layer."""
    _, weight, bias, stride, padding, dilation, groups = _arguments(node)
    rank = len(walk.shape(weight)) - 2
    steps, pads, holes = (tuple(per_axis(value, rank)) for value in (stride, padding, dilation))
    kind: Any = nn.Conv1d if rank == 1 else nn.Conv2d
    value = walk.value(weight).tensor
    size = tuple(value.shape[2:])
    layer = kind(value.shape[1] * groups, value.shape[0], size, steps, pads, holes, groups, bias is not None)
    layer.weight = nn.Parameter(value.float(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(walk.value(bias).tensor.float(), requires_grad=False)
    return layer


def _looks_ahead(timing: Timing, total: int, left: int, stride: int) -> bool:
    """Whether it needs frames that come later, or reads what is behind or longer than the recording."""
    ahead = total - left - timing.context - (stride - 1) > 0
    return ahead or bool(timing.trailing) or timing.delay % stride != 0


def _conv_ahead(walk: Walk, node: fx.Node, timing: Timing, total: int, left: int, stride: int) -> bool:
    """A convolution over later frames: over a longer past, and the stream is that much behind.

    Frame j reads up to frame j x stride + total - front of its input, and a call has those up to its own last one.
    """
    time = walk.time_of(node)
    if time is None or timing.outer > 1:
        walk.refuse(node, "looks ahead in a way that cannot be made delay")
    front = left + timing.context
    late = max(0, math.ceil((timing.delay + total - front - (stride - 1)) / stride))
    past = front + stride * late - timing.delay
    if past < 0:
        walk.refuse(node, "is strided over what looks ahead by a part of its stride")
    x = walk.value(cast(fx.Node, node.args[0]))
    frames, out_frames = timing.rate * walk.hops, time[1] * walk.hops
    after = Timing(time[0], time[1], 0, walk.surplus(node, *time), 1, late)
    if past == timing.context and not left and not (past and timing.delay):  # its past is in front of it already
        y = walk.builder.op(f"conv{x.tensor.dim() - 2}d", x, *_constants(walk, node), *cast("Any", node.args[3:]))
        walk.keep(node, walk.builder.op("narrow", y, time[0], 0, out_frames), after)
        return True
    if timing.context and not left and not timing.delay:  # which may be more than zeros
        past -= timing.context
    elif timing.context:
        x = walk.builder.op("slice", x, timing.axis, timing.context, timing.context + frames)
    x = walk.masked(node, x, replace(timing, context=0))
    walk.keep(node, _with_past(walk, node, x, timing, past, out_frames), after)
    return True


def _constants(walk: Walk, node: fx.Node) -> tuple[Any, Any]:
    """Weight and bias."""
    _, weight, bias = (*cast("tuple[Any, ...]", node.args), None)[:3]
    return walk.value(weight), None if bias is None else walk.value(bias)


def _unpadded(walk: Walk, node: fx.Node, kernel: int, total: int, stride: int) -> bool:
    """A convolution that takes its past from padding in front, or needs none."""
    time = walk.time_of(node)
    if time is not None and walk.surplus(node, *time) < 0:
        walk.refuse(
            node,
            f"kernel {kernel} gives {-walk.surplus(node, *time)} frames fewer than the recording has; pad (kernel - 1) "
            f"x dilation - (stride - 1) frames in front (nn.functional.pad, here {total - (stride - 1)})",
        )
    return False


def conv_transpose(walk: Walk, node: fx.Node) -> bool:
    """conv_transpose1d; of conv_transpose2d, those whose time axis is neither strided nor wider than a frame."""
    given = cast("tuple[Any, ...]", node.args)
    whole_call = (*given, *(None, 1, 0, 0, 1, 1)[len(given) - 2 :])
    source, weight, bias, stride, padding, output_padding, groups, dilation = whole_call
    timing = walk.timings.get(source)
    if timing is None or timing.axis == 0:
        return False
    if weight in walk.timings:
        walk.refuse(node, "its weight is computed from the audio")
    rank = len(walk.shape(weight)) - 2
    at = timing.axis - 2
    if at < 0:
        walk.refuse(node, f"takes {walk.shape(source)} with time on axis {timing.axis}; add a batch axis")
    steps, pads, more, holes = (per_axis(value, rank) for value in (stride, padding, output_padding, dilation))
    kernel = (walk.shape(weight)[2 + at] - 1) * holes[at] + 1
    if kernel == steps[at] == 1 and pads[at] == more[at] == 0:
        return False
    if rank == 2 and steps[at] == 1 and kernel - 1 <= pads[at] <= timing.context and more[at] == 0:
        return _conv_transpose_padded(walk, node, timing, pads[at])
    x = walk.value(source)
    front = pads[at]
    if rank == 1 and timing.context and pads[0] >= timing.context * steps[0] and _begins_with_zeros(walk, source):
        # What frames of zeros give, and more, is cut off.
        x = walk.builder.op("slice", x, 2, timing.context, timing.frames(walk.hops))
        front, timing = pads[0] - timing.context * steps[0], replace(timing, context=0)
    faults = (
        (
            bool(timing.context) or timing.trailing + timing.delay < 0 or bool(timing.trailing and not walk.lookahead),
            "its input is padded in time; slice the surplus off first",
        ),
        (kernel < steps[at], f"kernel {kernel} is shorter than stride {steps[at]}"),
        (
            (front != 0 or more[at] != 0) and not walk.lookahead,
            (
                f"padding cuts its first {front} samples off, so that the output runs ahead; use padding=0 and cut "
                "the end, or net.lookahead = 'delay' makes it delay"
            ),
        ),
    )
    for wrong, reason in faults:
        if wrong:
            walk.refuse(node, reason)
    trailing = timing.trailing * steps[at] + kernel - steps[at]  # later frames touch no earlier samples
    after = Timing(timing.axis, timing.rate * steps[at], 0, trailing, 1, timing.delay * steps[at])
    x = walk.masked(node, x, timing)
    if rank == 1:
        value = walk.value(weight).tensor.float()
        offset = None if bias is None else walk.value(bias).tensor.float()
        module: nn.Module = StreamConvTranspose(value, offset, steps[0], holes[0], groups, x.shape[2], x.shape[0])
        states = {"tail": cast(Any, module).state_shape} if cast(Any, module).parts > 1 else {}
        whole = walk.stateful(node, module, (x,), states)
        if pads[0] or more[0]:
            return cut(walk, node, whole, after, front, pads[0] - more[0])
        walk.keep(node, whole, after)
        return True
    return _conv_transpose_2d(walk, node, x, timing, after, steps, pads, more, holes, groups)


def _begins_with_zeros(walk: Walk, source: fx.Node) -> bool:
    """Whether what is in front of a value's first frame is nothing."""
    timing = walk.timings[source]
    return not walk.offline(source).narrow(timing.axis, 0, timing.context).any()


def _conv_transpose_padded(walk: Walk, node: fx.Node, timing: Timing, cut_off: int) -> bool:
    """Not strided along time, over frames that were padded in front by as many as it cuts off: all are in the call."""
    source, _, _, stride, padding, *rest = cast("tuple[Any, ...]", node.args)
    pads = list(padding)
    pads[timing.axis - 2] = 0
    y = walk.builder.op("conv_transpose2d", walk.value(source), *_constants(walk, node), stride, pads, *rest)
    y = walk.builder.op("slice", y, timing.axis, cut_off, cut_off + timing.rate * walk.hops)
    surplus = walk.surplus(node, timing.axis, timing.rate)
    walk.keep(node, y, replace(timing, context=0, trailing=surplus))
    return True


def _conv_transpose_2d(
    walk: Walk, node: fx.Node, x: Value, timing: Timing, after: Timing, steps: list[int], pads: list[int],
    more: list[int], holes: list[int], groups: int,
) -> bool:  # fmt: skip
    """Not strided along time: its past frames in front, and what they and the new ones give together."""
    at = timing.axis - 2
    if steps[at] != 1:
        walk.refuse(node, f"has stride {steps[at]} along time; only conv_transpose1d has a stream of its own there")
    reach = after.trailing - timing.trailing
    if reach:
        x = walk.with_past(node, x, timing.axis, reach)
    front, behind = pads[at], pads[at] - more[at]
    pads[at] = more[at] = 0
    y = walk.builder.op("conv_transpose2d", x, *_constants(walk, node), steps, pads, more, groups, holes)
    y = walk.builder.op("slice", y, timing.axis, reach, reach + timing.rate * walk.hops)
    if front or behind:
        return cut(walk, node, y, after, front, behind)
    walk.keep(node, y, after)
    return True
