"""models.custom.causal.convert: whole nets traced and given external state; the rules have tests of their own."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.common.errors import ConversionError
from models.custom.causal.convert import noise, record, to_external_state, trace
from models.custom.causal.layers import CumulativeNorm
from models.custom.causal.proof import LIMIT, prove
from models.custom.entry import CustomEntry
from models.custom.forms import Offline, Stepwise
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
    entry = CustomEntry(**{**vars(entry), "states": to_external_state(entry, 1).states})
    audio = noise(50 * HOP + 7, 9)
    with torch.no_grad():
        stepped, whole = Stepwise(entry)(audio), Offline(entry)(audio)
        written = entry.net(F.pad(audio, (0, -audio.shape[1] % HOP)).unsqueeze(1)).reshape(1, -1)
    assert stepped.shape == whole.shape == (1, 51 * HOP)
    assert torch.equal(whole, written)
    assert whole.std() > 1e-3
    assert float((stepped - whole).abs().max()) < 1e-5 * float(whole.abs().max())


def cumulative(x: Tensor, norm: nn.Module) -> Tensor:
    return norm(x.transpose(1, 2)).transpose(1, 2)


def residual(x: Tensor, conv: nn.Module) -> Tensor:
    return x + torch.tanh(conv(F.pad(x, (2, 0))))


def test_recurrences_and_sums_stay_in_float32() -> None:
    stream = to_external_state(
        entry_for(
            Wrapped(
                nn.Sequential(
                    over_frames(nn.LSTM(8, 8, num_layers=2, batch_first=True)), Do(cumulative, CumulativeNorm(8))
                )
            )
        ),
        1,
    )
    assert stream.fp32_modules == (
        "net_body_0_layer0.layers.0.cell",
        "net_body_0_layer0.layers.1.cell",
        "net_body_1_layer0",
    )
    known = dict(stream.graph.named_modules())
    assert all(name in known for name in stream.fp32_modules)
    named = to_external_state(entry_for(Wrapped(Do(residual, nn.Conv1d(8, 8, 3))), fp32_named=("body", "encoder")), 1)
    assert named.fp32_modules == ("net_body_layer0", "net_encoder")
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
        ConversionError, match=r"forward cannot be followed \(test_convert.py, line \d+\).*must not branch"
    ):
        trace(entry_for(Wrapped(Do(branching))))


def test_torch_is_as_it_was_after_a_trace_and_after_a_failed_one() -> None:
    before = torch.arange, torch.zeros, torch.ones, torch.full
    trace(entry_for(Wrapped(Do(lambda x: x * torch.arange(1, x.shape[2] + 1)))))
    with pytest.raises(ConversionError):
        trace(entry_for(Wrapped(Do(branching))))
    assert (torch.arange, torch.zeros, torch.ones, torch.full) == before


def test_a_net_that_does_not_run_on_a_recording_is_refused_at_its_layer() -> None:
    with pytest.raises(ConversionError, match=r"'body' \(Linear\) does not run on audio \[1, 384\]: .*shape"):
        to_external_state(entry_for(Wrapped(nn.Linear(7, 7))), 1)


def test_every_value_of_the_offline_net_is_recorded() -> None:
    module = trace(entry_for(Wrapped(nn.ReLU())))
    values = record(module, noise(4 * HOP, 0))
    assert list(values) == list(module.graph.nodes)
    shapes = {node.name: tuple(value.shape) for node, value in values.items() if node.op == "call_module"}
    assert shapes == {"net_encoder": (1, 8, 4), "net_body": (1, 8, 4), "net_decoder": (1, 1, 128)}


def test_a_hop_that_is_no_multiple_of_the_strides_is_refused() -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 48, stride=48), nn.ConvTranspose1d(4, 1, 48, stride=48))
    with pytest.raises(ConversionError, match=r"'0' \(Conv1d\).*hop_samples is not a multiple of the net's strides"):
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
