"""A file through a bundle: what no net may be given, and what no net may give, is counted and said."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hearpack.cli import app
from runtimes.bundle import Bundle
from runtimes.protocol import Outputs, Runtime, State
from streaming.files import stream_file
from streaming.files.wav import read_wav, write_wav
from streaming.simulator.delay_check import ProbeRuntime

RATE = 16_000


def noise(seconds: float, peak: float) -> np.ndarray:
    samples = np.random.default_rng(3).uniform(-1.0, 1.0, round(seconds * RATE)).astype(np.float32)
    return (samples * np.float32(peak / np.abs(samples).max())).astype(np.float32)


class _Spoilt(ProbeRuntime):
    """The tenth call since a reset gives NaN, and all that follow."""

    def reset(self) -> State:
        self.seen = 0
        return super().reset()

    def step(self, block: np.ndarray, state: State) -> tuple[Outputs, State]:
        self.seen += 1
        outputs, state = super().step(block, state)
        return {k: v * np.float32(np.nan if self.seen >= 10 else 1.0) for k, v in outputs.items()}, state


@pytest.mark.parametrize("rate_hz", [RATE, 48_000])
def test_20_db_over_full_scale_is_limited_and_said_and_spoils_no_fp16_net(
    exported: dict[str, Path], tmp_path: Path, rate_hz: int
) -> None:
    samples = noise(0.5, 10.0)
    write_wav(tmp_path / "loud.wav", samples[None], rate_hz)
    output = tmp_path / "out.wav"
    done = CliRunner().invoke(
        app,
        ["run", str(exported["dtln"]), str(tmp_path / "loud.wav"), "-o", str(output), "--artefact", "litert-fp16"],
    )
    assert done.exit_code == 0, done.output
    said = re.search(r"(\d+) samples were more than 12 dB over full scale", done.output)
    assert said is not None
    came = int((np.abs(samples) > 4.0).sum())
    assert int(said.group(1)) == came if rate_hz == RATE else int(said.group(1)) >= came  # a resampler overshoots
    assert "no finite output" not in done.output
    enhanced = read_wav(output).samples
    assert np.isfinite(enhanced).all()
    assert np.abs(enhanced).max() > 0.1


@pytest.mark.parametrize("name", ["dtln", "yamnet"])
def test_a_net_that_is_spoilt_is_reset_and_the_file_goes_on(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def spoilt(bundle: Bundle, choice: object) -> Runtime:
        return _Spoilt(bundle.manifest)

    monkeypatch.setattr(stream_file, "open_runtime", spoilt)
    write_wav(tmp_path / "in.wav", noise(20.0 if name == "yamnet" else 1.0, 0.9)[None], RATE)
    output = tmp_path / ("out.csv" if name == "yamnet" else "out.wav")
    result = stream_file.run(exported[name], tmp_path / "in.wav", output=output)
    assert result.nan_outputs == result.calls // 10 > 1
    assert result.limited_samples == 0
    if name == "dtln":
        enhanced = read_wav(output).samples[0]
        silent = [at for at in range(0, len(enhanced) - 128, 128) if not enhanced[at : at + 128].any()]
        assert 0 < len(silent) <= 4 * result.nan_outputs  # its block, and the delay of three that begins anew
