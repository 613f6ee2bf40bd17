"""models.custom.causal.layer_rules: each layer that looks back has its past as a state, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.common.errors import ConversionError
from models.custom.causal.convert import to_external_state
from models.custom.causal.layers import CumulativeNorm
from models.custom.causal.proof import LIMIT, prove
from models.custom.entry import CustomEntry
from models.geometry import TensorSpec
from models.layers.front_end_spec import FrontEndSpec
from tests.models.custom.causal.nets import HOP, Do, Wrapped, entry_for, over_frames, proven_states

States = list[tuple[str, tuple[int, ...]]]


def begins_with_zeros(x: Tensor, gru: nn.Module) -> Tensor:
    y, _ = gru(x.transpose(1, 2), torch.zeros(1, 1, 8))
    return y.transpose(1, 2)


def frames_first(x: Tensor, gru: nn.Module) -> Tensor:
    y, _ = gru(x.permute(2, 0, 1))
    return y.permute(1, 2, 0)


def two_dimensional(x: Tensor, conv: nn.Module, back: nn.Module) -> Tensor:
    y = F.pad(x.unsqueeze(1), (2, 0))  # [1, 1, 8, frames]
    return back(torch.relu(conv(y))).squeeze(1)


def along_features(x: Tensor, gru: nn.Module, back: nn.Module) -> Tensor:
    y = x.transpose(1, 2).reshape(-1, 8, 1)  # [frames, 8, 1]: a recurrence inside each frame
    y, _ = gru(y)
    return back(y).reshape(1, -1, 8).transpose(1, 2)


def cumulative(x: Tensor, norm: nn.Module) -> Tensor:
    return norm(x.transpose(1, 2)).transpose(1, 2)


def shared_twice(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(F.pad(conv(F.pad(x, (2, 0))), (2, 0)))


def self_padded(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(x)[:, :, : x.shape[2]]


class CausalConv(nn.Conv1d):
    """As many write it: a subclass that pads in front."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class ChompConv(nn.Conv1d):
    """And others: padded on both sides, the surplus cut off behind."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., : -self.padding[0]]


LAYERS: dict[str, tuple[Callable[[], nn.Module], States]] = {
    "conv padded on both sides, cut behind": (
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
    "one conv called twice": (
        lambda: Do(shared_twice, nn.Conv1d(8, 8, 3)),
        [("pad_past", (1, 8, 2)), ("pad_1_past", (1, 8, 2))],
    ),
    "conv2d": (
        lambda: Do(two_dimensional, nn.Conv2d(1, 4, 3, padding=(1, 0)), nn.Conv2d(4, 1, 1)),
        [("pad_past", (1, 1, 8, 2))],
    ),
    "pointwise": (
        lambda: nn.Sequential(nn.PReLU(), nn.Conv1d(8, 8, 1), nn.ELU(), nn.Dropout(0.3), nn.Hardswish()),
        [],
    ),
    "transposed conv with a tail": (
        lambda: Do(lambda x, c: c(x)[:, :, : x.shape[2]], nn.ConvTranspose1d(8, 8, 3)),
        [("body_layer0_tail", (2, 8))],
    ),
    "gru": (lambda: over_frames(nn.GRU(8, 8, num_layers=2, batch_first=True)), [("body_layer0_h", (2, 8))]),
    "gru without bias": (lambda: over_frames(nn.GRU(8, 8, bias=False, batch_first=True)), [("body_layer0_h", (1, 8))]),
    "gru from zeros": (lambda: Do(begins_with_zeros, nn.GRU(8, 8, batch_first=True)), [("body_layer0_h", (1, 8))]),
    "gru, frames first": (lambda: Do(frames_first, nn.GRU(8, 8)), [("body_layer0_h", (1, 8))]),
    "lstm": (
        lambda: over_frames(nn.LSTM(8, 8, num_layers=2, batch_first=True)),
        [("body_layer0_h", (2, 8)), ("body_layer0_c", (2, 8))],
    ),
    "recurrence inside a frame": (
        lambda: Do(along_features, nn.GRU(1, 3, batch_first=True, bidirectional=True), nn.Linear(6, 1)),
        [],
    ),
    "layer norm": (lambda: Do(lambda x, n: n(x.transpose(1, 2)).transpose(1, 2), nn.LayerNorm(8)), []),
    "batch norm": (lambda: nn.BatchNorm1d(8), []),
    "cumulative norm": (lambda: Do(cumulative, CumulativeNorm(8)), [("body_layer0_totals", (1, 3))]),
}


@pytest.mark.parametrize("hops", [1, 3, 8])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_keeps_what_it_needs_and_says_what_the_offline_net_says(layer: str, hops: int) -> None:
    body, states = LAYERS[layer]
    assert proven_states(body(), hops) == states


def uses_last_state(x: Tensor, gru: nn.Module) -> Tensor:
    y, h = gru(x.transpose(1, 2))
    return (y + h.transpose(0, 1)).transpose(1, 2)


def begins_with_ones(x: Tensor, gru: nn.Module) -> Tensor:
    y, _ = gru(x.transpose(1, 2), torch.ones(1, 1, 8))
    return y.transpose(1, 2)


def without_batch(x: Tensor, rnn: nn.Module) -> Tensor:
    y, _ = rnn(x[0].transpose(0, 1))
    return y.transpose(0, 1).unsqueeze(0)


def padded_recurrence(x: Tensor, gru: nn.Module) -> Tensor:
    y, _ = gru(F.pad(x, (2, 0)).transpose(1, 2))
    return y.transpose(1, 2)[..., 2:]


def weights_from_audio(x: Tensor) -> Tensor:
    alike = F.conv1d(x, x.permute(2, 1, 0), None)  # [1, frames, frames]
    return (alike @ x.transpose(1, 2)).transpose(1, 2)


def upsampled(layer: nn.ConvTranspose1d) -> nn.Module:
    return Do(lambda x, c: c(x)[:, :, : x.shape[2]], layer)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "padding on both sides": (
        lambda: nn.Sequential(nn.Conv1d(8, 8, 3, padding=1)),
        r"'body.0' \(Conv1d\): kernel 3, padding 1 on both sides: its output looks 1 frames ahead; pad 2 frames",
    ),
    "padding same": (
        lambda: nn.Conv1d(8, 8, 5, padding="same"),
        r"'body' \(Conv1d\): padding='same' pads both sides: its output looks 2 frames ahead; pad 4 frames in front",
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
        r"'body.layer0' \(Conv1d\): pads time with padding_mode 'circular'; a stream begins with zeros",
    ),
    "no batch axis": (
        lambda: Do(lambda x, c: c(x[0])[..., : x.shape[2]].unsqueeze(0), nn.Conv1d(8, 8, 3, padding=2)),
        r"'body.layer0' \(Conv1d\): takes \[8, 12\] with time on axis 1; add a batch axis",
    ),
    "a weight from the audio": (
        lambda: Do(weights_from_audio),
        r"conv1d in 'body'.*its weight is computed from the audio",
    ),
    "a transposed conv that begins early": (
        lambda: nn.ConvTranspose1d(8, 8, 3, padding=1),
        r"'body' \(ConvTranspose1d\): padding cuts its first samples off, so that the output runs ahead",
    ),
    "a transposed conv in groups": (
        lambda: upsampled(nn.ConvTranspose1d(8, 8, 3, groups=2)),
        r"'body.layer0' \(ConvTranspose1d\): has 2 groups; only 1 has a stream",
    ),
    "a transposed conv with dilation": (
        lambda: upsampled(nn.ConvTranspose1d(8, 8, 3, dilation=2)),
        r"'body.layer0' \(ConvTranspose1d\): has dilation 2; only 1 has a stream",
    ),
    "a transposed conv with holes": (
        lambda: Do(lambda x, c: c(x), nn.ConvTranspose1d(8, 8, 1, stride=2, output_padding=1)),
        r"'body.layer0' \(ConvTranspose1d\): kernel 1 is shorter than stride 2",
    ),
    "a transposed conv of padded frames": (
        lambda: Do(lambda x, c: c(F.pad(x, (1, 0)))[..., 1 : x.shape[2] + 1], nn.ConvTranspose1d(8, 8, 3)),
        r"'body.layer0' \(ConvTranspose1d\): its input is padded in time; slice the surplus off first",
    ),
    "bidirectional gru": (
        lambda: Do(
            lambda x, g, back: back(g(x.transpose(1, 2))[0]).transpose(1, 2),
            nn.GRU(8, 4, batch_first=True, bidirectional=True),
            nn.Linear(8, 8),
        ),
        r"'body.layer0' \(GRU\): a bidirectional GRU over time reads the recording from its end",
    ),
    "the state at the end": (
        lambda: Do(uses_last_state, nn.GRU(8, 8, batch_first=True)),
        r"'body.layer0' \(GRU\): the state it returns is used; a stream has no last frame",
    ),
    "another first state": (
        lambda: Do(begins_with_ones, nn.GRU(8, 8, batch_first=True)),
        r"'body.layer0' \(GRU\): begins with another state than zeros; let the GRU begin by itself",
    ),
    "a recurrence without batch": (
        lambda: Do(without_batch, nn.LSTM(8, 8, batch_first=True)),
        r"'body.layer0' \(LSTM\): takes \[12, 8\]; give it \[batch, frames, features\]",
    ),
    "a projected lstm": (
        lambda: over_frames(nn.LSTM(8, 16, proj_size=8, batch_first=True)),
        r"'body.layer0' \(LSTM\): proj_size has no written-out form; put a Linear behind it",
    ),
    "a recurrence over padded frames": (
        lambda: Do(padded_recurrence, nn.GRU(8, 8, batch_first=True)),
        r"'body.layer0' \(GRU\): its input is padded in time; slice the surplus off first",
    ),
    "instance norm": (
        lambda: nn.InstanceNorm1d(8),
        r"'body' \(InstanceNorm1d\): its value at a frame depends on later",
    ),
    "group norm": (lambda: nn.GroupNorm(1, 8), r"'body' \(GroupNorm\): its value at a frame depends on later audio"),
    "cumulative norm of the wrong axis": (
        lambda: Do(lambda x, n: n(x.permute(2, 0, 1)).permute(1, 2, 0), CumulativeNorm(8)),
        r"'body.layer0' \(CumulativeNorm\): takes \[1, frames, ...features\], not padded in time",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_layer_that_has_no_stream_is_refused_by_name_and_reason(case: str) -> None:
    body, message = REFUSED[case]
    entry = entry_for(Wrapped(body()))
    with pytest.raises(ConversionError, match=message):
        prove(entry, to_external_state(entry, 1))


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


def test_the_front_end_keeps_the_samples_that_its_frames_reach_back_to() -> None:
    entry = listener(128)
    stream = to_external_state(entry, 1)
    assert prove(entry, stream) < LIMIT
    assert [(s.name, s.shape) for s in stream.states] == [("front_end_samples", (1, 128 - HOP))]
    assert stream.fp32_modules == ("front_end", "head")


def test_a_front_end_without_overlap_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"a frame is as long as its hop; make n_fft larger than hop_samples"):
        to_external_state(listener(HOP), 1)
