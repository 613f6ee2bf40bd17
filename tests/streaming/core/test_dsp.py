"""The plain DSP against goldens made without numpy, its partition independence, and what a manifest may ask for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter

from models.common.errors import BundleError, UsageError
from models.geometry import GraphSignature, TensorSpec
from runtimes.bundle import Bundle, parse_manifest
from runtimes.protocol import Outputs, RuntimeInfo, State
from runtimes.stages import Gate, Highpass, Limiter, Stage, WetDry
from streaming.core.dsp import (
    FixedGain,
    GatedRuntime,
    HighpassFilter,
    InputChain,
    OutputChain,
    PeakLimiter,
    WetDryMix,
    WindowGate,
    energy,
    gated,
    level_dbfs,
)

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "fixtures" / "dsp" / "golden.json").read_text())
RATE = int(GOLDEN["sample_rate_hz"])
INPUT = (np.array(GOLDEN["input"], np.float64) / 2.0**23).astype(np.float32)
PARSE: TypeAdapter[Any] = TypeAdapter(Stage)
Array = NDArray[np.float32]


def cases(kind: str) -> list[dict[str, Any]]:
    found = [c for c in GOLDEN["cases"] if c["stage"]["kind"] == kind]
    assert len(found) >= 3
    return found


def processor(case: dict[str, Any]) -> Any:
    stage = PARSE.validate_python(case["stage"])
    if stage.kind == "highpass":
        return HighpassFilter(stage, RATE)
    if stage.kind == "gain":
        return FixedGain(stage)
    if stage.kind == "limiter":
        return PeakLimiter(stage, RATE)
    mix = WetDryMix(stage, case["delay_samples"])
    mix.feed(INPUT)
    return mix


def source(case: dict[str, Any]) -> Array:
    return INPUT[::-1].copy() if case["stage"]["kind"] == "wet_dry" else INPUT


@pytest.mark.parametrize("case", [c for c in GOLDEN["cases"] if "output" in c], ids=lambda c: str(c["stage"]))
def test_golden_to_the_bit(case: dict[str, Any]) -> None:
    made = processor(case)
    for name, value in case["constants"].items():
        assert getattr(made, name) == value
    wanted = np.array(case["output"], np.float64).astype(np.float32)
    assert np.abs(wanted).max() > 0
    np.testing.assert_array_equal(made.process(source(case)), wanted)


@pytest.mark.parametrize("case", cases("gate"), ids=lambda c: str(c["stage"]))
def test_golden_gate(case: dict[str, Any]) -> None:
    gate = WindowGate(PARSE.validate_python(case["stage"]), case["window_samples"])
    windows = INPUT.reshape(-1, case["window_samples"])
    assert gate.limit == case["limit"]
    assert [energy(w) for w in windows] == case["energies"]
    assert [gate.opens(w) for w in windows] == case["opens"]
    assert True in case["opens"]


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(INPUT)), max_size=6).map(sorted),
    case=st.sampled_from([c for c in GOLDEN["cases"] if "output" in c]),
)
def test_any_partition_gives_the_same_bits(cuts: list[int], case: dict[str, Any]) -> None:
    whole = processor(case).process(source(case))
    made = processor(case)
    parts = [made.process(p) for p in np.split(source(case), cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_reset_begins_anew() -> None:
    for kind in ("highpass", "limiter"):
        made = processor(cases(kind)[1])
        first = made.process(INPUT)
        made.reset()
        np.testing.assert_array_equal(made.process(INPUT), first)


def test_highpass_takes_out_dc_and_passes_what_is_above() -> None:
    t = np.arange(RATE, dtype=np.float64) / RATE
    made = HighpassFilter(Highpass(kind="highpass", cutoff_hz=80.0), RATE)
    assert np.abs(made.process(np.full(RATE, 0.5, np.float32))[-100:]).max() < 1e-6
    for frequency, expected_db in ((1000.0, 0.0), (80.0, -3.01), (20.0, -24.1)):
        made.reset()
        out = made.process(np.sin(2 * np.pi * frequency * t).astype(np.float32))[RATE // 2 :]
        gain_db = 10 * math.log10(float(np.mean(out.astype(np.float64) ** 2)) * 2)
        assert gain_db == pytest.approx(expected_db, abs=0.1)


def test_highpass_falls_to_true_zero_in_silence() -> None:
    made = HighpassFilter(Highpass(kind="highpass", cutoff_hz=80.0), RATE)
    made.process(INPUT)
    made.process(np.zeros(RATE, np.float32))
    assert made._y1 == 0.0
    assert made._y2 == 0.0


def test_limiter_never_exceeds_its_ceiling_and_lets_go_again() -> None:
    made = PeakLimiter(Limiter(kind="limiter", ceiling_dbfs=-1.0, release_ms=20.0), RATE)
    loud = made.process(INPUT * 4)
    assert np.abs(loud).max() <= made.ceiling
    assert made.gain < 1.0
    quiet = np.full(RATE, 0.1, np.float32)
    made.process(quiet)
    assert made.gain == 1.0
    np.testing.assert_array_equal(made.process(quiet), quiet)


def test_level_of_known_signals() -> None:
    t = np.arange(RATE, dtype=np.float64) / RATE
    sine = np.sin(2 * np.pi * 1000 * t).astype(np.float32)
    assert level_dbfs(energy(sine), RATE) == pytest.approx(-3.01, abs=0.01)
    assert level_dbfs(energy(np.zeros(9, np.float32)), 9) == -math.inf
    chain = InputChain(None, RATE)
    chain.process(sine[:8000])
    chain.process(sine[8000:] * np.float32(0.5))
    level = chain.meter.read()
    assert level.peak == pytest.approx(1.0, abs=1e-6)
    assert level.rms_dbfs == pytest.approx(-3.01 + 10 * math.log10(0.625), abs=0.01)
    assert chain.meter.read().rms_dbfs == -math.inf


def test_wet_dry_at_its_ends_and_without_input() -> None:
    for limit_db, wanted in ((0.0, INPUT), (120.0, -INPUT)):
        chain = OutputChain((WetDry(kind="wet_dry", attenuation_limit_db=limit_db),), RATE, 0)
        chain.feed(INPUT)
        np.testing.assert_allclose(chain.process(-INPUT), wanted, atol=1e-5)
    with pytest.raises(UsageError, match="only 0 of input were fed"):
        chain.process(INPUT)


class Counting:
    """A windowed classifier that gives ones and counts its calls."""

    signature = GraphSignature(
        (TensorSpec("audio", (1, 60), (-1, 1), "in"),), (TensorSpec("scores", (1, 3), (0, 1), "out"),)
    )
    info = RuntimeInfo("fake", "0")

    def __init__(self) -> None:
        self.calls = 0

    def reset(self) -> State:
        return {}

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        self.calls += 1
        return {"scores": np.ones((1, 3), np.float32)}, state

    def close(self) -> None:
        pass


def test_gate_spares_the_net_its_silent_windows() -> None:
    inner = Counting()
    runtime = gated(inner, (Gate(kind="gate", threshold_dbfs=-80.0, hold_windows=0),), 60)
    assert isinstance(runtime, GatedRuntime)
    state = runtime.reset()
    scores = [runtime.step(w.reshape(1, -1), state)[0]["scores"] for w in INPUT.reshape(-1, 60)]
    assert [float(s.max()) for s in scores] == [1, 1, 0, 0, 1, 1, 1, 1]
    assert (inner.calls, runtime.skipped) == (6, 2)
    assert gated(inner, None, 60) is inner


def manifest_text(bundle: Path, **changes: Any) -> str:
    data = json.loads((bundle / "manifest.json").read_text())
    data.update(changes)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("model", "stages", "message"),
    [
        ("dtln", [{"kind": "reverb"}], "dsp"),
        ("dtln", [{"kind": "gain", "gain_db": 90}], "less than or equal to 40"),
        ("dtln", [{"kind": "gain", "gain": 3}], "dsp"),
        ("dtln", [{"kind": "limiter", "ceiling_dbfs": 0, "release_ms": 9}, {"kind": "gain", "gain_db": 1}], "order"),
        ("dtln", [{"kind": "gain", "gain_db": 1}, {"kind": "gain", "gain_db": 1}], "once each"),
        ("dtln", [{"kind": "gate", "threshold_dbfs": -50}], "windowed classifiers"),
        ("yamnet", [{"kind": "wet_dry", "attenuation_limit_db": 12}], "enhancer's output"),
        ("dtln", [{"kind": "highpass", "cutoff_hz": 7900}], "above 0.45 of the rate"),
    ],
)
def test_manifests_that_ask_for_nonsense_are_refused(
    exported: dict[str, Path], model: str, stages: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        parse_manifest(manifest_text(exported[model], dsp=stages), "manifest.json")


def test_stages_survive_a_round_trip(exported: dict[str, Path]) -> None:
    stages = [{"kind": "highpass", "cutoff_hz": 80.0}, {"kind": "limiter", "ceiling_dbfs": -1.0, "release_ms": 50.0}]
    manifest = parse_manifest(manifest_text(exported["dtln"], dsp=stages), "manifest.json")
    assert json.loads(manifest.dump())["dsp"] == stages
    assert Bundle.open(exported["dtln"]).manifest.dsp is None


def test_run_applies_what_the_manifest_asks(copy_of: Any, tmp_path: Path) -> None:
    from streaming.files.stream_file import run
    from streaming.files.wav import read_wav, write_wav

    bundle = copy_of("dtln")
    stages = [
        {"kind": "wet_dry", "attenuation_limit_db": 0.0},
        {"kind": "limiter", "ceiling_dbfs": -6.0, "release_ms": 5.0},
    ]
    (bundle / "manifest.json").write_text(manifest_text(bundle, dsp=stages))
    noise = np.random.default_rng(1).uniform(-0.4, 0.4, 16_000).astype(np.float32)
    noise[8000] = 0.9
    write_wav(tmp_path / "in.wav", noise, 16_000)
    run(Bundle.open(bundle), tmp_path / "in.wav", output=tmp_path / "out.wav")
    out = read_wav(tmp_path / "out.wav").samples[0]
    np.testing.assert_array_equal(out[:8000], noise[:8000])
    assert out.max() == pytest.approx(10 ** (-6 / 20), abs=1e-5)


def test_run_spares_a_classifier_the_silence(copy_of: Any, tmp_path: Path) -> None:
    from streaming.files.stream_file import run
    from streaming.files.wav import write_wav

    bundle = copy_of("yamnet")
    noise = np.random.default_rng(2).uniform(-0.4, 0.4, 5 * 16_000).astype(np.float32)
    noise[32_000:] *= 1e-6
    write_wav(tmp_path / "in.wav", noise, 16_000)
    calls = []
    for dsp in (None, [{"kind": "gate", "threshold_dbfs": -60.0}]):
        (bundle / "manifest.json").write_text(manifest_text(bundle, dsp=dsp))
        calls.append(run(Bundle.open(bundle), tmp_path / "in.wav").calls)
    assert 3 <= calls[1] < calls[0] - 3
