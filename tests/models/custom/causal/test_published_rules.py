"""What published enhancers do in time, as their authors write it: centred frames, no padding, a padded U-Net."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.common.errors import ConversionError
from models.custom.causal.convert import ExternalStateGraph, to_external_state
from models.custom.causal.proof import LIMIT, prove
from tests.models.custom.causal.nets import HOP, entry_for


def proven(net: nn.Module, hops: int = 1) -> ExternalStateGraph:
    """The stream of a net that may look ahead, proven."""
    entry = entry_for(net, layout="samples", lookahead="delay")
    stream = to_external_state(entry, hops)
    assert prove(entry, stream) < LIMIT
    return stream


class Centred(nn.Module):
    """torch.stft's own frames, which reflect the recording's ends, something over frames, and back."""

    def __init__(self, points: int = 2 * HOP, body: nn.Module | None = None) -> None:
        super().__init__()
        self.points, self.body = points, body
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(points))
        self.gain = nn.Parameter(torch.rand(points // 2 + 1, 1))

    def forward(self, audio: Tensor) -> Tensor:
        spectrum = torch.stft(audio, self.points, HOP, window=self.window, return_complex=True)
        gain = self.gain
        if self.body is not None:
            out, _ = self.body(spectrum.abs().transpose(1, 2))
            gain = torch.sigmoid(out).transpose(1, 2)
        return torch.istft(spectrum * gain, self.points, HOP, window=self.window)


@pytest.mark.parametrize("hops", [1, 2])
def test_centred_frames_begin_with_the_reflected_ones_and_end_as_delay(hops: int) -> None:
    stream = proven(Centred(), hops)
    assert stream.lookahead_samples == HOP
    assert ("pad_past", (1, 1, HOP - 1)) in [(s.name, s.shape) for s in stream.states]  # the window's first is zero


def test_a_recurrence_runs_over_centred_frames() -> None:
    proven(Centred(body=nn.GRU(HOP + 1, HOP + 1, batch_first=True)))


def test_more_reflected_samples_than_a_call_brings_are_refused_with_the_hop_that_would_do() -> None:
    with pytest.raises(ConversionError, match=r"reflects 63 frames .* at least 2 times"):
        proven(Centred(4 * HOP))
    proven(Centred(4 * HOP), hops=2)


class Unpadded(nn.Module):
    """Frames of two strides without padding, a body, and overlap-add (as Conv-TasNet has it)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, 6, HOP, stride=HOP // 2, bias=False)
        self.body = body
        self.decoder = nn.ConvTranspose1d(6, 1, HOP, stride=HOP // 2, bias=False)

    def forward(self, audio: Tensor) -> Tensor:
        return self.decoder(self.body(self.encoder(audio.unsqueeze(1)))).squeeze(1)


class Chomped(nn.Module):
    """A layer padded on both sides whose surplus is cut off, and the mean of all frames so far."""

    def __init__(self) -> None:
        super().__init__()
        self.TCN = nn.Conv1d(6, 6, 3, padding=4, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.TCN(x)[..., :-4])
        count = torch.arange(1, y.shape[-1] + 1, device=y.device)
        return x * torch.cumsum(y, -1) / count


def test_frames_without_padding_are_behind_by_their_overlap() -> None:
    stream = proven(Unpadded(nn.Identity()))
    assert stream.lookahead_samples == HOP // 2


def test_sums_and_counts_of_frames_that_are_behind_begin_with_the_first_frame() -> None:
    stream = proven(Unpadded(Chomped()))
    assert all(s.name == s.name.lower() for s in stream.states)  # as torch.fx has names of inputs


class Valid(nn.Module):
    """A U-Net on a recording that is padded behind to a length without rest; its deepest level is a frame short."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv1d(1, 4, 8, stride=4), nn.Conv1d(4, 4, 8, stride=4)])
        self.up = nn.ModuleList([nn.ConvTranspose1d(4, 4, 8, stride=4), nn.ConvTranspose1d(4, 1, 8, stride=4)])
        self.lstm = nn.LSTM(4, 4)

    def forward(self, audio: Tensor) -> Tensor:
        x = nn.functional.pad(audio.unsqueeze(1), (0, 4))
        skips = []
        for layer in self.down:
            x = torch.relu(layer(x))
            skips.append(x)
        x = self.lstm(x.permute(2, 0, 1))[0].permute(1, 2, 0)
        for layer in self.up:
            x = layer(x + skips.pop()[..., : x.shape[-1]])
        return x[..., : audio.shape[-1]].squeeze(1)


def test_a_unet_padded_to_a_length_without_rest_has_a_stream() -> None:
    proven(Valid())


class ByFrames(nn.Module):
    """Convolutions along frequency with the frames as batch, and a norm that counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3, padding=1)
        self.back = nn.ConvTranspose1d(4, 1, 3, padding=1)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        batch, frames, bins = x.shape
        y = self.conv(x.reshape(batch * frames, 1, bins))  # [frames, 4, bins]
        y = y.transpose(1, 2).reshape(frames * bins, 4, 1)
        y = self.norm(y).view(frames, batch, bins, 4)
        y = self.back(y.permute(0, 1, 3, 2).reshape(frames, 4, bins))
        return y.reshape(batch, frames, bins), None


def test_frames_as_batch_are_convolved_each_for_itself() -> None:
    proven(Centred(body=ByFrames()))


class AlongFrequency(nn.Module):
    """A recurrence inside each frame, with the frames as batch."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 2, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        batch, frames, bins = x.shape
        y, _ = self.gru(x.reshape(batch * frames, bins, 1))
        return self.dense(y).reshape(batch, frames, bins), None


def test_a_recurrence_inside_centred_frames_has_one_more_than_a_call() -> None:
    proven(Centred(body=AlongFrequency()))


class TransposedTime(nn.Module):
    """A transposed convolution over two frames of which the first is cut off: it looks one frame ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, (3, 2), padding=(1, 1))
        self.back = nn.ConvTranspose2d(3, 1, (3, 2), padding=(1, 0))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        y = self.conv(x.transpose(1, 2).unsqueeze(1))[..., :-1] + 1.0
        for _ in range(2):
            y = self.back(y)[..., 1:]
            y = y.expand(-1, 3, -1, -1)
        return y[:, 0].transpose(1, 2), None


class PaddedTransposed(nn.Module):
    """Frames padded in front, and a transposed convolution that cuts as many off at both ends (as GTCRN's)."""

    def __init__(self) -> None:
        super().__init__()
        self.back = nn.ConvTranspose2d(1, 1, (3, 3), padding=(4, 1), dilation=(2, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        y = self.back(nn.functional.pad(x.unsqueeze(1) + 1.0, (0, 0, 4, 0)))
        return y[:, 0], None


def test_a_transposed_convolution_over_padded_frames_needs_no_state_of_its_own() -> None:
    proven(Centred(body=PaddedTransposed()))


def test_transposed_convolutions_over_what_is_behind_begin_with_nothing() -> None:
    proven(Centred(body=TransposedTime()))


class CutAndPadded(nn.Module):
    """A transposed convolution whose first frame its padding cuts off, and a frame of zeros in front again."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 1, (2, 3), (1, 2), (1, 1))
        self.after = nn.Conv2d(1, 1, (2, 1), padding=(1, 0))

    def forward(self, audio: Tensor) -> Tensor:
        x = audio.reshape(1, -1, 2, HOP // 2).permute(0, 2, 1, 3)
        x = nn.functional.pad(self.up(x), (0, 0, 1, 0))
        return self.after(x)[:, :, :-1].reshape(1, -1, HOP - 1)[..., :1].expand(-1, -1, HOP).reshape(1, -1)


def test_frames_cut_off_and_padded_again_are_no_look_ahead_even_where_none_is_allowed() -> None:
    entry = entry_for(CutAndPadded(), layout="samples")
    stream = to_external_state(entry, 1)
    assert prove(entry, stream) < LIMIT
    assert stream.lookahead_samples == 0


class Chunked(nn.Module):
    """Chunks that overlap, padded at both ends, something on each, and overlap-add (as dual-path nets have it)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(HOP, HOP)

    def forward(self, audio: Tensor) -> Tensor:
        sizes = {"kernel_size": (HOP, 1), "padding": (HOP, 0), "stride": (HOP // 2, 1)}
        chunks = nn.functional.unfold(audio[:, None, :, None], **sizes)
        mixed = self.mix(chunks.transpose(1, 2)).transpose(1, 2)
        return nn.functional.fold(mixed, (audio.shape[1], 1), **sizes).reshape(1, -1)


def test_chunks_that_overlap_are_behind_by_one() -> None:
    assert proven(Chunked()).lookahead_samples == HOP


class Halved(nn.Module):
    """Twice the rate and back by every second sample, with a filter that looks ahead (a resampler inside a net)."""

    def __init__(self, ahead: int) -> None:
        super().__init__()
        self.ahead = ahead
        self.low = nn.Conv1d(1, 1, 5)

    def forward(self, audio: Tensor) -> Tensor:
        x = nn.functional.pad(audio, (0, 2)).unsqueeze(1)  # a length without rest
        x = torch.stack([x, 2 * x], -1).reshape(1, 1, -1)
        x = self.low(nn.functional.pad(x, (4 - self.ahead, self.ahead)))
        return x[..., ::2].squeeze(1)[:, : audio.shape[1]]


@pytest.mark.parametrize("ahead", [2, 3])
def test_every_second_frame_of_what_looks_ahead(ahead: int) -> None:
    assert proven(Halved(ahead)).lookahead_samples == (ahead + 1) // 2


class Buffered(nn.Module):
    """Caches of two layers in one buffer of zeros, written to and read by slices, and a decoder over a third."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, 4, HOP, stride=HOP)
        self.layers = nn.ModuleList(nn.Conv1d(4, 4, 3, dilation=d) for d in (1, 2))
        self.decoder = nn.ConvTranspose1d(4, 1, 3 * HOP, stride=HOP, padding=2 * HOP)

    def forward(self, audio: Tensor) -> Tensor:
        x = self.encoder(audio.unsqueeze(1))
        buffer, first = torch.zeros(1, 4, 6), 0
        for layer, size in zip(self.layers, (2, 4), strict=True):
            joined = torch.cat([buffer[..., first : first + size], x], -1)
            buffer[..., first : first + size] = joined[..., -size:]
            x, first = x + layer(joined), first + size
        return self.decoder(torch.cat([torch.zeros(1, 4, 2), x], -1)).squeeze(1)


@pytest.mark.parametrize("lookahead", ["delay", ""])
def test_caches_in_one_buffer_and_a_decoder_that_cuts_its_zeros_off(lookahead: str) -> None:
    entry = entry_for(Buffered(), layout="samples", **({"lookahead": lookahead} if lookahead else {}))
    stream = to_external_state(entry, 1)
    assert prove(entry, stream) < LIMIT
    assert stream.lookahead_samples == 0


class Twins(nn.Module):
    """Two layers that look back as far over one value, and one that looks further."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.far = nn.Conv1d(1, 1, 3), nn.Conv1d(1, 1, 3), nn.Conv1d(1, 1, 5)

    def forward(self, audio: Tensor) -> Tensor:
        x, pad = audio.unsqueeze(1), nn.functional.pad
        return (self.one(pad(x, (2, 0))) + self.two(pad(x, (2, 0))) + self.far(pad(x, (4, 0)))).squeeze(1)


@pytest.mark.parametrize("hops", [1, 2])
def test_the_same_past_of_a_value_is_one_state(hops: int) -> None:
    assert [s.shape for s in proven(Twins(), hops).states] == [(1, 1, 2), (1, 1, 4)]
