"""Rules of models/custom/causal/convert.py for layers: convolutions, recurrences, norms, the front end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, fx, nn

from models.custom.causal.layers import (
    CumulativeNorm,
    StreamConv,
    StreamConvTranspose,
    StreamCumulativeNorm,
    StreamFeatures,
    StreamRnn,
    UnrolledRnn,
)
from models.custom.causal.walk import Timing, Walk, tensors
from models.layers.front_end import CausalFeatures

Rule = Callable[[Walk, fx.Node], bool]


# --- convolutions -------------------------------------------------------------------------------------------


def _conv(walk: Walk, node: fx.Node) -> bool:
    return _conv_with(walk, node, cast("nn.Conv1d | nn.Conv2d", walk.module.get_submodule(str(node.target))))


def conv_function(walk: Walk, node: fx.Node) -> bool:
    """torch.conv1d and conv2d, which a subclass of nn.Conv1d with a forward of its own calls."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    arguments: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    weight, bias = (walk.short.get(arguments[name]) for name in ("weight", "bias"))
    if weight is None or arguments["weight"] in walk.timings:
        walk.refuse(node, "its weight is computed from the audio")
    kind: Any = nn.Conv1d if weight.dim() == 3 else nn.Conv2d
    groups = arguments.get("groups", 1)
    options = {name: arguments.get(name, default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))}
    conv = kind(weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]), groups=groups, **options)
    conv.weight, conv.bias = nn.Parameter(weight, requires_grad=False), None
    if bias is not None:
        conv.bias = nn.Parameter(bias, requires_grad=False)
    return _conv_with(walk, node, conv)


def _conv_with(walk: Walk, node: fx.Node, conv: nn.Conv1d | nn.Conv2d) -> bool:
    source = node.all_input_nodes[0]
    timing = walk.timings.get(source)
    if timing is None:
        return False
    if walk.short[source].dim() != len(conv.kernel_size) + 2 or timing.axis < 2:
        walk.refuse(node, f"takes {list(walk.short[source].shape)} with time on axis {timing.axis}; add a batch axis")
    at = timing.axis - 2
    left, right = _conv_padding(walk, node, conv, at)
    total = (conv.kernel_size[at] - 1) * conv.dilation[at]
    if left == right == 0 and (timing.context or total <= conv.stride[at] - 1):
        return False
    if timing.trailing:
        walk.refuse(
            node,
            f"its input is padded by {timing.trailing} frames behind: its output looks at later frames; "
            "pad in front only",
        )
    if timing.context:
        walk.refuse(node, "pads time that was padded before; pad once, by the sum")
    ahead = total - left - (conv.stride[at] - 1)
    if right and ahead > 0:
        walk.refuse(
            node,
            f"kernel {conv.kernel_size[at]}, padding {left} on both sides: its output looks {ahead} frames ahead; pad "
            f"{total - (conv.stride[at] - 1)} frames in front instead (nn.functional.pad(x, (n, 0)) and padding=0)",
        )
    time = walk.time_of(node)
    if time is None:
        walk.refuse(node, "gives the same number of frames for every recording")
    extra = walk.surplus(node, *time)
    if left == 0 or extra < 0:
        walk.refuse(
            node,
            f"kernel {conv.kernel_size[at]} has no padding in front: it needs {total - (conv.stride[at] - 1)} "
            f"frames there (nn.functional.pad(x, (n, 0)))",
        )
    if conv.padding_mode != "zeros":
        walk.refuse(node, f"pads time with padding_mode {conv.padding_mode!r}; a stream begins with zeros")
    shape = list(walk.example[source].shape)
    frames, shape[timing.axis] = shape[timing.axis], left
    module = StreamConv(conv, timing.axis, left, frames, time[1] * walk.hops)
    walk.stateful(node, module, (source,), {"past": tuple(shape)}, Timing(time[0], time[1], 0, extra))
    return True


def _conv_padding(walk: Walk, node: fx.Node, conv: nn.Conv1d | nn.Conv2d, at: int) -> tuple[int, int]:
    if isinstance(conv.padding, str):
        total = (conv.kernel_size[at] - 1) * conv.dilation[at]
        if conv.padding == "same" and total:
            walk.refuse(
                node,
                f"padding='same' pads both sides: its output looks {total - total // 2} frames ahead; pad {total} "
                "frames in front instead (nn.functional.pad(x, (n, 0)) and padding=0)",
            )
        return 0, 0
    return conv.padding[at], conv.padding[at]


def _conv_transpose(walk: Walk, node: fx.Node) -> bool:
    conv = cast(nn.ConvTranspose1d, walk.module.get_submodule(str(node.target)))
    source = cast(fx.Node, node.args[0])
    timing = walk.timings.get(source)
    if timing is None:
        return False
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    faults = (
        (bool(timing.context or timing.trailing), "its input is padded in time; slice the surplus off first"),
        (conv.groups != 1, f"has {conv.groups} groups; only 1 has a stream"),
        (conv.dilation[0] != 1, f"has dilation {conv.dilation[0]}; only 1 has a stream"),
        (kernel < stride, f"kernel {kernel} is shorter than stride {stride}"),
        (
            conv.padding[0] != 0 or conv.output_padding[0] != 0,
            "padding cuts its first samples off, so that the output runs ahead; use padding=0 and cut the end",
        ),
    )
    for wrong, reason in faults:
        if wrong:
            walk.refuse(node, reason)
    after = Timing(2, timing.rate * stride, 0, kernel - stride)
    module = StreamConvTranspose(conv, walk.hops * timing.rate)
    states = {"tail": module.state_shape} if module.parts > 1 else {}
    walk.stateful(node, module, (source,), states, after)
    return True


# --- recurrences --------------------------------------------------------------------------------------------


def _rnn(walk: Walk, node: fx.Node) -> bool:
    rnn = cast("nn.GRU | nn.LSTM", walk.module.get_submodule(str(node.target)))
    source = cast(fx.Node, node.args[0])
    timing = walk.timings.get(source)
    if timing is None:
        return False
    kind = type(rnn).__name__
    initial = [n for n in node.all_input_nodes if n is not source]
    if any(t.any() for n in initial for t in tensors(walk.short[n])):
        walk.refuse(node, f"begins with another state than zeros; let the {kind} begin by itself")
    value = walk.short[source]
    if value.dim() != 3:
        walk.refuse(node, f"takes {list(value.shape)}; give it [batch, frames, features]")
    if getattr(rnn, "proj_size", 0):
        walk.refuse(node, "proj_size has no written-out form; put a Linear behind it")
    if timing.context or timing.trailing:
        walk.refuse(node, "its input is padded in time; slice the surplus off first")
    sequence = 1 if rnn.batch_first else 0
    last = [user for user in node.users if user.args[1:] == (1,) and user.users]
    if last:
        walk.refuse(node, "the state it returns is used; a stream has no last frame: use the output")
    example = walk.example[source]
    along_time = timing.axis == sequence
    if along_time and rnn.bidirectional:
        walk.refuse(
            node,
            f"a bidirectional {kind} over time reads the recording from its end; a stream has no end: make it causal",
        )
    frames, batch = int(example.shape[sequence]), int(example.shape[1 - sequence])
    after = Timing(timing.axis, timing.rate)
    if along_time:
        module: nn.Module = StreamRnn(rnn, frames, batch, sequence)
        names = ("h", "c") if isinstance(rnn, nn.LSTM) else ("h",)
        shape = cast(StreamRnn, module).state_shape
        cells = tuple(f"layers.{layer}.cell" for layer in range(rnn.num_layers))
        walk.stateful(node, module, (source,), dict.fromkeys(names, shape), after, cells)
    else:
        walk.stateful(node, UnrolledRnn(rnn, frames, batch, sequence), (source,), {}, after)
    del walk.pairs[node]
    walk.example[node] = _RnnResult(walk.example[node])
    return True


@dataclass(frozen=True)
class _RnnResult:
    """Stands for the pair (output, state) of an RNN: only the output may be read."""

    output: Tensor


def rnn_item(walk: Walk, node: fx.Node) -> bool:
    source, index = node.args
    if not isinstance(source, fx.Node) or not isinstance(walk.example.get(source), _RnnResult):
        return False
    if index == 0:
        walk.keep(node, walk.new[source], walk.example[source].output, walk.timings[source])
    else:
        walk.keep(node, None, None, None)
    return True


def _norm_over_time(walk: Walk, node: fx.Node) -> bool:
    timing = walk.timings.get(node.all_input_nodes[0])
    if timing is not None and timing.axis >= 2:
        walk.refuse(
            node,
            "its value at a frame depends on later audio: it normalises over time; take LayerNorm over the features, "
            "or hearpack.CumulativeNorm",
        )
    return False


def _cumulative_norm(walk: Walk, node: fx.Node) -> bool:
    norm = cast(CumulativeNorm, walk.module.get_submodule(str(node.target)))
    source = cast(fx.Node, node.args[0])
    timing = walk.timings.get(source)
    if timing is None or timing.axis != 1 or timing.context or timing.trailing:
        walk.refuse(node, "takes [1, frames, ...features], not padded in time")
    module = StreamCumulativeNorm(norm, timing.rate * walk.hops)
    walk.stateful(node, module, (source,), {"totals": (1, 3)}, timing, ("",))
    return True


def _features(walk: Walk, node: fx.Node) -> bool:
    features = cast(CausalFeatures, walk.module.get_submodule(str(node.target)))
    time = walk.time_of(node)
    if time is None:
        walk.refuse(node, "gives no frames")
    spec = features.features.spec
    module = StreamFeatures(spec, time[1] * walk.hops)
    if not module.past:
        walk.refuse(node, "a frame is as long as its hop; make n_fft larger than hop_samples")
    walk.stateful(node, module, (node.all_input_nodes[0],), {"samples": (1, module.past)}, Timing(*time), ("",))
    return True


MODULE_RULES: tuple[tuple[tuple[type, ...], Rule], ...] = (
    ((CausalFeatures,), _features),
    ((CumulativeNorm,), _cumulative_norm),
    ((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.GroupNorm), _norm_over_time),
    ((nn.Conv1d, nn.Conv2d), _conv),
    ((nn.ConvTranspose1d,), _conv_transpose),
    ((nn.GRU, nn.LSTM), _rnn),
)
