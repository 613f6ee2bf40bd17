"""models.custom.causal.conv_rules: each convolution has its past or its tail as a state, or is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.custom.causal.nets import Do, proven_states, refusal

States = list[tuple[str, tuple[int, ...]]]


def two_dimensional(x: Tensor, conv: nn.Module, back: nn.Module) -> Tensor:
    y = F.pad(x.unsqueeze(1), (2, 0))  # [1, 1, 8, frames]
    return back(torch.relu(conv(y))).squeeze(1)


def shared_twice(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(F.pad(conv(F.pad(x, (2, 0))), (2, 0)))


def self_padded(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(x)[:, :, : x.shape[2]]


def self_padded_over_two_axes(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(x.unsqueeze(1))[..., : x.shape[2]].squeeze(1)


def without_batch(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(x[0])[..., : x.shape[2]].unsqueeze(0)


def from_a_buffer(x: Tensor) -> Tensor:
    """A filter of fixed taps, as a function."""
    return F.conv1d(F.pad(x, (2, 0)), torch.linspace(0.2, 1.0, 3).reshape(1, 1, 3).repeat(8, 1, 1), groups=8)


def up_over_two_axes(x: Tensor, down: nn.Module, up: nn.Module) -> Tensor:
    y = down(x.unsqueeze(1))  # [1, 3, 4, frames]
    return up(y)[..., : x.shape[2]].squeeze(1)


def up_and_down(x: Tensor, up: nn.Module, down: nn.Module) -> Tensor:
    return down(F.pad(up(x)[..., : 2 * x.shape[2]], (2, 0)))


def upsampled(layer: nn.Module) -> nn.Module:
    return Do(lambda x, c: c(x)[:, :, : x.shape[2]], layer)


class CausalConv(nn.Conv1d):
    """As many write it: a subclass that pads in front."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class ChompConv(nn.Conv1d):
    """And others: padded on both sides, the surplus cut off behind."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., : -self.padding[0]]


LAYERS: dict[str, tuple[Callable[[], nn.Module], States]] = {
    "padded on both sides, cut behind": (
        lambda: Do(self_padded, nn.Conv1d(8, 8, 5, padding=4)),
        [("body_layer0_past", (1, 8, 4))],
    ),
    "a causal subclass": (
        lambda: nn.Sequential(CausalConv(8, 8, 3, dilation=3), nn.ReLU(), CausalConv(8, 8, 2)),
        [("pad_past", (1, 8, 6)), ("pad_1_past", (1, 8, 1))],
    ),
    "a subclass that cuts": (lambda: ChompConv(8, 8, 3, padding=4, dilation=2), [("conv1d_past", (1, 8, 4))]),
    "weight norm": (
        lambda: Do(self_padded, nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 3, padding=2))),
        [("body_layer0_past", (1, 8, 2))],
    ),
    "depthwise": (
        lambda: Do(lambda x, c: c(F.pad(x, (9, 0))), nn.Conv1d(8, 8, 10, groups=8)),
        [("pad_past", (1, 8, 9))],
    ),
    "called twice": (
        lambda: Do(shared_twice, nn.Conv1d(8, 8, 3)),
        [("pad_past", (1, 8, 2)), ("pad_1_past", (1, 8, 2))],
    ),
    "over two axes": (
        lambda: Do(two_dimensional, nn.Conv2d(1, 4, 3, padding=(1, 0)), nn.Conv2d(4, 1, 1)),
        [("pad_past", (1, 1, 8, 2))],
    ),
    "over two axes, padded by itself": (
        lambda: Do(self_padded_over_two_axes, nn.Conv2d(1, 1, 3, padding=(1, 2))),
        [("body_layer0_past", (1, 1, 8, 2))],
    ),
    "pointwise": (
        lambda: nn.Sequential(nn.PReLU(), nn.Conv1d(8, 8, 1), nn.ELU(), nn.Dropout(0.3), nn.Hardswish()),
        [],
    ),
    "padding same where nothing is padded": (lambda: nn.Conv1d(8, 8, 1, padding="same"), []),
    "padding valid": (
        lambda: Do(lambda x, c: c(F.pad(x, (4, 0))), nn.Conv1d(8, 8, 5, padding="valid")),
        [("pad_past", (1, 8, 4))],
    ),
    "no batch axis": (lambda: Do(without_batch, nn.Conv1d(8, 8, 3, padding=2)), [("body_layer0_past", (1, 8, 2))]),
    "a filter of fixed taps": (lambda: Do(from_a_buffer), [("pad_past", (1, 8, 2))]),
    "transposed, with a tail": (lambda: upsampled(nn.ConvTranspose1d(8, 8, 3)), [("body_layer0_tail", (2, 8))]),
    "transposed, in groups": (
        lambda: upsampled(nn.ConvTranspose1d(8, 8, 3, groups=2)),
        [("body_layer0_tail", (2, 8))],
    ),
    "transposed, with dilation": (
        lambda: upsampled(nn.ConvTranspose1d(8, 8, 3, dilation=2)),
        [("body_layer0_tail", (4, 8))],
    ),
    "transposed, in groups with dilation and stride": (
        lambda: Do(up_and_down, nn.ConvTranspose1d(8, 8, 3, 2, groups=4, dilation=3), nn.Conv1d(8, 8, 4, 2)),
        [("body_layer0_tail", (3, 16)), ("pad_past", (1, 8, 2))],
    ),
    "transposed, over two axes": (
        lambda: Do(up_over_two_axes, nn.Conv2d(1, 3, (2, 1), (2, 1)), nn.ConvTranspose2d(3, 1, (4, 3), (2, 1), (1, 0))),
        [("body_layer1_past", (1, 3, 4, 2))],
    ),
    "transposed, over features alone": (
        lambda: Do(up_over_two_axes, nn.Conv2d(1, 3, (2, 1), (2, 1)), nn.ConvTranspose2d(3, 1, (2, 1), (2, 1))),
        [],
    ),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_convolution_keeps_what_it_needs_and_says_what_the_offline_net_says(layer: str) -> None:
    body, states = LAYERS[layer]
    assert proven_states(body(), 1, 3) == states


def weights_from_audio(x: Tensor) -> Tensor:
    alike = F.conv1d(x, x.permute(2, 1, 0), None)  # [1, frames, frames]
    return (alike @ x.transpose(1, 2)).transpose(1, 2)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "padding on both sides": (
        lambda: nn.Sequential(nn.Conv1d(8, 8, 3, padding=1)),
        r"'body.0' \(Conv1d\): kernel 3, padding 1 on both sides: its output looks 1 frames ahead; pad 2 frames",
    ),
    "padding same": (
        lambda: nn.Conv1d(8, 8, 5, padding="same"),
        r"'body' \(Conv1d\): kernel 5, padding 2 on both sides: its output looks 2 frames ahead; pad 4 frames in front",
    ),
    "padding same that is one more behind": (
        lambda: nn.Conv1d(8, 8, 4, padding="same"),
        r"'body' \(Conv1d\): its input is padded by 2 frames behind: its output looks at later frames",
    ),
    "no padding": (
        lambda: nn.Conv1d(8, 8, 3),
        r"'body' \(Conv1d\): kernel 3 has no padding in front: it needs 2 frames",
    ),
    "padding on both sides by a function": (
        lambda: Do(lambda x, c: c(F.pad(x, (1, 1))), nn.Conv1d(8, 8, 3)),
        r"'body.layer0' \(Conv1d\): its input is padded by 1 frames behind: its output looks at later frames",
    ),
    "padding behind": (
        lambda: Do(lambda x, c: c(F.pad(x, (0, 2))), nn.Conv1d(8, 8, 3)),
        r"'body.layer0' \(Conv1d\): its input is padded by 2 frames behind",
    ),
    "padded by a function and by itself": (
        lambda: Do(lambda x, c: c(F.pad(x, (2, 0)))[..., : x.shape[2]], nn.Conv1d(8, 8, 3, padding=2)),
        r"'body.layer0' \(Conv1d\): pads time that was padded before; pad once, by the sum",
    ),
    "padding that goes round": (
        lambda: Do(self_padded, nn.Conv1d(8, 8, 3, padding=2, padding_mode="circular")),
        r"'body.layer0' \(Conv1d\): pads time with 'circular'.*a stream begins with zeros",
    ),
    "a weight from the audio": (
        lambda: Do(weights_from_audio),
        r"conv1d in 'body'.*its weight is computed from the audio",
    ),
    "transposed, beginning early": (
        lambda: nn.ConvTranspose1d(8, 8, 3, padding=1),
        r"'body' \(ConvTranspose1d\): padding cuts its first 1 samples off, so that the output runs ahead",
    ),
    "transposed, with holes": (
        lambda: Do(lambda x, c: c(x), nn.ConvTranspose1d(8, 8, 1, stride=2, output_padding=1)),
        r"'body.layer0' \(ConvTranspose1d\): kernel 1 is shorter than stride 2",
    ),
    "transposed, of padded frames": (
        lambda: Do(lambda x, c: c(F.pad(x, (1, 0)))[..., 1 : x.shape[2] + 1], nn.ConvTranspose1d(8, 8, 3)),
        r"'body.layer0' \(ConvTranspose1d\): its input is padded in time; slice the surplus off first",
    ),
    "transposed over two axes, strided along time": (
        lambda: Do(
            lambda x, c: c(x.unsqueeze(1)).squeeze(1)[..., : x.shape[2]], nn.ConvTranspose2d(1, 1, (1, 2), (1, 2))
        ),
        r"'body.layer0' \(ConvTranspose2d\): has stride 2 along time; only conv_transpose1d has a stream",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_convolution_that_has_no_stream_is_refused_by_name_and_reason(case: str) -> None:
    body, message = REFUSED[case]
    assert re.search(message, came := refusal(body())), came
