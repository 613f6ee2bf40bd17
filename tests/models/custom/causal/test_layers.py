"""models.custom.causal.layers: each layer, call by call from the zero state, is torch's over the whole recording."""

from __future__ import annotations

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
    StreamCumulativeNorm,
    StreamFeatures,
    StreamPad,
    StreamRnn,
    UnrolledRnn,
)
from models.layers.front_end import CausalFeatures
from models.layers.front_end_spec import FrontEndSpec

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


@given(frames=FRAMES, kernel=st.integers(2, 9), stride=st.integers(1, 4), bias=st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_transposed_convolution_with_its_tail_is_the_whole_one(
    frames: int, kernel: int, stride: int, bias: bool
) -> None:
    kernel = max(kernel, stride)
    conv = double(nn.ConvTranspose1d(3, 4, kernel, stride=stride, bias=bias))
    stream = StreamConvTranspose(conv, frames).double()
    x = values(1, 3, CALLS * frames)
    truth = conv(x)[..., : CALLS * frames * stride].detach()
    states = [stream.state_shape] if stream.parts > 1 else []
    parts, kept = [], [torch.zeros(shape, dtype=torch.float64) for shape in states]
    with torch.no_grad():
        for part in torch.split(x, frames, 2):
            y, *kept = stream(part, *kept)
            parts.append(y)
    assert (stream.parts > 1) == (kernel > stride)
    close(torch.cat(parts, 2), truth)


@given(
    kind=st.sampled_from([nn.GRU, nn.LSTM]),
    frames=FRAMES,
    batch=st.sampled_from([1, 3]),
    depth=st.integers(1, 2),
    frame_axis=st.sampled_from([0, 1]),
    bias=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_a_recurrence_over_time_is_torchs(
    kind: type[nn.GRU | nn.LSTM], frames: int, batch: int, depth: int, frame_axis: int, bias: bool
) -> None:
    rnn = double(kind(5, 4, num_layers=depth, batch_first=frame_axis == 1, bias=bias))
    stream = StreamRnn(rnn, frames, batch, frame_axis).double()
    assert stream.state_shape == (depth * batch, 4)
    x = values(CALLS * frames, batch, 5) if frame_axis == 0 else values(batch, CALLS * frames, 5)
    states = [stream.state_shape] * (2 if kind is nn.LSTM else 1)
    close(streamed(stream, x, frame_axis, frames, *states), rnn(x)[0].detach())


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("frame_axis", [0, 1])
def test_a_recurrence_inside_a_frame_is_torchs_and_keeps_nothing(
    kind: type[nn.GRU | nn.LSTM], both_ways: bool, frame_axis: int
) -> None:
    rnn = double(kind(3, 4, num_layers=2, bidirectional=both_ways, batch_first=frame_axis == 1))
    x = values(6, 2, 3) if frame_axis == 0 else values(2, 6, 3)
    unrolled = UnrolledRnn(rnn, 6, 2, frame_axis).double()
    with torch.no_grad():
        (first,) = unrolled(x)
        (second,) = unrolled(x)
    close(first, rnn(x)[0].detach())
    assert torch.equal(first, second)


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


@pytest.mark.parametrize("frames", [1, 4])
def test_a_count_goes_on_where_it_was(frames: int) -> None:
    stream, count, came = StreamCount(3.0, 2.0, frames), torch.zeros(1), []
    for _ in range(CALLS):
        part, count = stream(count)
        came.append(part)
    assert torch.equal(torch.cat(came), 3.0 + 2.0 * torch.arange(CALLS * frames))


def by_hand(x: Tensor, norm: CumulativeNorm) -> Tensor:
    """Every frame by the mean and the variance of all so far."""
    rows = []
    for frame in range(x.shape[1]):
        seen = x[:, : frame + 1]
        rows.append((x[:, frame] - seen.mean()) / torch.sqrt(seen.var(unbiased=False) + norm.eps))
    return torch.stack(rows, 1) * norm.weight + norm.bias


@pytest.mark.parametrize("frames", [1, 4])
def test_a_cumulative_norm_is_its_definition_whole_and_in_parts(frames: int) -> None:
    norm = double(CumulativeNorm(6))
    x = 3.0 + values(1, CALLS * frames, 6)
    truth = by_hand(x, norm).detach()
    close(norm(x).detach(), truth)
    close(streamed(StreamCumulativeNorm(norm, frames).double(), x, 1, frames, (1, 3)), truth)


@pytest.mark.parametrize("kind", ["log_mel", "mfcc", "stft_magnitude"])
@pytest.mark.parametrize("frames", [1, 3])
def test_the_front_end_by_calls_is_the_causal_one(kind: str, frames: int) -> None:
    spec = FrontEndSpec(kind, 16000, 128, 128, 32, bands=16, coefficients=8)
    samples = 0.1 * values(1, CALLS * frames * 32)
    stream = StreamFeatures(spec, frames).double()
    assert stream.past == 96
    parts, past = [], torch.zeros(1, 96, dtype=torch.float64)
    with torch.no_grad():
        for part in torch.split(samples, frames * 32, 1):
            features, past = stream(part, past)
            parts.append(features)
        whole = CausalFeatures(spec).double()(samples)
    close(torch.cat(parts, 1), whole)
