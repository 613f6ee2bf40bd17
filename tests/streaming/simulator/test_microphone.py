"""The microphone path with a sound card that is not there: a fake of the parts of sounddevice that are used."""

from __future__ import annotations

import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common.errors import AudioError, MissingDependencyError
from runtimes.bundle import Bundle
from streaming.simulator.modes import Microphone
from streaming.simulator.simulate import simulate


class FakeStream:
    """Calls back with noise as a sound card would, from a thread of its own."""

    def __init__(
        self, samplerate: int, channels: int, dtype: str, blocksize: int, callback: Callable[..., None]
    ) -> None:
        assert (channels, dtype) == (1, "float32")
        self._rate, self._block, self._callback = samplerate, blocksize, callback
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        generator = np.random.default_rng(0)
        number = 0
        while not self._stop.wait(self._block / self._rate):
            block = (0.1 * generator.standard_normal((self._block, 1))).astype(np.float32)
            self._callback(block, self._block, None, "input overflow" if number == 5 else "")
            number += 1

    def __enter__(self) -> FakeStream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def fake(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
    class PortAudioError(Exception):
        pass

    module = types.ModuleType("sounddevice")
    module.PortAudioError = PortAudioError  # type: ignore[attr-defined]
    module.query_devices = lambda kind: {"default_samplerate": 44_100.0, "name": "a card"}  # type: ignore[attr-defined]
    module.InputStream = FakeStream  # type: ignore[attr-defined]
    for name, part in parts.items():
        setattr(module, name, part)
    monkeypatch.setitem(sys.modules, "sounddevice", module)


@pytest.mark.parametrize("kind", ["dtln", "yamnet"])
def test_blocks_of_a_sound_card_go_through(
    exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    fake(monkeypatch)
    record = simulate(exported[kind], Microphone(seconds=2.0), output=tmp_path / "x.run")
    assert record.ended == "finished"
    assert record.audio.name == "microphone"
    assert record.clock == "realtime"
    assert record.profile.figures["rate_hz"].source == "the sound card: a card"
    counts = record.counts
    assert counts.callbacks > 50
    assert counts.captured == 480 * counts.callbacks
    assert counts.written == counts.read + counts.held + counts.dropped > 16_000
    assert counts.calls > 0
    assert [f.detail for f in record.faults if f.kind == "capture_overrun"] == ["input overflow"]


def test_no_microphone_is_said(exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def none(kind: str) -> None:
        raise ValueError("no input device matching ''")

    fake(monkeypatch, query_devices=none)
    bundle = Bundle.open(exported["dtln"])
    with pytest.raises(AudioError, match="no microphone was found"):
        simulate(bundle, Microphone())
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingDependencyError, match="live"):
        simulate(bundle, Microphone())


def test_a_stream_that_cannot_be_opened_is_said(exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ValueError("Invalid sample rate")

    fake(monkeypatch, InputStream=refuse)
    began = time.monotonic()
    with pytest.raises(AudioError, match="cannot be opened: Invalid sample rate"):
        simulate(exported["dtln"], Microphone(seconds=30.0))
    assert time.monotonic() - began < 20.0
