"""models.custom.causal.layers: each layer, call by call from the zero state, is torch's over the whole recording."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from models.custom.causal.layers import (
    CumulativeNorm,
    StreamConv,
    StreamConvTranspose,
    StreamCount,
    StreamCumsum,
    StreamExtreme,
    StreamPad,
    StreamPositions,
)
from models.layers.unrolled import Kind, Unrolled

CALLS = 5
FRAMES = st.integers(1, 9)


def values(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def double(layer: nn.Module) -> nn.Module:
    """Its weights drawn anew, the same each time, in float64."""
    torch.manual_seed(2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer.double().eval()


def streamed(layer: nn.Module, x: Tensor, axis: int, frames: int, *states: tuple[int, ...]) -> Tensor:
    """x in calls of `frames` along `axis`, the states of each handed to the next; joined again along that axis."""
    kept = [torch.zeros(shape, dtype=torch.float64) for shape in states]
    outputs = []
    with torch.no_grad():
        for part in torch.split(x, frames, axis):
            y, *kept = layer(part, *kept)
            assert [tuple(state.shape) for state in kept] == list(states)
            outputs.append(y)
    assert len(outputs) == CALLS
    return torch.cat(outputs, axis)


def close(one: Tensor, two: Tensor) -> None:
    assert one.shape == two.shape
    assert two.std() > 1e-3
    assert float((one - two).abs().max()) < 1e-9 * float(two.abs().max())


@given(frames=FRAMES, kernel=st.integers(2, 7), dilation=st.integers(1, 3), groups=st.sampled_from([1, 2]))
@settings(max_examples=15, deadline=None)
def test_a_convolution_with_its_past_is_one_with_zeros_in_front(
    frames: int, kernel: int, dilation: int, groups: int
) -> None:
    conv = double(nn.Conv1d(4, 6, kernel, dilation=dilation, groups=groups))
    x, past = values(1, 4, CALLS * frames), (kernel - 1) * dilation
    stream = StreamConv(conv, 2, past, frames, frames)
    close(streamed(stream, x, 2, frames, (1, 4, past)), conv(F.pad(x, (past, 0))).detach())


@given(frames=st.integers(1, 4), kernel=st.integers(2, 6), stride=st.integers(2, 3))
@settings(max_examples=10, deadline=None)
def test_a_strided_convolution_takes_its_frames_in_step(frames: int, kernel: int, stride: int) -> None:
    conv = double(nn.Conv1d(4, 6, kernel, stride=stride, bias=False))
    come, past = frames * stride, max(1, kernel - stride)
    x = values(1, 4, CALLS * come)
    truth = conv(F.pad(x, (past, kernel)))[..., : CALLS * frames].detach()
    if past + come >= kernel:  # else a call has not the frames that it needs
        close(streamed(StreamConv(conv, 2, past, come, frames), x, 2, come, (1, 4, past)), truth)


@pytest.mark.parametrize("axis", [2, 3])
def test_a_convolution_over_two_axes_looks_back_along_one(axis: int) -> None:
    conv = double(nn.Conv2d(2, 3, (3, 3), padding=(1, 1)))
    shape, pad = [1, 2, 6, 6], [0, 0, 0, 0]
    shape[axis], pad[2 * (3 - axis)] = 2 * CALLS, 2
    x = values(*shape)
    conv_in_front = nn.Conv2d(2, 3, (3, 3), padding=(0, 1) if axis == 2 else (1, 0)).double()
    conv_in_front.load_state_dict(conv.state_dict())
    past = list(shape)
    past[axis] = 2
    stream = StreamConv(conv, axis, 2, 2, 2)
    close(streamed(stream, x, axis, 2, tuple(past)), conv_in_front(F.pad(x, pad)).detach())


@given(
    frames=FRAMES,
    kernel=st.integers(2, 6),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_a_transposed_convolution_with_its_tail_is_the_whole_one(
    frames: int, kernel: int, stride: int, dilation: int, groups: int, bias: bool
) -> None:
    kernel = max(kernel, stride)
    layer = nn.ConvTranspose1d(4, 6, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias)
    conv: Any = double(layer)
    stream = StreamConvTranspose(conv.weight, conv.bias, stride, dilation, groups, frames).double()
    x = values(1, 4, CALLS * frames)
    truth = conv(x)[..., : CALLS * frames * stride].detach()
    states = [stream.state_shape] if stream.parts > 1 else []
    parts, kept = [], [torch.zeros(shape, dtype=torch.float64) for shape in states]
    with torch.no_grad():
        for part in torch.split(x, frames, 2):
            y, *kept = stream(part, *kept)
            parts.append(y)
    assert (stream.parts > 1) == ((kernel - 1) * dilation + 1 > stride)
    close(torch.cat(parts, 2), truth)


@given(
    kind=st.sampled_from(["gru", "lstm", "rnn_tanh", "rnn_relu"]),
    frames=FRAMES,
    batch=st.sampled_from([1, 3]),
    depth=st.integers(1, 2),
    batch_first=st.booleans(),
    bias=st.booleans(),
    projected=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_a_recurrence_over_time_is_torchs(
    kind: Kind, frames: int, batch: int, depth: int, batch_first: bool, bias: bool, projected: bool
) -> None:
    make: Any = {"gru": nn.GRU, "lstm": nn.LSTM}.get(kind, nn.RNN)
    more: dict[str, Any] = {"nonlinearity": kind[4:]} if make is nn.RNN else {}
    if kind == "lstm" and projected:
        more = {"proj_size": 3}
    rnn: Any = double(make(5, 4, num_layers=depth, batch_first=batch_first, bias=bias, **more))
    stream = Unrolled(kind, rnn._flat_weights, depth, False, bias, frames, batch, batch_first).double()
    x = values(batch, CALLS * frames, 5) if batch_first else values(CALLS * frames, batch, 5)
    states = [(depth, batch, more.get("proj_size", 4)), (depth, batch, 4)]
    close(
        streamed(stream, x, 1 if batch_first else 0, frames, *states[: 2 if kind == "lstm" else 1]),
        rnn(x)[0].detach(),
    )


@given(frames=FRAMES, past=st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_padding_is_zeros_first_and_the_last_frames_then(frames: int, past: int) -> None:
    x = values(1, 2, CALLS * frames)
    padded, stream, state = F.pad(x, (past, 0)), StreamPad(2, past, frames), torch.zeros(1, 2, past).double()
    for call in range(CALLS):
        joined, state = stream(x[..., call * frames : (call + 1) * frames], state)
        assert torch.equal(joined, padded[..., call * frames : (call + 1) * frames + past])
    assert torch.equal(state, padded[..., -past:])


def test_a_past_that_is_the_whole_input_is_not_the_input_handed_through() -> None:
    """CompiledModel cannot give an input as an output: an operation stands between, which changes nothing."""
    traced = torch.fx.symbolic_trace(StreamPad(2, 4, 4))
    (out,) = (node for node in traced.graph.nodes if node.op == "output")
    new_state = out.args[0][1]
    assert new_state.target is torch.clamp
    x = values(1, 2, 4)
    assert torch.equal(StreamPad(2, 4, 4)(x, torch.zeros_like(x))[1], x)


@pytest.mark.parametrize("frames", [1, 4])
def test_a_cumulative_sum_goes_on_where_it_was(frames: int) -> None:
    x = values(1, 3, CALLS * frames)
    close(streamed(StreamCumsum(2, frames), x, 2, frames, (1, 3, 1)), torch.cumsum(x, 2))


def test_a_count_goes_on_where_it_was() -> None:
    stream, count, came = StreamCount(), torch.zeros(1), []
    for _ in range(CALLS):
        part, count = stream(count)
        came.append(float(part))
    assert came == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("first_calls", [1, 2, 3])
def test_a_constant_is_another_at_the_first_calls_and_one_ever_after(first_calls: int) -> None:
    table = values(first_calls + 1, 2, 3)
    stream = StreamPositions(table).double()
    calls, came = torch.zeros(first_calls, dtype=torch.float64), []
    for _ in range(first_calls + 3):
        value, calls = stream(calls)
        came.append(value)
    truth = torch.cat([table, table[-1:], table[-1:]])
    close(torch.stack(came), truth)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("offset", [-20.0, 0.0, 20.0])  # a beginning of zeros would be seen beside these
def test_an_extreme_goes_on_where_it_was(largest: bool, frames: int, offset: float) -> None:
    x = offset + values(1, 3, CALLS * frames)
    truth = (torch.cummax(x, 2) if largest else torch.cummin(x, 2)).values
    stream = StreamExtreme(2, frames, largest)
    close(streamed(stream, x, 2, frames, (1, 3, 1), (1, 1, 1)), truth)


def by_hand(x: Tensor, norm: CumulativeNorm) -> Tensor:
    """Every frame by the mean and the variance of all so far."""
    rows = []
    for frame in range(x.shape[1]):
        seen = x[:, : frame + 1]
        rows.append((x[:, frame] - seen.mean()) / torch.sqrt(seen.var(unbiased=False) + norm.eps))
    return torch.stack(rows, 1) * norm.weight + norm.bias


def test_a_cumulative_norm_is_its_definition() -> None:
    norm: Any = double(CumulativeNorm(6))
    x = 3.0 + values(1, 20, 6)
    close(norm(x).detach(), by_hand(x, norm).detach())
