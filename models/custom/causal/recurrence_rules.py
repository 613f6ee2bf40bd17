"""Recurrences: over time their state is the stream's; inside a frame they begin anew at each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from torch import fx

from models.custom.causal.loops import Loop, after, pick_axis, run
from models.custom.causal.walk import Walk
from models.graph.builder import Value, name_of, tensors
from models.graph.lower import emit
from models.graph.recurrences import recurrence

_LAYERS = {"gru": "GRU", "lstm": "LSTM", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
_map: Any = fx.map_arg


def rnn(walk: Walk, node: fx.Node) -> bool:
    """torch's gru, lstm, rnn_tanh and rnn_relu."""
    name = name_of(node)
    kind = _LAYERS[name]
    offline = recurrence(name, cast(Any, node.args))
    source = cast(fx.Node, offline.x)
    timing = walk.timings.get(source)
    if timing is None:
        return False
    rank = len(walk.shape(source))
    if rank != 3:
        walk.refuse(node, f"takes {walk.shape(source)}; give it [batch, frames, features]")
    frame_axis = rank + offline.frame_axis
    along_time = timing.axis == frame_axis
    args = _map(node.args, lambda n: walk.value(n) if not _grown(walk, n, along_time) else None)
    call = recurrence(name, args)
    x = cast(Value, call.x)
    frames, batch = x.shape[frame_axis], x.shape[1 if frame_axis == 0 else 0]
    if timing.context or (timing.trailing and not walk.lookahead):
        walk.refuse(node, "its input is padded in time; slice the surplus off first")
    module = call.unrolled(frames, batch)
    if not along_time:
        shape = (call.layers * (2 if call.bidirectional else 1), batch)
        first = [
            value if value is not None else walk.builder.constant(
                walk.offline(cast(fx.Node, given)).narrow(1, 0, 1).expand(*shape, -1).contiguous()
            )
            for value, given in zip(call.first, offline.first, strict=True)
        ]  # fmt: skip
        out, *new = walk.builder.module(
            module, x, *first, name=_name(walk, node), fp32=("",) if walk.origin(node).precise else module.cells
        )
        walk.keep(node, (out, *new), None)
        walk.timings[node] = timing
        return True
    if call.bidirectional:
        walk.refuse(
            node,
            f"a bidirectional {kind} over time reads the recording from its end; a stream has no end: make it causal",
        )
    if any(t.any() for given in offline.first for t in tensors(walk.offline(cast(fx.Node, given)))):
        walk.refuse(node, f"begins with another state than zeros; let the {kind} begin by itself")
    if any(user.args[1] != 0 and user.users for user in node.users):
        walk.refuse(node, "the state it returns is used; a stream has no last frame: use the output")
    shapes = [tuple(cast(Value, value).shape) for value in call.first]
    states = dict(zip(("h", "c"), shapes, strict=False))
    inputs: tuple[Value, ...] = (x,)
    if timing.delay:  # until its first frame its state stays as it begins
        module.gated, inputs = True, (x, walk.valid(node, timing))
    out = walk.stateful(node, module, inputs, states, module.cells)
    walk.keep(node, (out, *[None] * len(shapes)), None)
    walk.timings[node] = replace(timing, context=0)
    return True


def loop_over_frames(walk: Walk, node: fx.Node, loop: Loop) -> None:
    """A Python loop over frames, whose results `node` joins: what an iteration hands on is state."""
    sources = set(loop.picks.values())
    timings = [walk.timings.get(source) for source in sources]
    time = walk.time_of(node)
    first = timings[0] if timings else None
    if first is None or time is None or any(timing != first for timing in timings):
        walk.refuse(node, "joins the results of a loop that reads no frames, or frames of several rates")
    if any(pick_axis(pick) % len(walk.shape(source)) != first.axis for pick, source in loop.picks.items()):
        walk.refuse(node, "joins the results of a loop over another axis than time")
    padded = first.context or (first.trailing and not walk.lookahead) or first.outer > 1
    if padded or walk.surplus(node, *time) != first.trailing:
        walk.refuse(node, "loops over frames that are padded in time, or not over all; slice the surplus off first")
    if not loop.begins_with_zeros:
        walk.refuse(
            node, "joins the results of a loop that begins with another state than zeros; let it begin with zeros"
        )
    b = walk.builder
    begun = walk.valid(node, first) if first.delay and loop.kept else None
    handed: dict[tuple[int, int], Any] = {
        key: walk.add_state(node, f"s{index}", tuple(walk.offline(kept).shape))
        for index, (key, kept) in enumerate(loop.kept.items())
    }

    def call(at: fx.Node, target: Any, args: Any, kwargs: Any) -> Any:
        with b.at(walk.origin(at)):
            return emit(b, target, tuple(args), dict(kwargs), {})

    rows: list[Value] = []
    for frame in range(first.rate * walk.hops):
        made = run(loop, handed, frame, walk.value, call)
        rows.append(made[loop.result])
        handed = after(handed, made)
        if begun is not None:  # until its first frame its state stays zeros
            handed = {key: b.op("mul", value, b.op("select", begun, 0, frame)) for key, value in handed.items()}
    walk.state_results += list(handed.values())
    dim = cast(int, node.args[1]) if len(node.args) > 1 else 0
    with b.at(walk.origin(node)):
        joined = b.op(name_of(node), rows, dim)
    walk.keep(node, joined, replace(first, axis=time[0]))


def _grown(walk: Walk, node: fx.Node, along_time: bool) -> bool:
    """First states of as many sequences as there are frames: zeros of another size in the stream."""
    return not along_time and node.op == "get_attr" and walk.time_of(node) is not None


def _name(walk: Walk, node: fx.Node) -> str:
    origin = walk.origin(node)
    return (origin.module or name_of(node)).replace(".", "_")
