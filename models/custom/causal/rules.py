"""One rule for each kind of operation that looks back in time; convert.py applies them node by node."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from models.custom.adapters import ActivationLayer
from models.custom.causal.layer_rules import MODULE_RULES, Rule, conv_function, rnn_item
from models.custom.causal.layers import StreamCount, StreamCumsum, StreamPad
from models.custom.causal.walk import Timing, Walk, first_tensor, tensors

_map: Any = fx.map_arg  # typed for arguments of a graph only


def step(walk: Walk, node: fx.Node) -> None:
    """Write one node of the stream.

    Raises:
        ConversionError: naming the layer and the reason.
    """
    if node.op == "get_attr":
        value = operator.attrgetter(str(node.target))(walk.module)
        walk.modules[node.name] = value
        walk.keep(node, walk.graph.get_attr(node.name), value, None)
        return
    rule = _rule_of(walk, node)
    if rule is None or not rule(walk, node):
        _generic(walk, node)


def _rule_of(walk: Walk, node: fx.Node) -> Rule | None:
    if node.op == "call_module":
        module = walk.module.get_submodule(str(node.target))
        if isinstance(module, nn.ConstantPad1d | nn.ConstantPad2d | nn.ZeroPad1d | nn.ZeroPad2d):
            return _pad_module
        return next((rule for kinds, rule in MODULE_RULES if isinstance(module, kinds)), None)
    return _FUNCTION_RULES.get(node.target if node.op == "call_function" else f".{node.target}")


# --- everything that works on frames alone ------------------------------------------------------------------


def _generic(walk: Walk, node: fx.Node) -> None:
    time, inputs = walk.time_of(node), walk.timed_inputs(node)
    timing = None if time is None else _generic_timing(walk, node, time, inputs)
    example = _evaluate(walk, node)
    frames = first_tensor(example)
    if frames is None:  # sizes, types: numbers of the graph for this length of a call
        walk.keep(node, example, example, None)
        return
    if timing is None:
        if inputs and not _equal(walk.short[node], walk.other[node]):
            walk.refuse(
                node,
                "folds the whole recording into one value, which a stream never has; a net that sees windows is "
                "net.form = 'window'",
            )
    else:
        wanted = timing.rate * walk.hops + timing.context
        came = frames.shape[timing.axis]
        if came != wanted:
            walk.refuse(node, f"gives {came} frames for a call that needs {wanted}; it needs later frames")
    if node.op == "call_module":
        module = _twin(walk.module.get_submodule(str(node.target)))
        new = walk.graph.call_module(walk.place(node, module), *_arguments(walk, node))
        if isinstance(module, ActivationLayer):
            walk.fp32.append(node.name)
    else:
        new = walk.graph.create_node(node.op, node.target, *_arguments(walk, node))
    walk.keep(node, new, example, timing)


def _generic_timing(walk: Walk, node: fx.Node, time: tuple[int, int], inputs: list[Timing]) -> Timing:
    axis, rate = time
    value = cast(Tensor, first_tensor(walk.short[node]))
    extra = int(value.shape[axis]) - rate * walk.lengths[0]
    if len({(t.context, t.trailing) for t in inputs}) > 1:
        counts = ", ".join(f"{t.context} in front and {t.trailing} behind" for t in inputs)
        walk.refuse(node, f"puts values together that are padded differently ({counts})")
    context, trailing = (inputs[0].context, inputs[0].trailing) if inputs else (0, 0)
    if extra < 0:
        advice = f"{-extra} frames in front (nn.functional.pad)"
        conv = walk.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(conv, nn.Conv1d | nn.Conv2d):
            reach = (conv.kernel_size[-1] - 1) * conv.dilation[-1] - (conv.stride[-1] - 1)
            advice = f"(kernel - 1) x dilation - (stride - 1) frames in front (nn.functional.pad, here {reach})"
        walk.refuse(node, f"gives {-extra} frames fewer than the recording has; pad {advice}")
    if extra == context + trailing:
        return Timing(axis, rate, context, trailing)
    if trailing:
        walk.refuse(
            node,
            f"its input is padded by {trailing} frames behind: its output looks at later frames; pad in front only",
        )
    return Timing(axis, rate, extra, 0)


# --- padding and slices -------------------------------------------------------------------------------------


def _pad(walk: Walk, node: fx.Node) -> bool:
    arguments = dict(zip(("input", "pad", "mode", "value"), node.args, strict=False)) | dict(node.kwargs)
    pads = _map(arguments["pad"], lambda n: walk.short[n])
    mode, value = arguments.get("mode", "constant"), arguments.get("value") or 0.0
    return _pad_with(walk, node, pads, str(mode), cast(float, value))


def _pad_module(walk: Walk, node: fx.Node) -> bool:
    module = cast(Any, walk.module.get_submodule(str(node.target)))
    return _pad_with(walk, node, module.padding, "constant", getattr(module, "value", 0.0))


def _pad_with(walk: Walk, node: fx.Node, pads: Any, mode: str, value: float) -> bool:
    source = node.all_input_nodes[0]
    timing = walk.timings.get(source)
    if timing is None:
        return False
    slot = 2 * (walk.short[source].dim() - 1 - timing.axis)
    left, right = (int(n) for n in pads[slot : slot + 2]) if slot < len(pads) else (0, 0)
    if (left, right) == (0, 0):
        return False
    if left < 0 or right < 0:
        walk.refuse(node, f"cuts frames off with a padding of {left} and {right}; use a slice")
    if mode != "constant" or float(value) != 0.0:
        walk.refuse(node, f"pads time with {mode} {value:g}; a stream begins with zeros")
    if left and (timing.context or timing.trailing):
        walk.refuse(node, "pads time that was padded before; pad once, by the sum")
    others = [*pads[:slot], 0, 0, *pads[slot + 2 :]]
    if any(others):
        walk.refuse(node, "pads time and another axis at once; pad in two steps")
    after = Timing(timing.axis, timing.rate, timing.context + left, timing.trailing + right)
    if not left:
        walk.keep(node, walk.new[source], walk.example[source], after)
        del walk.pairs[node]
        return True
    shape = list(walk.example[source].shape)
    frames, shape[timing.axis] = shape[timing.axis], left
    module = StreamPad(timing.axis, left, frames)
    walk.stateful(node, module, (source,), {"past": tuple(shape)}, after)
    return True


def _getitem(walk: Walk, node: fx.Node) -> bool:
    source, index = node.args
    if not isinstance(source, fx.Node) or not isinstance(walk.short[source], Tensor):
        return False
    timing = walk.timings.get(source)
    if timing is None:
        return False
    entries = list(index) if isinstance(index, tuple) else [index]
    spelt = [e for e in entries if e is not None and e is not Ellipsis]
    if Ellipsis in [e for e in entries if not isinstance(e, fx.Node)]:
        at = next(i for i, e in enumerate(entries) if e is Ellipsis)
        fill = walk.short[source].dim() - len(spelt)
        entries[at : at + 1] = [slice(None)] * fill
    place, axis = None, -1
    for position, entry in enumerate(entries):
        if entry is not None:
            axis += 1
            if axis == timing.axis:
                place = position
    if place is None or not isinstance(entries[place], slice):
        return False

    def ends(values: Mapping[fx.Node, Any]) -> tuple[int, int]:
        length = int(values[source].shape[timing.axis])
        part = _map(entries[place], lambda n: values[n])
        if part.step not in (None, 1):
            walk.refuse(node, f"takes every {part.step}th frame; stride in a convolution instead")
        first, last, _ = part.indices(length)
        return first, length - last

    short, long = ends(walk.short), ends(walk.long)
    if short == (0, 0) == long:
        return False
    if short != long:
        walk.refuse(node, f"cuts {short} frames of a short recording and {long} of a long one")
    front, behind = short
    from_past = max(0, behind - timing.trailing)
    context = timing.context - front - from_past
    if context < 0:
        walk.refuse(
            node, f"cuts {front + from_past} frames that were not padded: the output would run ahead of its input"
        )
    frames = timing.context + timing.rate * walk.hops
    entries[place] = slice(front, frames - from_past)
    entries = [_map(e, lambda n: walk.new[n]) for e in entries]
    new = walk.graph.call_function(operator.getitem, (walk.new[source], tuple(entries)))
    moved = timing.axis + sum(e is None for e in entries[:place]) - sum(isinstance(e, int) for e in entries[:place])
    after = Timing(moved, timing.rate, context, max(0, timing.trailing - behind))
    walk.keep(node, new, walk.example[source][tuple(entries)], after)
    return True


def _cat(walk: Walk, node: fx.Node) -> bool:
    arguments = dict(zip(("tensors", "dim"), node.args, strict=False)) | dict(node.kwargs)
    parts, dim = arguments["tensors"], arguments.get("dim", 0)
    time = walk.time_of(node)
    if time is None or not isinstance(parts, list | tuple) or dim % walk.short[node].dim() != time[0]:
        return False
    *before, last = parts
    timing = walk.timings.get(last)
    zeros = all(isinstance(p, fx.Node) and p not in walk.timings and not walk.short[p].any() for p in before)
    if timing is None or not zeros or timing.context or timing.trailing:
        walk.refuse(node, "joins values along time; only zeros in front of an unpadded value have a stream")
    shape = list(walk.example[last].shape)
    frames, shape[timing.axis] = shape[timing.axis], sum(int(walk.short[p].shape[timing.axis]) for p in before)
    past = shape[timing.axis]
    module = StreamPad(timing.axis, past, frames)
    walk.stateful(node, module, (last,), {"past": tuple(shape)}, Timing(timing.axis, timing.rate, past))
    return True


# --- items, and sums over time ------------------------------------------------------------------------------


def _item(walk: Walk, node: fx.Node) -> bool:
    return rnn_item(walk, node) or _getitem(walk, node)


def _cumsum(walk: Walk, node: fx.Node) -> bool:
    arguments = dict(zip(("input", "dim"), node.args, strict=False)) | dict(node.kwargs)
    source = cast(fx.Node, arguments["input"])
    timing = walk.timings.get(source)
    dim = arguments["dim"] % walk.short[source].dim()
    if timing is None or dim != timing.axis:
        return False
    if timing.context or timing.trailing:
        walk.refuse(node, "its input is padded in time; slice the surplus off first")
    shape = list(walk.example[source].shape)
    frames, shape[dim] = shape[dim], 1
    walk.stateful(node, StreamCumsum(dim, frames), (source,), {"sum": tuple(shape)}, timing, ("",))
    return True


def _arange(walk: Walk, node: fx.Node) -> bool:
    time = walk.time_of(node)
    if time is None:
        return False
    if walk.surplus(node, *time) != 0:
        walk.refuse(node, "counts another number of frames than the recording has")
    values = walk.short[node]
    first, step_ = float(values[0]), float(values[1] - values[0])
    module = StreamCount(first, step_, time[1] * walk.hops)
    walk.stateful(node, module, (), {"count": (1,)}, Timing(0, time[1]), ("",))
    return True


_FUNCTION_RULES: dict[Any, Rule] = {
    functional.pad: _pad,
    operator.getitem: _item,
    torch.cat: _cat,
    torch.cumsum: _cumsum,
    ".cumsum": _cumsum,
    torch.arange: _arange,
    torch.conv1d: conv_function,
    torch.conv2d: conv_function,
}


# --- helpers ------------------------------------------------------------------------------------------------


def _twin(module: nn.Module) -> nn.Module:
    """The same weights in another module: one that is called twice stands in the stream under two names."""
    twin = copy.copy(module)
    for table in ("_parameters", "_buffers", "_modules"):
        twin.__dict__[table] = copy.copy(module.__dict__[table])
    return twin


def _arguments(walk: Walk, node: fx.Node) -> tuple[Any, Any]:
    return _map(node.args, lambda n: walk.new[n]), _map(node.kwargs, lambda n: walk.new[n])


def _evaluate(walk: Walk, node: fx.Node) -> Any:
    args = _map(node.args, lambda n: walk.example[n])
    kwargs = _map(node.kwargs, lambda n: walk.example[n])
    try:
        with torch.no_grad():
            if node.op == "call_module":
                return walk.module.get_submodule(str(node.target))(*args, **kwargs)
            if node.op == "call_function":
                return cast(Callable[..., Any], node.target)(*args, **kwargs)
            owner, *rest = args
            return getattr(owner, str(node.target))(*rest, **kwargs)
    except Exception as exc:  # what holds for a whole recording may not hold for a hop
        walk.refuse(node, f"does not run on the frames of one call: {str(exc).strip().splitlines()[0]}")


def _equal(one: Any, two: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(two), strict=True))
