"""models.layers.stft: against torch.stft, both together change nothing, gradients pass, and a stream says the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hearpack
from hearpack import ISTFT, STFT
from models.common.errors import UsageError
from models.custom.causal.convert import to_external_state
from models.custom.causal.proof import LIMIT, prove
from models.custom.entry import CustomEntry
from models.custom.geometry_toml import parse

SIZES: list[tuple[int, int, Any]] = [
    (512, 128, "sqrt_hann"),
    (512, 256, "sqrt_hann"),
    (400, 160, "hann"),  # no multiple
    (320, 160, "hamming"),
    (64, 64, "rectangular"),
    (622, 100, "blackman"),  # 2 x 311: nothing to factor
    (128, 48, list(np.hanning(130)[1:-1])),
    (128, 32, torch.hann_window(128)),
]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def decibels(came: Tensor, expected: Tensor) -> float:
    return float(10 * torch.log10(expected.square().sum() / (came - expected).square().sum()))


@pytest.mark.parametrize(("n_fft", "hop", "window"), SIZES)
def test_both_together_change_nothing(n_fft: int, hop: int, window: Any) -> None:
    stft, istft = STFT(n_fft, hop, window).double(), ISTFT(n_fft, hop, window).double()
    audio = noise(2, 30 * hop)
    came = istft(*stft(audio))
    delay = istft.delay_samples
    assert delay == n_fft - hop
    assert came.shape == audio.shape
    assert decibels(came[:, delay:], audio[:, : 30 * hop - delay]) >= 120.0
    assert not delay or came[:, :delay].abs().max() <= 1e-6


@pytest.mark.parametrize(("n_fft", "hop", "window"), SIZES)
def test_a_frame_is_torchs(n_fft: int, hop: int, window: Any) -> None:
    named = {"hann": torch.hann_window, "hamming": torch.hamming_window, "blackman": torch.blackman_window}
    shape = window
    if isinstance(window, str):
        plain = named.get(window.removeprefix("sqrt_"), torch.ones)(n_fft, dtype=torch.float64)
        shape = plain.sqrt() if window.startswith("sqrt_") else plain
    audio = noise(2, 20 * hop + hop - 1)  # the last samples are no hop
    expected = torch.stft(
        torch.nn.functional.pad(audio, (n_fft - hop, 0)),
        n_fft,
        hop,
        window=torch.as_tensor(shape, dtype=torch.float64),
        center=False,
        return_complex=True,
    ).transpose(1, 2)
    real, imaginary = STFT(n_fft, hop, window).double()(audio)
    assert real.shape == imaginary.shape == expected.shape == (2, 20, n_fft // 2 + 1)
    assert decibels(torch.stack([real, imaginary]), torch.stack([expected.real, expected.imag])) >= 120.0


def test_gradients_pass_and_nothing_of_them_is_trained_or_saved() -> None:
    stft, istft = STFT(64, 16, "sqrt_hann").double(), ISTFT(64, 16, "sqrt_hann").double()
    audio = noise(1, 96).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: istft(*stft(x)), (audio,))
    for module in (stft, istft):
        assert not list(module.parameters())
        assert not module.state_dict()


def test_a_mask_is_learned_through_them() -> None:
    torch.manual_seed(0)
    stft, istft, gain = STFT(64, 32, "sqrt_hann"), ISTFT(64, 32, "sqrt_hann"), nn.Parameter(torch.zeros(33))
    step, audio, losses = torch.optim.Adam([gain], 0.05), noise(4, 640).float(), []
    target = torch.nn.functional.pad(0.5 * audio, (32, 0))[:, :640]
    for _ in range(120):
        real, imaginary = stft(audio)
        loss = (istft(gain * real, gain * imaginary) - target).square().mean()
        step.zero_grad()
        loss.backward()
        step.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 1e-3 * losses[0]
    assert gain.detach().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((511, 128), "n_fft: expected an even number"),
        ((0, 1), "n_fft: expected an even number"),
        ((512, 513), "hop: expected 1 to n_fft = 512"),
        ((512, 0), "hop: expected 1 to n_fft = 512"),
        ((512, 128, "kaiser"), "window: expected one of hann"),
        ((512, 128, torch.ones(400)), r"window: expected 512 finite numbers.*got \[400\]"),
        ((4, 2, [1.0, float("nan"), 1.0, 1.0]), "window: expected 4 finite numbers"),
        ((4, 2, ["a", "b", "c", "d"]), "window: expected a name or 4 numbers"),
    ],
)
def test_what_it_cannot_be_made_of(arguments: Any, message: str) -> None:
    for kind in (STFT, ISTFT):
        with pytest.raises(UsageError, match=message):
            kind(*arguments)


def test_windows_that_leave_samples_uncovered_have_no_inverse() -> None:
    assert hearpack.STFT(512, 512, "hann")
    with pytest.raises(UsageError, match="a hop of 512 leaves samples that no window covers"):
        hearpack.ISTFT(512, 512, "hann")


class Mask(nn.Module):
    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.stft, self.istft = STFT(n_fft, hop), ISTFT(n_fft, hop)
        self.gru, self.mask = nn.GRU(n_fft // 2 + 1, 8, batch_first=True), nn.Linear(8, n_fft // 2 + 1)

    def forward(self, audio: Tensor) -> Tensor:
        real, imaginary = self.stft(audio)
        hidden, _ = self.gru(torch.log(real * real + imaginary * imaginary + 1e-4))
        mask = torch.sigmoid(self.mask(hidden))
        return self.istft(mask * real, mask * imaginary)


@pytest.mark.parametrize("hops", [1, 3])
@pytest.mark.parametrize(("n_fft", "hop"), [(64, 16), (50, 20)])
def test_a_stream_is_the_whole_recording(n_fft: int, hop: int, hops: int) -> None:
    torch.manual_seed(1)
    geometry = {
        "task": "enhancer",
        "geometry": {"sample_rate_hz": 16000, "window_samples": n_fft, "hop_samples": hop},
        "net": {"form": "causal"},
    }
    entry: CustomEntry = dataclasses.replace(parse(geometry, "", "mask"), net=Mask(n_fft, hop).eval())
    stream = to_external_state(entry, hops)
    assert prove(entry, stream) < LIMIT
    kept = sum(int(np.prod(s.shape)) for s in stream.states if s.name != "gru_h")
    assert kept == 2 * (-(-n_fft // hop) - 1) * hop
