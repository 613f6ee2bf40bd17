"""Two nets on one simulated thread: the events of streaming/core/stages.py, and each call's time where it belongs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from models.weights.assets import pull_asset
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime
from streaming.core.stages import StageGate, StageNet, Stages
from streaming.files.wav import read_wav
from streaming.runs.together import labels_of
from streaming.simulator.device.profile import load_profile
from streaming.simulator.scenario import Scenario, Settings, clip_sound
from streaming.simulator.together import NetRun, run_pair
from tests.streaming.simulator.scenarios import MS, conserved

PROFILE = dataclasses.replace(load_profile("android-burst-192"), cold_input_ms=0.0, dropouts_per_hour=0.0)


def scenarios(bundles: tuple[Bundle, Bundle], times_ns: tuple[int, int]) -> list[Scenario]:
    clip = read_wav(pull_asset("street-wav"))
    sound = clip_sound(clip.samples[0, : 6 * clip.sample_rate_hz], clip.sample_rate_hz, "street")
    return [
        Scenario(b, sound, PROFILE, Settings(compute_ns=ns, check=False))
        for b, ns in zip(bundles, times_ns, strict=True)
    ]


def staged(pair: list[Scenario], behind: bool, gate: StageGate | None) -> tuple[list[list[tuple]], Stages]:
    """The same sound, at the device's rate, through `Stages`."""
    runtimes = [open_runtime(s.bundle, choose(s.bundle)) for s in pair]
    nets = [
        StageNet(pair[0].bundle.manifest, runtimes[0], labels_of(pair[0].bundle)),
        StageNet(pair[1].bundle.manifest, runtimes[1], labels_of(pair[1].bundle), 0 if behind else None, gate),
    ]
    source, rate = pair[0].sound.source, PROFILE.rate_hz
    stages = Stages(nets, rate)
    given = stages.push(source.read(rate, 0, source.frames(rate))) + stages.flush()
    events: list[list[tuple]] = [[], []]
    for output in given:
        events[output.stage] += [
            (e.index, e.onset_sample, e.offset_sample, e.confidence)
            for e in output.events
            if e.offset_sample is not None
        ]
    return [sorted(e) for e in events], stages


def told(runs: tuple[NetRun, NetRun]) -> list[list[tuple]]:
    return [sorted((e.index, e.onset_sample, e.offset_sample, e.confidence) for e in r.record.events) for r in runs]


def test_beside_behind_and_gated_give_the_events_and_calls_of_stages(yamnet: Bundle, dtln: Bundle) -> None:
    heard, _ = staged(scenarios((yamnet, dtln), (MS, MS)), False, None)
    label = heard[0][0][0]
    cases = [
        ((yamnet, dtln), False, None),
        ((dtln, yamnet), True, None),
        ((yamnet, dtln), False, StageGate(0, label)),
    ]
    for bundles, behind, gate in cases:
        pair = scenarios(bundles, (MS, MS))
        expected, stages = staged(pair, behind, gate)
        runs = run_pair(pair, behind=behind, gate=gate)
        assert any(expected)
        assert told(runs) == expected
        assert [r.record.counts.calls - r.spared for r in runs] == list(stages.calls)
        assert [r.spared for r in runs] == list(stages.spared)
        assert (runs[1].spared > 0) == (gate is not None)
        for run in runs:
            conserved(run.record)


def test_a_long_call_of_one_is_waited_for_by_the_other(yamnet: Bundle, dtln: Bundle) -> None:
    short, long = (run_pair(scenarios((yamnet, dtln), (ns, MS))) for ns in (MS, 60 * MS))
    waits = [r[1].record.ledger[0].parts["ring_wait"].max for r in (short, long)]
    assert waits[1] - waits[0] > 50 * MS
    assert np.isclose(long[0].busy, 60e6 * long[0].record.counts.calls / 1e9 / long[0].record.simulated_s, rtol=1e-6)


def test_each_run_is_written_whole(yamnet: Bundle, dtln: Bundle, tmp_path: Path) -> None:
    run_pair(scenarios((dtln, yamnet), (MS, MS)), behind=True, outputs=[tmp_path / "a-1.run", tmp_path / "a-2.run"])
    assert {p.name for p in tmp_path.iterdir()} == {"a-1.run", "a-2.run"}
    assert (tmp_path / "a-2.run" / "scores.f32").stat().st_size > 0
