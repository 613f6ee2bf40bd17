"""models.custom.causal.rules: each operation that looks back has its past as a state, or is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.custom.causal.convert import to_external_state
from models.custom.causal.layers import CumulativeNorm
from models.custom.causal.proof import LIMIT, prove
from models.custom.entry import CustomEntry
from models.geometry import TensorSpec
from models.layers.front_end_spec import FrontEndSpec
from tests.models.custom.causal.nets import HOP, Do, Wrapped, entry_for, proven_states, refusal

States = list[tuple[str, tuple[int, ...]]]


def zeros_in_front(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(torch.cat([x.new_zeros(x.shape[0], x.shape[1], 2), x], 2))


def frames_as_batch(x: Tensor, linear: nn.Module) -> Tensor:
    batch, features, frames = x.shape
    y = linear(x.permute(0, 2, 1).reshape(batch * frames, features))
    return y.view(batch, frames, features).transpose(1, 2)


def delayed(x: Tensor) -> Tensor:
    return x + F.pad(x, (2, 0))[..., :-2]


def delayed_and_cut_later(x: Tensor) -> Tensor:
    y = torch.tanh(F.pad(x, (3, 0)))
    return x + y[:, :, 1:][..., :-2]


def cut_after_padding_behind(x: Tensor) -> Tensor:
    return F.pad(x, (0, 3))[..., :-3]


def pooled_and_repeated(x: Tensor, pool: nn.Module) -> Tensor:
    return pool(F.interpolate(x, scale_factor=2, mode="nearest"))


def counted(x: Tensor) -> Tensor:
    return x / torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)


def gated(x: Tensor, conv: nn.Module) -> Tensor:
    one, two = conv(x).chunk(2, 1)
    return torch.tanh(one) * torch.sigmoid(two)


def negatively_padded(x: Tensor) -> Tensor:
    return x + F.pad(x, (1, -1))


def positions_in_time(x: Tensor) -> Tensor:
    """A window over the first hops, which is one ever after."""
    ramp = torch.clamp(torch.arange(x.shape[-1], dtype=x.dtype) / 3.0, max=1.0)
    return x * ramp


def mean_so_far(x: Tensor) -> Tensor:
    """Two who count: one state."""
    count = torch.arange(1, x.shape[2] + 1, dtype=x.dtype)
    mean = torch.cumsum(x, 2) / count
    return (x - mean) * (1.0 + 0.1 * torch.arange(x.shape[2]))


def counted_on(x: Tensor) -> Tensor:
    return F.pad(x, (1, 0))[..., 1:] * torch.arange(x.shape[-1] + 1, dtype=x.dtype)[1:]


def attention_in_a_frame(x: Tensor) -> Tensor:
    y = x.permute(0, 2, 1).unsqueeze(-1)  # [1, frames, 8, 1]
    return F.scaled_dot_product_attention(y, y, 2 * y).squeeze(-1).permute(0, 2, 1)


def attention_to_the_last_frames(x: Tensor) -> Tensor:
    keys = F.pad(x, (3, 0)).unfold(2, 4, 1)  # [1, 8, frames, 4]
    weights = torch.softmax((x.unsqueeze(-1) * keys).sum(1), -1)  # [1, frames, 4]
    return (weights.unsqueeze(1) * keys).sum(-1)


def reflected_features(x: Tensor) -> Tensor:
    return F.pad(x.transpose(1, 2), (2, 0), mode="reflect").transpose(1, 2)[:, 1:9]


def every_other(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest").cumsum(2)[..., ::2] / 50.0


def cumulative(x: Tensor, norm: nn.Module) -> Tensor:
    return norm(x.transpose(1, 2)).transpose(1, 2)


def set_in_place(x: Tensor) -> Tensor:
    """As many write a delay: zeros, filled from the second frame on."""
    y = torch.zeros_like(x)
    y[..., 1:] = x[..., :-1]
    return x + y


class Learned(nn.Module):
    """A parameter that forward reads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


# What a body keeps from one call to the next, and nothing more.
RULES: dict[str, tuple[Callable[[], nn.Module], States]] = {
    "nothing": (nn.Identity, []),
    "padding in front": (
        lambda: Do(lambda x, c: c(F.pad(x, (4, 0))), nn.Conv1d(8, 8, 3, dilation=2)),
        [("pad_past", (1, 8, 4))],
    ),
    "padding by a layer": (
        lambda: nn.Sequential(nn.ConstantPad1d((2, 0), 0.0), nn.Conv1d(8, 8, 3)),
        [("body_0_past", (1, 8, 2))],
    ),
    "padding by a layer, twice": (
        lambda: nn.Sequential(nn.ConstantPad1d((1, 0), 0.0), nn.ConstantPad1d((2, 0), 0.0), nn.Conv1d(8, 8, 4)),
        [("body_0_past", (1, 8, 1)), ("body_1_past", (1, 8, 3))],
    ),
    "padded twice": (
        lambda: Do(lambda x, c: c(F.pad(torch.tanh(F.pad(x, (1, 0))), (1, 0))), nn.Conv1d(8, 8, 3)),
        [("pad_past", (1, 8, 1)), ("pad_1_past", (1, 8, 2))],
    ),
    "two axes padded at once": (
        lambda: Do(lambda x, c: c(F.pad(x, (2, 0, 1, 0))), nn.Conv1d(9, 8, 3)),
        [("pad_past", (1, 9, 2))],
    ),
    "a negative padding": (lambda: Do(negatively_padded), [("pad_past", (1, 8, 1))]),
    "counting from the second frame": (lambda: Do(counted_on), [("pad_past", (1, 8, 1)), ("mul_count", (1,))]),
    "cumulative norm of a frame alone": (
        lambda: Do(lambda x, n: n(x.permute(2, 0, 1)).permute(1, 2, 0), CumulativeNorm(8)),
        [],
    ),
    "padding features": (lambda: Do(lambda x: F.pad(x, (0, 0, 1, 1))[:, 1:-1]), []),
    "zeros joined in front": (lambda: Do(zeros_in_front, nn.Conv1d(8, 8, 3)), [("cat_past", (1, 8, 2))]),
    "joined features": (lambda: Do(lambda x: torch.cat([x, 2 * x], 1)[:, 4:12]), []),
    "a delay": (lambda: Do(delayed), [("pad_past", (1, 8, 2))]),
    "a delay cut twice": (lambda: Do(delayed_and_cut_later), [("pad_past", (1, 8, 3))]),
    "padding behind, cut again": (lambda: Do(cut_after_padding_behind), []),
    "cumulative sum": (lambda: Do(lambda x: torch.cumsum(x, dim=-1) / 50.0), [("cumsum_sum", (1, 8, 1))]),
    "cumulative sum as a method": (lambda: Do(lambda x: x.cumsum(2) / 50.0), [("cumsum_sum", (1, 8, 1))]),
    "cumulative sum over features": (lambda: Do(lambda x: torch.cumsum(x, dim=1) / 8.0), []),
    "a running maximum": (
        lambda: Do(lambda x: torch.cummax(x, 2)[0]),
        [("cummax_extreme", (1, 8, 1)), ("cummax_begun", (1, 1, 1))],
    ),
    "a running minimum": (
        lambda: Do(lambda x: torch.cummin(x, -1).values),
        [("cummin_extreme", (1, 8, 1)), ("cummin_begun", (1, 1, 1))],
    ),
    "counting frames": (lambda: Do(counted), [("div_count", (1,))]),
    "zeros that are filled": (lambda: Do(set_in_place), [("cat_past", (1, 8, 1))]),
    "two who count": (lambda: Do(mean_so_far), [("cumsum_sum", (1, 8, 1)), ("div_count", (1,))]),
    "a beginning that is another": (lambda: Do(positions_in_time), [("mul_calls", (3,))]),
    "cumulative norm": (
        lambda: Do(cumulative, CumulativeNorm(8)),
        [("cumsum_sum", (1, 1, 1)), ("div_count", (1,)), ("cumsum_1_sum", (1, 1, 1))],
    ),
    "attention inside a frame": (lambda: Do(attention_in_a_frame), []),
    "attention to the last frames": (lambda: Do(attention_to_the_last_frames), [("pad_past", (1, 8, 3))]),
    "features reflected": (lambda: Do(reflected_features), []),
    "every other of two a hop": (lambda: Do(every_other), [("cumsum_sum", (1, 8, 1))]),
    "layer norm": (lambda: Do(lambda x, n: n(x.transpose(1, 2)).transpose(1, 2), nn.LayerNorm(8)), []),
    "batch norm": (lambda: nn.BatchNorm1d(8), []),
    "residual": (
        lambda: Do(lambda x, c: x + torch.tanh(c(F.pad(x, (2, 0)))), nn.Conv1d(8, 8, 3)),
        [("pad_past", (1, 8, 2))],
    ),
    "gated": (lambda: Do(gated, nn.Conv1d(8, 16, 1)), []),
    "frames as batch": (lambda: Do(frames_as_batch, nn.Linear(8, 8)), []),
    "repeated and pooled": (lambda: Do(pooled_and_repeated, nn.MaxPool1d(2)), []),
    "softmax over features": (lambda: nn.Softmax(1), []),
    "a parameter": (Learned, []),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_keeps_what_it_needs_and_says_what_the_offline_net_says(rule: str) -> None:
    body, states = RULES[rule]
    hops = (1, 3) if "beginning" not in rule else (1,)  # a call of several hops is another beginning
    assert proven_states(body(), *hops) == states


def test_calls_of_many_hops_are_the_same_stream() -> None:
    body = nn.Sequential(Do(delayed_and_cut_later), Do(mean_so_far), Do(attention_to_the_last_frames))
    assert len(proven_states(body, 2, 8)) == 4


def attention(x: Tensor) -> Tensor:
    y = x.transpose(1, 2)
    return (torch.softmax(y @ x, -1) @ y).transpose(1, 2)


def shifted_sum(x: Tensor) -> Tensor:
    return F.pad(x, (1, 0)) + F.pad(x, (0, 1))


def joined_in_time(x: Tensor) -> Tensor:
    return torch.cat([x, x], 2)


def ones_in_front(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(torch.cat([x.new_ones(x.shape[0], x.shape[1], 2), x], 2))


def cut_by_its_length(x: Tensor) -> Tensor:
    return F.pad(x, (40, 0))[:, :, x.shape[2] // 4 :]


def padded_sum(x: Tensor) -> Tensor:
    return torch.cumsum(F.pad(x, (2, 0)), 2)[..., 2:]


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "reflected padding": (
        lambda: Do(lambda x, c: c(F.pad(x, (2, 0), mode="reflect")), nn.Conv1d(8, 8, 3)),
        r"pad in 'body'.*pads time with 'reflect'",
    ),
    "padding with ones": (
        lambda: nn.Sequential(nn.ConstantPad1d((2, 0), 1.0), nn.Conv1d(8, 8, 3)),
        r"'body.0' \(ConstantPad1d\): pads time with 1; a stream begins with zeros",
    ),
    "ones joined in front": (
        lambda: Do(ones_in_front, nn.Conv1d(8, 8, 3)),
        r"cat in 'body'.*joins values along time; only zeros in front of an unpadded value have a stream",
    ),
    "a recording joined to itself": (lambda: Do(joined_in_time), r"joins values along time"),
    "cut in front": (
        lambda: Do(lambda x: F.pad(x[:, :, 1:], (0, 1))),
        r"slice in 'body'.*cuts 1 frames that were not padded: the output would run ahead",
    ),
    "cut by a part of its length": (
        lambda: Do(cut_by_its_length),
        r"slice in 'body'.*cuts \(3, 0\) frames of a short recording and \(4, 0\) of a long one",
    ),
    "a cumulative sum of padded frames": (
        lambda: Do(padded_sum),
        r"cumsum in 'body'.*its input is padded in time; slice the surplus off first",
    ),
    "frames padded that are no zeros": (
        lambda: Do(lambda x, c: c(F.pad(torch.sigmoid(F.pad(x, (1, 0))), (1, 0))), nn.Conv1d(8, 8, 3)),
        r"pad in 'body'.*pads time in front of frames that are no zeros; pad once, by the sum",
    ),
    "more cut than was padded, by a padding": (
        lambda: Do(lambda x: F.pad(x, (-1, 1))),
        r"pad in 'body'.*cuts 1 frames that were not padded: the output would run ahead",
    ),
    "positions of a maximum": (
        lambda: Do(lambda x: x * torch.cummax(x, 2)[1]),
        r"cummax in 'body'.*its indices are read",
    ),
    "positions that go on for ever": (
        lambda: Do(lambda x: x * torch.sin(torch.arange(x.shape[2]))),
        r"mul in 'body'.*depends on the position in the recording in a way that goes on for ever",
    ),
    "instance norm": (
        lambda: nn.InstanceNorm1d(8),
        r"'body' \(InstanceNorm1d\): its value at a frame depends on later",
    ),
    "group norm": (lambda: nn.GroupNorm(1, 8), r"'body' \(GroupNorm\): its value at a frame depends on later audio"),
    "attention over time": (
        lambda: Do(
            lambda x: F.scaled_dot_product_attention(
                x.transpose(1, 2), x.transpose(1, 2), x.transpose(1, 2), is_causal=True
            ).transpose(1, 2)
        ),
        r"scaled_dot_product_attention in 'body'.*frames look at all frames so far",
    ),
    "every other frame of one a hop": (
        lambda: Do(lambda x: F.interpolate(x[..., ::2], size=x.shape[2])),
        r"slice in 'body'.*takes every 2th frame of 1 a hop|gives 0.6 frames per hop",
    ),
    "padded to a multiple": (
        lambda: Do(lambda x: F.pad(x, (0, -x.shape[2] % 4))[..., : x.shape[2]]),
        r"pad in 'body'.*pads the recording up to a length of its own|what is computed depends on how long",
    ),
    "a loop over frames": (
        lambda: Do(lambda x: torch.stack([x[..., i] * (i + 1.0) for i in range(x.shape[2])], 2)),
        r"loop over frames",
    ),
    "softmax over time": (lambda: nn.Softmax(2), r"'body' \(Softmax\): its value at a frame depends on later audio"),
    "mean over time": (
        lambda: Do(lambda x: x - x.mean(2, keepdim=True)),
        r"mean in 'body'.*folds the whole recording into one value.*net.form = 'window'",
    ),
    "attention": (
        lambda: Do(attention),
        r"in 'body'.*grows along 2 axes with the recording: frames look at all frames",
    ),
    "padded differently": (
        lambda: Do(shifted_sum),
        r"add in 'body'.*puts values together that are padded differently",
    ),
    "pooled without padding": (
        lambda: Do(lambda x: F.avg_pool1d(x, 3, stride=1)),
        r"avg_pool1d in 'body'.*gives 2 frames fewer than the recording has; pad 2 frames in front",
    ),
    "turned round": (lambda: Do(lambda x: x.flip(2)), r"flip in 'body'.*depends on later audio"),
    "moved round": (
        lambda: Do(lambda x: x.roll(1, 2)),
        r"roll in 'body'.*cuts \(11, 0\) frames of a short recording and \(16, 0\) of a long",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_function_that_has_no_stream_is_refused_by_name_and_reason(case: str) -> None:
    body, message = REFUSED[case]
    assert re.search(message, came := refusal(body())), came


class Scores(nn.Module):
    """Logits of two labels from log-mel frames [1, frames, 8 bands]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def listener(n_fft: int) -> CustomEntry:
    return entry_for(
        Scores(),
        task="classifier",
        labels=("a", "b"),
        output=TensorSpec("scores", (1, 2), (0.0, 1.0), ""),
        activation="softmax",
        front_end=FrontEndSpec("log_mel", 16000, n_fft, n_fft, HOP, bands=8),
    )


@pytest.mark.parametrize("n_fft", [HOP, 128])
def test_the_front_end_keeps_the_samples_that_its_frames_reach_back_to(n_fft: int) -> None:
    entry = listener(n_fft)
    stream = to_external_state(entry, 1)
    assert prove(entry, stream) < LIMIT
    assert [(s.name, s.shape) for s in stream.states] == ([("pad_past", (1, 128 - HOP))] if n_fft > HOP else [])
    assert any("log" in name for name in stream.fp32_modules)
    assert any("softmax" in name for name in stream.fp32_modules)


def test_a_weight_that_is_used_twice_is_one_tensor_in_the_stream() -> None:
    body = Do(lambda x, c: c(torch.relu(c(x))), nn.Conv1d(8, 8, 1))
    stream = to_external_state(entry_for(Wrapped(body)), 1)
    for graph in (stream.graph, stream.stream):
        weights = [value for value in graph.state_dict().values() if tuple(value.shape) == (8, 8, 1)]
        assert len(weights) == 1
