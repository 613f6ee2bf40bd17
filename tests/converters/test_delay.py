"""converters.delay: a delay that is surely wrong is refused with the figures; one that may be right is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.custom import open_custom
from converters.delay import refuse_wrong_delay
from models.common.errors import ConversionError
from models.custom.entry import CustomEntry

HOP = 64
NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(64, 64)
    def forward(self, audio, past):
        late = torch.cat([past, audio], 1)[:, 32:96]
        return {returned}, audio
def build(): return Net()
"""
# Half a hop late, a little changed; and with nothing left of the waveform, as random weights have it.
COPY = "0.9 * late + 0.05 * torch.tanh(self.linear(late))"
RANDOM = "0.3 + self.linear(late)"


def entry(tmp_path: Path, returned: str, delay: int) -> CustomEntry:
    (tmp_path / "net.py").write_text(NET.format(returned=returned))
    geometry = {"sample_rate_hz": 16000, "window_samples": 128, "hop_samples": HOP, "delay_samples": delay}
    return open_custom(
        str(tmp_path / "net.py"),
        {
            "task": "enhancer",
            "geometry": geometry,
            "net": {"form": "step"},
            "states": [{"name": "past", "shape": [1, HOP]}],
        },
    )


@pytest.mark.parametrize(("returned", "delay"), [(COPY, 32), (RANDOM, 0), (RANDOM, 32), (RANDOM, 128)])
def test_a_delay_that_may_be_right_passes(returned: str, delay: int, tmp_path: Path) -> None:
    refuse_wrong_delay(entry(tmp_path, returned, delay))


@pytest.mark.parametrize("delay", [0, 33, 5000])
def test_a_clear_delay_is_measured_to_the_sample(delay: int, tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        refuse_wrong_delay(entry(tmp_path, COPY, delay))
    said = str(caught.value)
    assert f"delay_samples is {delay}, but the output lags the input by 32 (correlation 1.00, 0.0" in said
    assert "write delay_samples = 32" in said


def test_a_delay_far_outside_of_the_answer_is_refused_without_any_likeness(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"delay_samples is 5000, but the output lags the input by -?\d+ to \d+;"):
        refuse_wrong_delay(entry(tmp_path, RANDOM, 5000))
