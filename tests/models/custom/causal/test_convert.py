"""models.custom.causal.convert, offline: whole nets given external state; the rules have tests of their own."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.common.errors import ConversionError
from models.custom.causal.convert import to_external_state
from models.custom.causal.layers import CumulativeNorm
from models.custom.causal.offline import noise, recording
from models.custom.causal.proof import LIMIT, prove
from models.custom.entry import CustomEntry
from models.custom.forms import Offline
from tests.models.custom.causal.nets import HOP, Do, Wrapped, entry_for, over_frames


class UNet(nn.Module):
    """Strides along time, two frames per hop at the first level, skip connections, transposed convolutions."""

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
    entry = entry_for(Wrapped(over_frames(nn.LSTM(8, 8, num_layers=2, batch_first=True))))
    stream = to_external_state(entry, 1)
    audio = noise(50 * HOP + 7, 9)
    padded = F.pad(audio, (0, -audio.shape[1] % HOP))
    states, parts = [torch.zeros(s.shape) for s in stream.states], []
    with torch.no_grad():
        for block in torch.split(padded, HOP, 1):
            out, *states = stream.graph(block, *states)
            parts.append(out)
        whole, written = Offline(entry)(audio), entry.net(padded.unsqueeze(1)).reshape(1, -1)
    stepped = torch.cat(parts, 1)
    assert stepped.shape == whole.shape == (1, 51 * HOP)
    assert torch.equal(whole, written)
    assert whole.std() > 1e-3
    assert float((stepped - whole).abs().max()) < 1e-5 * float(whole.abs().max())


def cumulative(x: Tensor, norm: nn.Module) -> Tensor:
    return norm(x.transpose(1, 2)).transpose(1, 2)


def residual(x: Tensor, conv: nn.Module) -> Tensor:
    return x + torch.tanh(conv(F.pad(x, (2, 0))))


def test_recurrences_and_sums_stay_in_float32() -> None:
    body = nn.Sequential(over_frames(nn.LSTM(8, 8, num_layers=2, batch_first=True)), Do(cumulative, CumulativeNorm(8)))
    stream = to_external_state(entry_for(Wrapped(body)), 1)
    known = dict(stream.graph.named_modules())
    assert all(name in known for name in stream.fp32_modules)
    assert stream.fp32_modules[:2] == ("body_0_layer0.layers.0.cell", "body_0_layer0.layers.1.cell")
    kept = " ".join(stream.fp32_modules)
    assert all(name in kept for name in ("cumsum", "kept_rsqrt", "kept_clamp"))


def test_what_the_user_named_stays_in_float32() -> None:
    entry = entry_for(Wrapped(Do(residual, nn.Conv1d(8, 8, 3))), fp32_named=("body", "encoder"))
    named = to_external_state(entry, 1)
    plain = to_external_state(entry_for(Wrapped(Do(residual, nn.Conv1d(8, 8, 3)))), 1)
    assert plain.fp32_modules == ()
    assert sum("conv1d" in name for name in named.fp32_modules) == 2
    assert any("tanh" in name for name in named.fp32_modules)
    known = dict(named.graph.named_modules())
    assert all(name in known for name in named.fp32_modules)
    with pytest.raises(ConversionError, match=r"fp32_modules names 'decoding'.*it calls: .*decoder"):
        to_external_state(entry_for(Wrapped(nn.Identity()), fp32_named=("decoding",)), 1)


def test_states_of_layers_with_one_name_have_names_of_their_own() -> None:
    body = nn.Sequential(Do(residual, nn.Conv1d(8, 8, 3)), Do(residual, nn.Conv1d(8, 8, 3)), nn.Conv1d(8, 8, 1))
    names = [s.name for s in to_external_state(entry_for(Wrapped(body)), 1).states]
    assert len(set(names)) == len(names) == 2
    assert all(re.fullmatch(r"[A-Za-z_]\w*", name) for name in names)


def branching(x: Tensor) -> Tensor:
    return x if x.abs().max() > 1.0 else 2 * x


def test_a_branch_on_the_audio_is_refused_with_its_line() -> None:
    with pytest.raises(
        ConversionError, match=r"forward cannot be followed \(test_convert.py, line \d+\): it branches on values"
    ):
        to_external_state(entry_for(Wrapped(Do(branching))), 1)


def test_a_net_that_does_not_run_on_a_recording_is_refused_at_its_line() -> None:
    with pytest.raises(ConversionError, match=r"net.py:build: forward does not run on audio \[1, 384\].*shape"):
        to_external_state(entry_for(Wrapped(nn.Linear(7, 7))), 1)


def test_a_net_that_takes_longer_hops_only_is_told_which() -> None:
    def in_threes(x: Tensor) -> Tensor:
        return x.reshape(1, 8, -1, 5).flatten(2)

    with pytest.raises(ConversionError, match=r"takes whole multiples of 160 samples.*set geometry.hop_samples to 160"):
        to_external_state(entry_for(Wrapped(Do(in_threes))), 1)


def test_every_value_of_the_offline_net_is_recorded() -> None:
    entry = entry_for(Wrapped(nn.ReLU()))
    short = recording(entry, 4)
    assert list(short.values) == short.nodes
    shapes = [tuple(short.values[node].shape) for node in short.nodes if node.op == "call_function"]
    assert shapes == [(1, 1, 128), (1, 8, 4), (1, 8, 4), (1, 1, 128)]
    assert recording(entry, 4) is short
    assert len(recording(entry, 9).nodes) == len(short.nodes)


def test_a_stream_is_made_once_for_each_number_of_hops() -> None:
    entry = entry_for(Wrapped(nn.ReLU()))
    one = to_external_state(entry, 1)
    assert to_external_state(entry, 1) is one
    assert to_external_state(entry, 2) is not one
    renamed = CustomEntry(**{**vars(entry), "fp32_named": ("body",)})
    assert to_external_state(renamed, 1).fp32_modules != one.fp32_modules


def test_a_hop_that_is_no_multiple_of_the_strides_is_refused() -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 48, stride=48), nn.ConvTranspose1d(4, 1, 48, stride=48))
    with pytest.raises(
        ConversionError, match=r"hop_samples is not a multiple of the net's strides|set geometry.hop_samples to 96"
    ):
        to_external_state(entry_for(net), 1)


def test_another_shape_out_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"forward returned \[1, 4, 12\], expected \[1, 384\]"):
        to_external_state(entry_for(nn.Conv1d(1, 4, HOP, stride=HOP)), 1)


def test_an_output_that_does_not_follow_the_audio_is_refused() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sound = nn.Parameter(torch.zeros(1, 1, HOP))

        def forward(self, audio: Tensor) -> Tensor:
            return self.sound

    with pytest.raises(ConversionError, match=r"the output \[1, 1, 32\] does not grow with the audio"):
        to_external_state(entry_for(Constant()), 1)


def test_several_outputs_are_refused() -> None:
    with pytest.raises(ConversionError, match="forward returned a tuple of 2, expected one tensor"):
        to_external_state(entry_for(Do(lambda audio: (audio, audio))), 1)
