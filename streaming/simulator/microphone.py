"""The machine's own microphone as the capture of a run in real time (extra `live`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.common.errors import AudioError, MissingDependencyError
from runtimes.bundle import Bundle
from streaming.runs.record import AudioRecord, RunRecord
from streaming.simulator.device.callbacks import Callback, ClipSource
from streaming.simulator.device.profile import LONGEST_S, DeviceProfile
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.pipeline import NOBODY, Observer
from streaming.simulator.realtime import Feeder
from streaming.simulator.run import run_scenario
from streaming.simulator.scenario import Scenario, Settings, Sound

_DEFAULT_S = 3600.0


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as exc:
        raise MissingDependencyError("sounddevice", "live", "listening to the microphone") from exc
    except OSError as exc:  # the package is there, its PortAudio is not
        raise AudioError(
            f"the microphone cannot be used: {exc}; install PortAudio (apt install libportaudio2)"
        ) from exc
    return sounddevice


def run_microphone(
    bundle: Bundle,
    like: DeviceProfile,
    settings: Settings,
    seconds: float | None = None,
    output: Path | None = None,
    command: Sequence[str] = (),
    observer: Observer = NOBODY,
) -> RunRecord:
    """Listen until `seconds` are over (an hour without) or Ctrl-C.

    Args:
        bundle, settings: what runs.
        like: gives what the sound card does not say.
        seconds, output, command, observer: as in streaming.simulator.simulate.

    Raises:
        MissingDependencyError: sounddevice is not installed.
        AudioError: there is no microphone, or it cannot be opened.
    """
    sounddevice = _sounddevice()
    try:
        info = sounddevice.query_devices(kind="input")
    except (sounddevice.PortAudioError, ValueError) as exc:
        raise AudioError(
            f"no microphone was found ({exc}); connect one, or give an audio file instead of --mic"
        ) from exc
    rate = round(info["default_samplerate"])
    profile = _profile(like, rate, str(info["name"]))
    seconds = min(LONGEST_S, seconds or _DEFAULT_S)
    # Only its length is looked at: the blocks come from the sound card.
    source = ClipSource(np.zeros(rate, np.float32), rate, seconds)
    sound = Sound(source, AudioRecord("microphone", "", rate, seconds))

    def feed(feeder: Feeder) -> Any:
        frame = 0

        def on_block(block: Any, frames: int, _time: Any, status: Any) -> None:
            nonlocal frame
            now = feeder.now_ns()
            captured = max(0, now - frames * SECOND_NS // rate)
            if status:
                feeder.note("capture_overrun", str(status))
            feeder.feed(Callback(now, frames, rate, frame, captured, 0, ""), block[:, 0].copy())
            frame += frames

        try:
            return sounddevice.InputStream(
                samplerate=rate, channels=1, dtype="float32", blocksize=profile.block_frames[1], callback=on_block
            )
        except (sounddevice.PortAudioError, ValueError) as exc:
            raise AudioError(f"the microphone cannot be opened: {exc}") from exc

    scenario = Scenario(bundle, sound, profile, dataclasses.replace(settings, clock="realtime", check=False))
    return run_scenario(scenario, output=output, command=command, observer=observer, live=feed)


def _profile(like: DeviceProfile, rate: int, name: str) -> DeviceProfile:
    source = f"the sound card: {name}"
    sources = {**like.sources, "rate_hz": source, "slowdown": "by definition: this machine"}
    return dataclasses.replace(
        like,
        name="microphone",
        title=name,
        rate_hz=rate,
        slowdown=1.0,
        cold_input_ms=0.0,
        rate_changes=(),
        sources=sources,
    )
