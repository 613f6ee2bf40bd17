"""models.causal: the stream says what the offline net says, and what has no stream is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.common.errors import ConversionError
from models.custom.causal.convert import noise, to_external_state
from models.custom.causal.layers import CumulativeNorm
from models.custom.causal.proof import LIMIT, prove
from models.custom.entry import CustomEntry, CustomOriginal
from models.custom.forms import Offline, Stepwise
from models.geometry import StreamGeometry, TensorSpec

HOP = 32


def entry_for(net: nn.Module, **changes: Any) -> CustomEntry:
    torch.manual_seed(0)
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return CustomEntry(
        name="net",
        task="enhancer",
        summary="",
        factory="net.py:build",
        geometry=StreamGeometry(16000, 1, 64, HOP, 0),
        buffer_kind="step",
        max_hops=8,
        output=TensorSpec("enhanced", (1, HOP), (-1.0, 1.0), ""),
        parameters_millions=0.0,
        paper="",
        form="causal",
        layout="channel_samples",
        original=CustomOriginal("net.py:build"),
        net=net.eval(),
        **changes,
    )


class Wrapped(nn.Module):
    """Frames of 32 samples, a body on [1, 8, frames], frames back to samples."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, 8, HOP, stride=HOP)
        self.body = body
        self.decoder = nn.ConvTranspose1d(8, 1, HOP, stride=HOP)

    def forward(self, audio: Tensor) -> Tensor:
        return self.decoder(self.body(self.encoder(audio)))


class Do(nn.Module):
    """A function as a module, with layers it may use."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for index, layer in enumerate(layers):
            self.add_module(f"layer{index}", layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.children())


def over_frames(rnn: nn.Module) -> nn.Module:
    def function(x: Tensor, layer: nn.Module) -> Tensor:
        y, _ = layer(x.transpose(1, 2))
        return y.transpose(1, 2)

    return Do(function, rnn)


def zeros_in_front(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(torch.cat([x.new_zeros(x.shape[0], x.shape[1], 2), x], 2))


def begins_with_zeros(x: Tensor, gru: nn.Module) -> Tensor:
    y, _ = gru(x.transpose(1, 2), torch.zeros(1, 1, 8))
    return y.transpose(1, 2)


def two_dimensional(x: Tensor, conv: nn.Module, back: nn.Module) -> Tensor:
    y = F.pad(x.unsqueeze(1), (2, 0))  # [1, 1, 8, frames]
    return back(torch.relu(conv(y))).squeeze(1)


def frames_as_batch(x: Tensor, linear: nn.Module) -> Tensor:
    batch, features, frames = x.shape
    y = linear(x.permute(0, 2, 1).reshape(batch * frames, features))
    return y.view(batch, frames, features).transpose(1, 2)


def along_features(x: Tensor, gru: nn.Module, back: nn.Module) -> Tensor:
    y = x.transpose(1, 2).reshape(-1, 8, 1)  # [frames, 8, 1]: a recurrence inside each frame
    y, _ = gru(y)
    return back(y).reshape(1, -1, 8).transpose(1, 2)


def delayed(x: Tensor) -> Tensor:
    return x + F.pad(x, (2, 0))[..., :-2]


def cumulative(x: Tensor, norm: nn.Module) -> Tensor:
    return norm(x.transpose(1, 2)).transpose(1, 2)


def shared_twice(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(F.pad(conv(F.pad(x, (2, 0))), (2, 0)))


def pooled_and_repeated(x: Tensor, pool: nn.Module) -> Tensor:
    return pool(F.interpolate(x, scale_factor=2, mode="nearest"))


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


def gated(x: Tensor, conv: nn.Module) -> Tensor:
    one, two = conv(x).chunk(2, 1)
    return torch.tanh(one) * torch.sigmoid(two)


BODIES: dict[str, Callable[[], nn.Module]] = {
    "nothing": nn.Identity,
    "conv padded in front": lambda: Do(lambda x, c: c(F.pad(x, (4, 0))), nn.Conv1d(8, 8, 3, dilation=2)),
    "conv padded by a layer": lambda: nn.Sequential(nn.ConstantPad1d((2, 0), 0.0), nn.Conv1d(8, 8, 3)),
    "conv padded on both sides, cut behind": lambda: Do(self_padded, nn.Conv1d(8, 8, 5, padding=4)),
    "conv after zeros": lambda: Do(zeros_in_front, nn.Conv1d(8, 8, 3)),
    "a causal subclass": lambda: nn.Sequential(CausalConv(8, 8, 3, dilation=3), nn.ReLU(), CausalConv(8, 8, 2)),
    "a subclass that cuts": lambda: ChompConv(8, 8, 3, padding=4, dilation=2),
    "weight norm": lambda: Do(self_padded, nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 3, padding=2))),
    "gated": lambda: Do(gated, nn.Conv1d(8, 16, 1)),
    "depthwise": lambda: Do(lambda x, c: c(F.pad(x, (9, 0))), nn.Conv1d(8, 8, 10, groups=8)),
    "one conv called twice": lambda: Do(shared_twice, nn.Conv1d(8, 8, 3)),
    "conv2d": lambda: Do(two_dimensional, nn.Conv2d(1, 4, 3, padding=(1, 0)), nn.Conv2d(4, 1, 1)),
    "residual": lambda: Do(lambda x, c: x + torch.tanh(c(F.pad(x, (2, 0)))), nn.Conv1d(8, 8, 3)),
    "a delay": lambda: Do(delayed),
    "gru": lambda: over_frames(nn.GRU(8, 8, num_layers=2, batch_first=True)),
    "gru without bias": lambda: over_frames(nn.GRU(8, 8, bias=False, batch_first=True)),
    "gru from zeros": lambda: Do(begins_with_zeros, nn.GRU(8, 8, batch_first=True)),
    "lstm": lambda: over_frames(nn.LSTM(8, 8, num_layers=2, batch_first=True)),
    "layer norm": lambda: Do(lambda x, n: n(x.transpose(1, 2)).transpose(1, 2), nn.LayerNorm(8)),
    "batch norm": lambda: nn.BatchNorm1d(8),
    "cumulative norm": lambda: Do(cumulative, CumulativeNorm(8)),
    "cumulative sum": lambda: Do(lambda x: torch.cumsum(x, dim=-1) / 50.0),
    "pointwise": lambda: nn.Sequential(nn.PReLU(), nn.Conv1d(8, 8, 1), nn.ELU(), nn.Dropout(0.3), nn.Hardswish()),
    "frames as batch": lambda: Do(frames_as_batch, nn.Linear(8, 8)),
    "recurrence inside a frame": lambda: Do(
        along_features, nn.GRU(1, 3, batch_first=True, bidirectional=True), nn.Linear(6, 1)
    ),
    "repeated and pooled": lambda: Do(pooled_and_repeated, nn.MaxPool1d(2)),
    "softmax over features": lambda: nn.Softmax(1),
}


@pytest.mark.parametrize("hops", [1, 3, 8])
@pytest.mark.parametrize("body", BODIES)
def test_a_stream_says_what_the_offline_net_says(body: str, hops: int) -> None:
    entry = entry_for(Wrapped(BODIES[body]()))
    stream = to_external_state(entry, hops)
    assert prove(entry, stream) < LIMIT
    names = [s.name for s in stream.states]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z_]\w*", name) for name in names)


class UNet(nn.Module):
    """Strides along time, two frames a hop at the first level, skip connections, transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv1d(1, 6, 32, stride=16)
        self.down2 = nn.Conv1d(6, 6, 4, stride=2)
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.up2 = nn.ConvTranspose1d(6, 6, 4, stride=2)
        self.up1 = nn.ConvTranspose1d(12, 1, 40, stride=16)

    def forward(self, audio: Tensor) -> Tensor:
        a = torch.relu(self.down1(F.pad(audio, (16, 0))))
        b = torch.relu(self.down2(F.pad(a, (2, 0))))
        c, _ = self.lstm(b.transpose(1, 2))
        d = self.up2(c.transpose(1, 2))[..., : a.shape[-1]]
        return self.up1(torch.cat([d, a], 1))[..., : audio.shape[-1]]


@pytest.mark.parametrize("hops", [1, 2, 5])
def test_a_u_net_over_time(hops: int) -> None:
    entry = entry_for(UNet())
    stream = to_external_state(entry, hops)
    assert prove(entry, stream) < LIMIT
    assert [s.name for s in stream.states] == ["pad_past", "pad_1_past", "lstm_h", "lstm_c", "up2_tail", "up1_tail"]


def test_the_stream_is_the_offline_net_in_float32_too() -> None:
    """What is exported, call by call from the zero state, against the net as its author wrote it."""
    entry = entry_for(Wrapped(BODIES["lstm"]()))
    entry = CustomEntry(**{**vars(entry), "states": to_external_state(entry, 1).states})
    audio = noise(50 * HOP + 7, 9)
    with torch.no_grad():
        stepped, whole = Stepwise(entry)(audio), Offline(entry)(audio)
        written = entry.net(F.pad(audio, (0, -audio.shape[1] % HOP)).unsqueeze(1)).reshape(1, -1)
    assert stepped.shape == whole.shape == (1, 51 * HOP)
    assert torch.equal(whole, written)
    assert whole.std() > 1e-3
    assert float((stepped - whole).abs().max()) < 1e-5 * float(whole.abs().max())


def test_kept_states_are_few_and_small() -> None:
    stream = to_external_state(entry_for(Wrapped(BODIES["conv padded in front"]())), 1)
    assert [(s.name, s.shape) for s in stream.states] == [("pad_past", (1, 8, 4))]
    assert to_external_state(entry_for(Wrapped(BODIES["pointwise"]())), 1).states == ()


def test_recurrences_and_sums_stay_in_float32() -> None:
    stream = to_external_state(entry_for(Wrapped(nn.Sequential(BODIES["lstm"](), BODIES["cumulative norm"]()))), 1)
    assert stream.fp32_modules == (
        "net_body_0_layer0.layers.0.cell",
        "net_body_0_layer0.layers.1.cell",
        "net_body_1_layer0",
    )
    known = dict(stream.graph.named_modules())
    assert all(name in known for name in stream.fp32_modules)
    named = to_external_state(entry_for(Wrapped(BODIES["residual"]()), fp32_named=("body", "encoder")), 1)
    assert named.fp32_modules == ("net_body_layer0", "net_encoder")
    with pytest.raises(ConversionError, match=r"fp32_modules names 'decoding'.*it calls: .*decoder"):
        to_external_state(entry_for(Wrapped(nn.Identity()), fp32_named=("decoding",)), 1)


def attention(x: Tensor) -> Tensor:
    y = x.transpose(1, 2)
    return (torch.softmax(y @ x, -1) @ y).transpose(1, 2)


def branching(x: Tensor) -> Tensor:
    return x if x.abs().max() > 1.0 else 2 * x


def uses_last_state(x: Tensor, gru: nn.Module) -> Tensor:
    y, h = gru(x.transpose(1, 2))
    return (y + h.transpose(0, 1)).transpose(1, 2)


def shifted_sum(x: Tensor) -> Tensor:
    return F.pad(x, (1, 0)) + F.pad(x, (0, 1))


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
    "reflected padding": (
        lambda: Do(lambda x, c: c(F.pad(x, (2, 0), mode="reflect")), nn.Conv1d(8, 8, 3)),
        r"pad in 'body'.*pads time with reflect",
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
    "instance norm": (
        lambda: nn.InstanceNorm1d(8),
        r"'body' \(InstanceNorm1d\): its value at a frame depends on later",
    ),
    "group norm": (lambda: nn.GroupNorm(1, 8), r"'body' \(GroupNorm\): its value at a frame depends on later audio"),
    "softmax over time": (lambda: nn.Softmax(2), r"'body' \(Softmax\): its value at a frame depends on later audio"),
    "mean over time": (
        lambda: Do(lambda x: x - x.mean(2, keepdim=True)),
        r"mean in 'body'.*folds the whole recording into one value.*net.form = 'window'",
    ),
    "attention": (
        lambda: Do(attention),
        r"in 'body'.*grows along 2 axes with the recording: frames look at all frames",
    ),
    "a branch": (lambda: Do(branching), r"forward cannot be followed \(test_convert.py, line \d+\).*must not branch"),
    "padded differently": (
        lambda: Do(shifted_sum),
        r"add in 'body'.*puts values together that are padded differently",
    ),
    "cut in front": (
        lambda: Do(lambda x: F.pad(x[:, :, 1:], (0, 1))),
        r"getitem in 'body'.*cuts 1 frames that were not padded: the output would run ahead",
    ),
    "turned round": (lambda: Do(lambda x: x.flip(2)), r"flip in 'body'.*depends on later audio"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_stream_is_refused_with_layer_and_reason(case: str) -> None:
    body, message = REFUSED[case]
    entry = entry_for(Wrapped(body()))
    with pytest.raises(ConversionError, match=message):
        prove(entry, to_external_state(entry, 1))


def test_a_hop_that_is_no_multiple_of_the_strides_is_refused() -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 48, stride=48), nn.ConvTranspose1d(4, 1, 48, stride=48))
    with pytest.raises(ConversionError, match=r"'0' \(Conv1d\).*hop_samples is not a multiple of the net's strides"):
        to_external_state(entry_for(net), 1)


def test_another_shape_out_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"forward returned \[1, 4, 12\], expected \[1, 384\]"):
        to_external_state(entry_for(nn.Conv1d(1, 4, HOP, stride=HOP)), 1)


def test_wrong_weights_in_a_stream_are_found_by_the_proof() -> None:
    """The proof itself can fail: another bias in the stream, and the layer is named."""
    entry = entry_for(Wrapped(BODIES["residual"]()))
    stream = to_external_state(entry, 1)
    with torch.no_grad():
        stream.graph.get_submodule("net_body_layer0").bias = nn.Parameter(torch.ones(8))
    with pytest.raises(ConversionError, match=r"'body.layer0' \(Conv1d\): it depends on more of the past"):
        prove(entry, stream)
