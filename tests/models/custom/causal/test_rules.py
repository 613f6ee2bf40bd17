"""models.custom.causal.rules: each function that looks back has its past as a state, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.common.errors import ConversionError
from models.custom.causal.convert import to_external_state
from models.custom.causal.proof import prove
from tests.models.custom.causal.nets import Do, Wrapped, entry_for, proven_states

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
    "padding features": (lambda: Do(lambda x: F.pad(x, (0, 0, 1, 1))[:, 1:-1]), []),
    "zeros joined in front": (lambda: Do(zeros_in_front, nn.Conv1d(8, 8, 3)), [("cat_past", (1, 8, 2))]),
    "joined features": (lambda: Do(lambda x: torch.cat([x, 2 * x], 1)[:, 4:12]), []),
    "a delay": (lambda: Do(delayed), [("pad_past", (1, 8, 2))]),
    "a delay cut twice": (lambda: Do(delayed_and_cut_later), [("pad_past", (1, 8, 3))]),
    "padding behind, cut again": (lambda: Do(cut_after_padding_behind), []),
    "cumulative sum": (lambda: Do(lambda x: torch.cumsum(x, dim=-1) / 50.0), [("cumsum_sum", (1, 8, 1))]),
    "cumulative sum as a method": (lambda: Do(lambda x: x.cumsum(2) / 50.0), [("cumsum_sum", (1, 8, 1))]),
    "cumulative sum over features": (lambda: Do(lambda x: torch.cumsum(x, dim=1) / 8.0), []),
    "counting frames": (lambda: Do(counted), [("arange_count", (1,))]),
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


@pytest.mark.parametrize("hops", [1, 3, 8])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_keeps_what_it_needs_and_says_what_the_offline_net_says(rule: str, hops: int) -> None:
    body, states = RULES[rule]
    assert proven_states(body(), hops) == states


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


def counted_too_far(x: Tensor) -> Tensor:
    return F.pad(x, (1, 0))[..., 1:] * torch.arange(x.shape[-1] + 1, dtype=x.dtype)[1:]


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "reflected padding": (
        lambda: Do(lambda x, c: c(F.pad(x, (2, 0), mode="reflect")), nn.Conv1d(8, 8, 3)),
        r"pad in 'body'.*pads time with reflect",
    ),
    "padding with ones": (
        lambda: nn.Sequential(nn.ConstantPad1d((2, 0), 1.0), nn.Conv1d(8, 8, 3)),
        r"'body.0' \(ConstantPad1d\): pads time with constant 1; a stream begins with zeros",
    ),
    "a negative padding": (
        lambda: Do(lambda x: F.pad(x, (1, -1))),
        r"pad in 'body'.*cuts frames off with a padding of 1 and -1; use a slice",
    ),
    "padded twice": (
        lambda: Do(lambda x, c: c(F.pad(torch.tanh(F.pad(x, (1, 0))), (1, 0))), nn.Conv1d(8, 8, 3)),
        r"pad in 'body'.*pads time that was padded before; pad once, by the sum",
    ),
    "two axes padded at once": (
        lambda: Do(lambda x, c: c(F.pad(x, (2, 0, 1, 0))), nn.Conv1d(9, 8, 3)),
        r"pad in 'body'.*pads time and another axis at once; pad in two steps",
    ),
    "ones joined in front": (
        lambda: Do(ones_in_front, nn.Conv1d(8, 8, 3)),
        r"cat in 'body'.*joins values along time; only zeros in front of an unpadded value have a stream",
    ),
    "a recording joined to itself": (lambda: Do(joined_in_time), r"joins values along time"),
    "cut in front": (
        lambda: Do(lambda x: F.pad(x[:, :, 1:], (0, 1))),
        r"getitem in 'body'.*cuts 1 frames that were not padded: the output would run ahead",
    ),
    "cut by a part of its length": (
        lambda: Do(cut_by_its_length),
        r"getitem in 'body'.*cuts \(3, 0\) frames of a short recording and \(4, 0\) of a long one",
    ),
    "a cumulative sum of padded frames": (
        lambda: Do(padded_sum),
        r"cumsum in 'body'.*its input is padded in time; slice the surplus off first",
    ),
    "counting more frames than there are": (
        lambda: Do(counted_too_far),
        r"arange in 'body'.*counts another number of frames than the recording has",
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
    "moved round": (lambda: Do(lambda x: x.roll(1, 2)), r"roll in 'body'.*depends on later audio"),
    "a running maximum": (
        lambda: Do(lambda x: torch.cummax(x, 2)[0]),
        r"getitem in 'body'.*depends on more of the past than a stream carries for it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_function_that_has_no_stream_is_refused_by_name_and_reason(case: str) -> None:
    body, message = REFUSED[case]
    entry = entry_for(Wrapped(body()))
    with pytest.raises(ConversionError, match=message):
        prove(entry, to_external_state(entry, 1))


def test_a_module_that_is_called_twice_has_its_weights_in_the_stream_twice_and_shares_them() -> None:
    linear = nn.Conv1d(8, 8, 1)
    graph = to_external_state(entry_for(Wrapped(Do(lambda x, c: c(torch.relu(c(x))), linear))), 1).graph
    twins = [m for name, m in graph.named_modules() if name.startswith("net_body_layer0")]
    assert len(twins) == 2
    assert twins[0] is not twins[1]
    assert twins[0].weight is twins[1].weight is linear.weight
