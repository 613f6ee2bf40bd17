"""Streams in random partitions against one push of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runtimes.bundle import Bundle
from runtimes.protocol import Outputs, State
from streaming.files.wav import write_wav
from streaming.metrics.partition import NONE, check_partitions, edge_click_db, partition_trials
from streaming.simulator.delay_check import ProbeRuntime
from tests.streaming.simulator.scenarios import speech


def test_streams_are_what_the_whole_is(exported: dict[str, Path], tmp_path: Path) -> None:
    audio = tmp_path / "speech.wav"
    write_wav(audio, speech(3.0), 48_000)
    for kind in ("dtln", "yamnet"):
        parity = check_partitions(exported[kind], audio, trials=6, seed=4)
        assert parity.equal
        assert any(t.reset_at != NONE for t in parity.trials)
        assert len({t.rate_hz for t in parity.trials}) == 5
        assert all(abs(t.edge_click_db) < 6.0 for t in parity.trials)


def test_a_click_at_the_edges_is_heard() -> None:
    tone = np.sin(np.arange(16_000) * 0.05).astype(np.float32)
    clicks = tone.copy()
    clicks[::128] += 0.05
    assert abs(edge_click_db(tone, 128)) < 1.0
    assert edge_click_db(clicks, 128) > 20.0


def test_a_forgetful_net_is_found(exported: dict[str, Path]) -> None:
    class Forgetful(ProbeRuntime):
        calls = 0

        def step(self, block: np.ndarray, state: State) -> tuple[Outputs, State]:
            self.calls += 1
            return super().step(block, self.reset() if self.calls == 50 else state)

    manifest = Bundle.open(exported["dtln"]).manifest
    parity = partition_trials(manifest, Forgetful(manifest), speech(2.0), 48_000, trials=1, seed=0)
    assert not parity.equal
    assert parity.trials[0].first_diverging >= 0
    assert parity.trials[0].error_db < 100.0
