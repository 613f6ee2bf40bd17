"""One rule for each kind of operation that looks back in time; convert.py applies them node by node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx

from models.common.errors import first_line
from models.custom.causal.attention import attention, square
from models.custom.causal.conv_rules import conv, conv_transpose
from models.custom.causal.cuts import cut, every
from models.custom.causal.layers import StreamCumsum, StreamExtreme, StreamPositions
from models.custom.causal.recurrence_rules import loop_over_frames, rnn
from models.custom.causal.walk import Positions, Rule, Timing, Walk, first_tensor
from models.graph.builder import Value, constant_of, name_of
from models.graph.lower import emit

_map: Any = fx.map_arg  # typed for arguments of a graph only


def step(walk: Walk, node: fx.Node) -> None:
    """Write one node of the stream.

    Raises:
        ConversionError: naming the layer and the reason.
    """
    if node in walk.outline.skipped:
        value = constant_of(walk.short.module, node)
        if value is not None:
            walk.keep(node, walk.builder.constant(value), None)
        return
    if node.op == "get_attr":
        _constant(walk, node)
        return
    if node in walk.outline.loops:
        loop_over_frames(walk, node, walk.outline.loops[node])
        return
    for source in node.all_input_nodes:
        if source in walk.outline.skipped:
            walk.refuse(node, "reads what a loop over frames leaves at its end; a stream has no last frame")
    rule = _RULES.get(name_of(node))
    with walk.builder.at(walk.origin(node)):
        if rule is None or not rule(walk, node):
            _generic(walk, node)


def _constant(walk: Walk, node: fx.Node) -> None:
    """A constant; one that grows with the recording is taken apart where it is read."""
    short, long = (
        cast(Tensor, constant_of(recording.module, n))
        for recording, n in ((walk.short, node), (walk.long, walk.same[node]))
    )
    both = square(short, long)
    if both is not None:
        walk.keep(node, both, None)
        return
    time = walk.time_of(node)
    if time is not None:
        walk.keep(node, Positions(short, long, *time), None)
    else:
        walk.keep(node, walk.builder.constant(short), None)


# --- everything that works on frames alone ------------------------------------------------------------------


def _generic(walk: Walk, node: fx.Node) -> None:
    time, inputs = walk.time_of(node), walk.timed_inputs(node)
    timing = None if time is None else _generic_timing(walk, node, time, [t for _, t in inputs])
    if timing is None and inputs:
        walk.refuse(
            node,
            "folds the whole recording into one value, which a stream never has; a net that sees windows is "
            "net.form = 'window', and a mean of the past is cumsum over arange",
        )
    twin = walk.same[node]
    args = walk.numbers(node, node.args, twin.args)
    kwargs = dict(zip(node.kwargs, walk.numbers(node, [*node.kwargs.values()], [*twin.kwargs.values()]), strict=True))
    behind = _behind(walk, node, inputs)
    fill = {n: _input(walk, node, n, inputs) for n in node.all_input_nodes}
    fill |= {n: walk.delayed(node, fill[n], walk.timings[n], frames) for n, frames in behind.items() if frames}
    args, kwargs = (_map(part, lambda n: fill[n]) for part in (tuple(args), kwargs))
    try:
        result = emit(walk.builder, node.target, args, kwargs, {})
    except Exception as exc:  # what holds for a whole recording may not hold for a hop
        walk.refuse(node, f"does not run on the frames of one call: {first_line(exc)}")
    if timing is not None:
        frames = first_tensor(result.tensor if isinstance(result, Value) else [v.tensor for v in result])
        wanted, came = timing.frames(walk.hops), 0 if frames is None else frames.shape[timing.axis]
        if came != wanted:
            walk.refuse(node, f"gives {came} frames for a call that needs {wanted}; it needs later frames")
    walk.keep(node, result, timing)


def _hops_behind(timings: Iterable[Timing]) -> float:
    """Of the value that is furthest behind."""
    return max((t.delay / t.rate for t in timings), default=0.0)


def _behind(walk: Walk, node: fx.Node, inputs: list[tuple[fx.Node, Timing]]) -> dict[fx.Node, int]:
    """How many frames each input must wait for the one that is furthest behind."""
    most = _hops_behind(t for _, t in inputs)
    waits = {n: most * t.rate - t.delay for n, t in inputs}
    if any(wait != int(wait) for wait in waits.values()):
        walk.refuse(node, "puts values together that look ahead by parts of each other's frames")
    return {n: int(wait) for n, wait in waits.items()}


def _input(walk: Walk, node: fx.Node, source: fx.Node, inputs: list[tuple[fx.Node, Timing]]) -> Any:
    """What an operation reads; a constant as long as the recording goes with the value beside it."""
    known = walk.new[source]
    if not isinstance(known, Positions):
        return known
    rank = known.short.dim()
    for other, timing in inputs:
        same = len(walk.shape(other)) - timing.axis == rank - known.axis  # axes are lined up from the last
        if same and timing.rate == known.rate and known.short.shape[known.axis] == walk.shape(other)[timing.axis]:
            return walk.positions(node, known, timing, known.axis)
    return walk.refuse(node, "is as long as the recording, and a stream does not know how long that will be")


def _generic_timing(walk: Walk, node: fx.Node, time: tuple[int, int], inputs: list[Timing]) -> Timing:
    axis, rate = time
    outer = _outer(walk, node)
    if outer > 1 or any(t.outer > 1 for t in inputs):
        if any(t.context or t.trailing for t in inputs):
            walk.refuse(node, "mixes frames that are padded in time with another axis; slice the surplus off first")
        return Timing(axis, rate // outer, 0, 0, outer, _late(walk, node, rate // outer, inputs))
    extra = walk.surplus(node, axis, rate)
    late = _late(walk, node, rate, inputs)
    if len({(t.context / t.rate, t.trailing / t.rate) for t in inputs}) > 1:
        counts = ", ".join(f"{t.context} in front and {t.trailing} behind" for t in inputs)
        walk.refuse(node, f"puts values together that are padded differently ({counts})")
    context, trailing = (inputs[0].context, inputs[0].trailing) if inputs else (0, 0)
    if inputs and inputs[0].rate != rate:  # frames became others: so did those in front
        context, rest = divmod(context * rate, inputs[0].rate)
        trailing, left = divmod(trailing * rate, inputs[0].rate)
        if rest or left:
            context, trailing = inputs[0].context, inputs[0].trailing
    if extra < 0 and extra != context + trailing:
        walk.refuse(
            node,
            f"gives {-extra} frames fewer than the recording has; pad {-extra} frames in front (nn.functional.pad)",
        )
    if extra == context + trailing:
        return Timing(axis, rate, context, trailing, 1, late)
    if trailing:
        walk.refuse(
            node,
            f"its input is padded by {trailing} frames behind: its output looks at later frames; pad in front only, or "
            "net.lookahead = 'delay' makes it delay",
        )
    return Timing(axis, rate, extra, 0, 1, late)


def _late(walk: Walk, node: fx.Node, rate: int, inputs: list[Timing]) -> int:
    """How many frames the result is behind, if its inputs are."""
    most = _hops_behind(inputs) * rate
    if most != int(most):
        walk.refuse(node, "looks ahead by a part of a frame; geometry.hop_samples must be a multiple of the strides")
    return int(most)


def _outer(walk: Walk, node: fx.Node) -> int:
    """How often the time axis of a value runs through all frames."""
    timed = walk.timed_inputs(node)
    if name_of(node) != "reshape" or not timed:
        return max((t.outer for _, t in timed), default=1)
    source, timing = timed[0]
    shape = walk.shape(source)
    count = shape[timing.axis] // timing.outer
    place = torch.arange(count).repeat(timing.outer).reshape([-1 if a == timing.axis else 1 for a in range(len(shape))])
    places = place.expand(shape).reshape(walk.shape(node))
    axis = cast("tuple[int, int]", walk.time_of(node))[0]
    line = places.movedim(axis, -1).reshape(-1, places.shape[axis])[0]
    return 1 + int((line.diff() < 0).sum())


# --- padding and slices -------------------------------------------------------------------------------------


def _pad(walk: Walk, node: fx.Node) -> bool:
    """Zeros, some of them in front of time; a constant that is not zero, and what is padded beside time, generic."""
    source, pads, *rest = cast(Any, node.args)
    value = float(rest[0]) if rest else 0.0
    timing = walk.timings.get(source)
    if timing is None:
        return False
    if list(cast(Any, walk.same[node].args[1])) != list(pads):
        walk.refuse(
            node,
            "pads the recording up to a length of its own: it is another graph for each length; hop_samples that is a "
            "multiple of that length needs no padding",
        )
    slot = 2 * (len(walk.shape(source)) - 1 - timing.axis)
    left, right = (int(n) for n in pads[slot : slot + 2]) if slot < len(pads) else (0, 0)
    if (left, right) == (0, 0):
        return False
    others = [*pads[:slot], 0, 0, *pads[slot + 2 :]]
    x = walk.value(source)
    if any(others):
        x = walk.builder.op("constant_pad_nd", x, others, value)
    if left < 0 or right < 0:
        if left > 0:
            x = walk.with_past(node, walk.masked(node, x, timing), timing.axis, left)
            timing = replace(timing, context=timing.context + left)
        if right > 0:
            timing = replace(timing, trailing=timing.trailing + right)
        return cut(walk, node, x, timing, max(0, -left), max(0, -right))
    if value != 0.0 and left:
        walk.refuse(node, f"pads time with {value:g}; a stream begins with zeros")
    if left and timing.delay and not timing.context and timing.outer == 1:  # what ran ahead is put off again
        x, met = walk.masked(node, x, timing), min(left, timing.delay)
        timing, left = replace(timing, delay=timing.delay - met, trailing=timing.trailing + met), left - met
        if not left and not right:
            walk.keep(node, x, timing)
            return True
    if left and timing.context:
        return _pad_more(walk, node, x, timing, left, right)
    after = replace(timing, context=timing.context + left, trailing=timing.trailing + right)
    if not left:
        walk.keep(node, x, after)
        if not any(others):
            walk.pairs.pop(node, None)
        return True
    walk.keep(node, walk.with_past(node, walk.masked(node, x, timing), timing.axis, left), after)
    return True


def _pad_more(walk: Walk, node: fx.Node, x: Value, timing: Timing, left: int, right: int) -> bool:
    """Zeros in front of zeros: the call's own frames alone make a longer past."""
    own = walk.builder.op("slice", x, timing.axis, timing.context, timing.context + timing.rate * walk.hops)
    if walk.offline(node).narrow(timing.axis, 0, timing.context + left).any():
        walk.refuse(node, "pads time in front of frames that are no zeros; pad once, by the sum")
    own = walk.masked(node, own, replace(timing, context=0))
    joined = walk.with_past(node, own, timing.axis, timing.context + left)
    walk.keep(node, joined, replace(timing, context=timing.context + left, trailing=timing.trailing + right))
    return True


def _slice(walk: Walk, node: fx.Node) -> bool:
    given = cast("tuple[Any, ...]", node.args)
    whole_call = (*given, *(0, None, None, 1)[len(given) - 1 :])
    source, dim, start, end, jump = whole_call
    timing = walk.timings.get(source)
    if timing is None or not isinstance(walk.offline(source), type(walk.offline(node))):
        return False
    if dim % len(walk.shape(source)) != timing.axis:
        return False
    long_args: list[Any] = list(walk.same[node].args[2:])
    sizes = [
        (values.shape[timing.axis], a, z)
        for values, a, z in (
            (walk.offline(source), start, end),
            (
                walk.long.values[walk.same[source]],
                long_args[0] if long_args else None,
                long_args[1] if len(long_args) > 1 else None,
            ),
        )
    ]
    (front, behind), long = (
        (first, size - last) for size, a, z in sizes for first, last, _ in [slice(a, z).indices(size)]
    )
    if (front, behind) != long:
        walk.refuse(node, f"cuts {(front, behind)} frames of a short recording and {long} of a long one")
    x = walk.value(source)
    if jump != 1:
        return every(walk, node, x, timing, front, int(jump))
    if front == behind == 0:
        return False
    return cut(walk, node, x, timing, front, behind)


def _cat(walk: Walk, node: fx.Node) -> bool:
    """Joined along time: only zeros in front have a stream."""
    parts, dim = (*cast("tuple[Any, ...]", node.args), 0)[:2]
    time = walk.time_of(node)
    if time is None or dim % len(walk.shape(node)) != time[0]:
        return False
    *before, last = parts
    timing = walk.timings.get(last)
    zeros = all(p not in walk.timings and not walk.offline(p).any() for p in before)
    same = all(not isinstance(walk.new[p], Positions) for p in before)
    past = sum(int(walk.offline(p).shape[time[0]]) for p in before)
    if timing is None or not zeros or not same or timing.context or timing.trailing not in (0, -past):
        walk.refuse(node, "joins values along time; only zeros in front of an unpadded value have a stream")
    x = walk.masked(node, walk.value(last), timing)
    joined = walk.with_past(node, x, timing.axis, past)
    if timing.trailing:  # as many zeros as were cut off behind: a delay
        joined = walk.builder.op("slice", joined, timing.axis, 0, timing.rate * walk.hops)
        past = 0
    walk.keep(node, joined, replace(timing, context=past, trailing=0))
    return True


# --- sums and extremes over time ----------------------------------------------------------------------------


def _plain_time(walk: Walk, node: fx.Node) -> Timing | None:
    """The timing of an operation's input, if it works along time; no padding may be in it."""
    source, dim, *_ = cast(Any, node.args)
    timing = walk.timings.get(source)
    if timing is None or dim % len(walk.shape(source)) != timing.axis:
        return None
    if timing.context or (timing.trailing and not walk.lookahead):
        walk.refuse(node, "its input is padded in time; slice the surplus off first")
    return timing


def _cumsum(walk: Walk, node: fx.Node) -> bool:
    timing = _plain_time(walk, node)
    if timing is None:
        return False
    x = walk.masked(node, walk.value(cast(fx.Node, node.args[0])), timing)
    shape = list(x.shape)
    frames, shape[timing.axis] = shape[timing.axis], 1
    walk.keep(node, walk.stateful(node, StreamCumsum(timing.axis, frames), (x,), {"sum": tuple(shape)}, ("",)), timing)
    return True


def _extreme(walk: Walk, node: fx.Node) -> bool:
    timing = _plain_time(walk, node)
    if timing is None:
        return False
    if timing.delay:
        walk.refuse(node, "is a running extreme of what looks ahead, which begins with frames that are not there")
    if any(user.args[1] == 1 and user.users for user in node.users):
        walk.refuse(node, "its indices are read, which count from the recording's start for ever")
    x = walk.value(cast(fx.Node, node.args[0]))
    shape = list(x.shape)
    frames, shape[timing.axis] = shape[timing.axis], 1
    module = StreamExtreme(timing.axis, frames, name_of(node) == "cummax")
    states = {"extreme": tuple(shape), "begun": tuple(1 for _ in shape)}
    y = walk.stateful(node, module, (x,), states)
    walk.keep(node, (y, y), None)
    walk.timings[node] = timing
    return True


def _item(walk: Walk, node: fx.Node) -> bool:
    source, index = cast(Any, node.args)
    value = walk.new[source][index]
    walk.keep(node, value, None if value is None else walk.timings.get(source))
    if value is not None and walk.time_of(node) is None:
        walk.timings.pop(node, None)
        walk.pairs.pop(node, None)
    return True


def _norm_over_time(walk: Walk, node: fx.Node) -> bool:
    timing = walk.timings.get(cast(fx.Node, node.args[0]))
    if timing is not None and timing.axis >= 2:
        walk.refuse(
            node,
            "its value at a frame depends on later audio: it normalises over time; take LayerNorm over the features, "
            "or hearpack.CumulativeNorm",
        )
    return False


def _padding(walk: Walk, node: fx.Node) -> bool:
    """Padding that is no zeros: beside time it is a slice, along time it repeats frames of the first call."""
    source, pads, *rest = cast(Any, node.args)
    timing = walk.timings.get(source)
    if timing is None:
        return False
    slot = 2 * (len(walk.shape(source)) - 1 - timing.axis)
    if slot >= len(pads) or not any(pads[slot : slot + 2]):
        return False
    mode = rest[0] if rest else "constant"
    if mode != "reflect" or not walk.lookahead:
        walk.refuse(
            node,
            f"pads time with {mode!r}: it repeats frames that come later; a stream begins with zeros; 'reflect' goes "
            "with net.lookahead = 'delay'",
        )
    left, right = (int(n) for n in pads[slot : slot + 2])
    frames = timing.rate * walk.hops
    if left >= frames:
        walk.refuse(
            node,
            f"reflects {left} frames in front of the recording, and a call brings {frames}: geometry.hop_samples must "
            f"be at least {left // timing.rate + 1} times what it is",
        )
    if timing.context or timing.trailing or timing.delay or timing.outer > 1 or any([*pads[:slot], *pads[slot + 2 :]]):
        walk.refuse(node, "reflects what is padded or behind already; pad once")
    _reflect(walk, node, timing, left, right)
    return True


def _reflect(walk: Walk, node: fx.Node, timing: Timing, left: int, right: int) -> None:
    """At the first call the frames in front are its own, turned round; later they are the past."""
    b, axis = walk.builder, timing.axis
    x = walk.value(cast(fx.Node, node.args[0]))
    joined = walk.with_past(node, x, axis, left) if left else x
    if left:
        first = walk.stateful(node, StreamPositions(torch.tensor([[1.0], [0.0]])), (), {"begun": (1,)}, ("",))
        turned = b.op("flip", b.op("slice", x, axis, 1, left + 1), [axis])
        turned = b.op("mul", turned, b.op("reshape", first, [1] * len(x.shape)))
        after = len(x.shape) - 1 - axis
        joined = b.op("add", joined, b.op("constant_pad_nd", turned, [0, 0] * after + [0, x.shape[axis]]))
    walk.keep(node, joined, Timing(axis, timing.rate, left, right))


_RULES: dict[str, Rule] = {
    "constant_pad_nd": _pad,
    "pad": _padding,
    "slice": _slice,
    "cat": _cat,
    "cumsum": _cumsum,
    "cummax": _extreme,
    "cummin": _extreme,
    "getitem": _item,
    "conv1d": conv,
    "conv2d": conv,
    "conv_transpose1d": conv_transpose,
    "conv_transpose2d": conv_transpose,
    "group_norm": _norm_over_time,
    "instance_norm": _norm_over_time,
    "scaled_dot_product_attention": attention,
    "gru": rnn,
    "lstm": rnn,
    "rnn_tanh": rnn,
    "rnn_relu": rnn,
}
