"""streaming.simulator.virtual: nothing is lost or doubled whatever device, times and faults; the same every time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import ArtefactError
from runtimes.bundle import Bundle, Manifest
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.device.callbacks import Callback
from streaming.simulator.device.faults import parse_fault
from streaming.simulator.pipeline.output import Call
from streaming.simulator.pipeline.pipeline import Observer, Pipeline
from streaming.simulator.scenario import Scenario, Settings, clip_sound
from tests.streaming.simulator.pipeline.small import (
    CLASSIFIER,
    DELAY,
    ENHANCER,
    HOP,
    LABELS,
    PROFILE,
    RATE,
    SAMPLE_NS,
    WINDOW,
    noise,
)

MS = 1_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle's folder with labels and no net."""
    path = tmp_path_factory.mktemp("bundle")
    (path / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    return path


@dataclasses.dataclass
class Ran:
    """A run that is over; `plan` are the callbacks that the device made."""

    plan: list[Callback]
    pipeline: Pipeline
    end_ns: int
    calls: list[Call]
    heard: np.ndarray


def run(
    folder: Path,
    manifest: Manifest,
    samples: np.ndarray,
    profile: dict[str, Any],
    faults: tuple[str, ...] = (),
    compute_ms: float = 1.0,
    at_once: int | None = None,
    **changes: Any,
) -> Ran:
    chosen = Settings(compute_ns=round(compute_ms * MS), check=False, faults=tuple(map(parse_fault, faults)), **changes)
    device = dataclasses.replace(PROFILE, **profile)
    scenario = Scenario(Bundle(folder, manifest), clip_sound(samples, RATE, "made"), device, chosen)
    calls: list[Call] = []
    heard: list[np.ndarray] = []
    observer = Observer(on_call=calls.append, on_read=lambda _, out: heard.append(out))
    pipeline = scenario.pipeline(ProbeRuntime(manifest), None, observer, at_once)
    end = scenario.run_virtual(pipeline)
    return Ran(list(scenario.callbacks()), pipeline, end, calls, np.concatenate([*heard, np.zeros(0, np.float32)]))


def conserved(ran: Ran, samples: int) -> None:
    counts, playout = ran.pipeline.counts, ran.pipeline.playout_record
    assert counts.captured == sum(callback.frames for callback in ran.plan)
    assert counts.lost == sum(callback.lost for callback in ran.plan)
    reached = ran.plan[-1].first_frame + ran.plan[-1].frames if ran.plan else 0  # a loss at the end is in none
    assert counts.captured + counts.lost == reached <= samples
    assert counts.written == counts.captured  # at one rate throughout
    assert counts.written == counts.read + counts.held + counts.dropped
    assert counts.held == 0
    if playout is not None:
        assert playout.offered == playout.written + playout.dropped
        assert playout.written == playout.consumed + playout.held
        assert playout.held == 0


DEVICES = st.fixed_dictionaries(
    {
        "block_frames": st.sampled_from([(80, 80), (33, 33), (20, 200), (512, 512)]),
        "jitter_us": st.sampled_from([0.0, 3000.0]),
        "dropouts_per_hour": st.sampled_from([0.0, 20_000.0]),
        "dropout_ms": st.just(20.0),
        "late_per_minute": st.sampled_from([0.0, 300.0]),
        "late_ms": st.just(40.0),
        "output_clock_ppm": st.sampled_from([0.0, 300.0]),
    }
)
FAULTS = st.lists(
    st.sampled_from(["stall@0.3:200ms", "capture_stall@0.5:100ms", "dropout@0.7:30ms", "nan@0.2", "raise@0.6:2x"]),
    max_size=3,
    unique=True,
).map(tuple)


@given(
    device=DEVICES,
    faults=FAULTS,
    compute_ms=st.sampled_from([0.5, 7.0, 30.0]),
    policy=st.sampled_from(["drop_oldest", "skip_hop", "grow_delay"]),
    task=st.sampled_from([ENHANCER, CLASSIFIER]),
    samples=st.integers(1, RATE),
)
@settings(max_examples=30, deadline=None)
def test_every_sample_is_accounted_for(
    folder: Path,
    device: dict[str, Any],
    faults: tuple[str, ...],
    compute_ms: float,
    policy: Any,
    task: Manifest,
    samples: int,
) -> None:
    sound = noise(samples)
    ran = run(folder, task, sound, device, faults, compute_ms, policy=policy)
    conserved(ran, len(sound))
    counts = ran.pipeline.counts
    if not device["dropouts_per_hour"] and not any(fault.startswith("dropout") for fault in faults):
        assert counts.captured + counts.lost == len(sound)
    assert counts.calls == len(ran.calls)
    assert [call.number for call in ran.calls] == list(range(len(ran.calls)))
    assert all(a.end_ns <= b.start_ns for a, b in zip(ran.calls, ran.calls[1:], strict=False))
    assert all(call.ready_ns <= call.start_ns for call in ran.calls)
    assert counts.misses == sum(call.end_ns > call.late_ns for call in ran.calls)


@given(device=DEVICES, faults=FAULTS, at_once=st.sampled_from([1, 3, 64]), task=st.sampled_from([ENHANCER, CLASSIFIER]))
@settings(max_examples=15, deadline=None)
def test_the_same_run_again_is_the_same_however_much_is_done_at_once(
    folder: Path, device: dict[str, Any], faults: tuple[str, ...], at_once: int, task: Manifest
) -> None:
    one, two = (run(folder, task, noise(RATE), device, faults, 3.0, many) for many in (None, at_once))
    assert one.pipeline.counts == two.pipeline.counts
    assert one.end_ns == two.end_ns
    assert np.array_equal(one.heard, two.heard)
    assert [(c.start_ns, c.end_ns, c.first) for c in one.calls] == [(c.start_ns, c.end_ns, c.first) for c in two.calls]
    assert one.pipeline.events == two.pipeline.events


def test_what_the_device_plays_is_what_it_heard_and_the_nets_delay(folder: Path) -> None:
    sound = noise(RATE)
    ran = run(folder, ENHANCER, sound, {})
    playout = ran.pipeline.playout_record
    assert playout is not None
    assert (playout.underruns, playout.adjust_ppm) == (0, 0.0)
    assert np.array_equal(ran.heard[playout.silence + DELAY :][: len(sound)], sound)
    assert not ran.heard[: playout.silence + DELAY].any()


def test_calls_begin_when_their_buffer_is_complete_and_the_net_is_free(folder: Path) -> None:
    """Blocks of 80, hops of 64: a call begins 50 us after the callback that completes it, or when the last one ends."""
    device = {"block_frames": (80, 80), "scheduling_delay_us": 0.0, "input_latency_ms": 0.0, "wakeup_us": 50.0}
    ran = run(folder, ENHANCER, noise(800), device, compute_ms=1.0)
    for number, call in enumerate(ran.calls[:12]):
        complete = -(-HOP * (number + 1) // 80) * 80 * SAMPLE_NS
        assert call.ready_ns == complete
        before = ran.calls[number - 1].end_ns if number else 0
        assert call.start_ns == max(complete + 50_000, before)
        assert call.end_ns == call.start_ns + MS


def test_a_classifier_sees_every_window_of_the_sound(folder: Path) -> None:
    ran = run(folder, CLASSIFIER, noise(1000), {})
    assert [call.end for call in ran.calls] == [WINDOW + WINDOW // 2 * k for k in range(12)]
    assert ran.pipeline.counts.read == 1000


def test_a_net_that_fails_too_often_ends_the_run(folder: Path) -> None:
    with pytest.raises(ArtefactError, match="the model failed 5 times in a row"):
        run(folder, ENHANCER, noise(RATE), {}, ("raise@0.1:9x",))
