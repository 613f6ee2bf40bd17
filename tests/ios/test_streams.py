"""The Swift core with real inference against Python on the same artefact: bits, events, traces, allocations."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.bundle import Bundle
from runtimes.litert import LiteRTRuntime
from runtimes.protocol import Runtime
from streaming.core.decisions import detect, same_event
from streaming.core.dsp import InputChain, OutputChain, gated
from streaming.core.loop import LoopOutput, make_loop
from streaming.core.resample import Resampler
from streaming.files.stream_file import event_fields
from streaming.metrics.parity import audio_parity, ratio_db
from tests.fixtures import hostile_bundles
from tests.ios.swift_kit import ROOT, Kit, litert_library

Array = NDArray[np.float32]
RATES = (16_000, 48_000, 44_100, 8_000)


def audio(bundle: Path, rate_hz: int) -> Path:
    """Ten seconds of real audio at a rate: the bundle's golden inputs; others take the 48 kHz samples as they are."""
    return bundle / "golden" / ("input.f32" if rate_hz == 16_000 else "input-48000.f32")


def open_compiled(bundle: Bundle, artefact_id: str) -> Runtime:
    artefact = bundle.artefact(artefact_id)
    return LiteRTRuntime(bundle.artefact_path(artefact), bundle.manifest.signature, "compiled", io_names=artefact.io)


def reference(path: Path, artefact_id: str, rate_hz: int, with_dsp: bool = False) -> tuple[Array, list[int], list[Any]]:
    """Values, ends and events of Python's CompiledModel, in blocks of 1,000."""
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    dsp = manifest.dsp if with_dsp else None
    runtime = gated(open_compiled(bundle, artefact_id), dsp, manifest.buffer.samples)
    loop = make_loop(manifest, runtime)
    rate = manifest.geometry.sample_rate_hz
    resampler, before = Resampler(rate_hz, rate), InputChain(dsp, rate)
    after = OutputChain(dsp, rate, manifest.geometry.delay_samples)
    samples = np.fromfile(audio(path, rate_hz), "<f4")
    heard: list[LoopOutput] = []

    def push(block: Array) -> None:
        block = before.process(block)
        after.feed(block)
        heard.extend(loop.push(block))

    for start in range(0, len(samples), 1_000):
        push(resampler.process(samples[start : start + 1_000]))
    push(resampler.flush())
    heard += loop.flush()
    runtime.close()
    values = np.concatenate([h.values for h in heard])
    if loop.audio_out:
        values = after.process(values)
    ends = [h.end_sample for h in heard]
    events: list[Any] = []
    if manifest.decisions is not None:
        table = values.reshape(len(ends), -1)
        found = detect(manifest.decisions, bundle.labels(), rate, np.array(ends), table, loop.in_samples)
        events = [event_fields(e) for e in found]
    return values, ends, events


@pytest.mark.parametrize(
    ("name", "rate_hz"),
    [*((n, r) for n in ("yamnet", "dtln") for r in RATES), ("gtcrn", 16_000), ("gtcrn", 48_000)],
)
@pytest.mark.parametrize("artefact", ["litert-fp32", "litert-fp16"])
def test_bit_equal_to_pythons_compiled_model(
    kit: Kit, exported: dict[str, Path], tmp_path: Path, name: str, artefact: str, rate_hz: int
) -> None:
    """16 kHz is asked for to the bit and other rates to 110 dB; the resampler is exact, so all of them are."""
    bundle = exported[name]
    values, ends, events = reference(bundle, artefact, rate_hz)
    for blocks in ("fixed:128", "fixed:4800", "ragged:1", "ragged:77"):
        output = tmp_path / "out.f32"
        answer = kit.probe(
            "stream", bundle, artefact, input=audio(bundle, rate_hz), rate=rate_hz, blocks=blocks, output=output
        )
        got = np.fromfile(output, "<f4")
        assert got.tobytes() == values.tobytes(), f"{blocks}: {ratio_db(*_energies(values, got)):.1f} dB"
        assert answer["ends"] == ends
        assert [{k: e[k] for k in events[0]} for e in answer["events"]] == events if events else answer["events"] == []


def _energies(values: Array, got: Array) -> tuple[float, float]:
    if len(values) != len(got):
        return 0.0, 1.0
    wide = values.astype(np.float64)
    return float((wide**2).sum()), float(((got - wide) ** 2).sum())


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_the_figures_of_the_table(kit: Kit, exported: dict[str, Path], tmp_path: Path, rate_hz: int) -> None:
    """DTLN against its golden output, which is the fp32 torch original's: at least 110 dB at both rates."""
    bundle, output = exported["dtln"], tmp_path / "out.f32"
    kit.probe("stream", bundle, input=audio(bundle, rate_hz), rate=rate_hz, blocks="ragged:5", output=output)
    golden = np.fromfile(bundle / "golden" / ("enhanced.f32" if rate_hz == 16_000 else "enhanced-48000.f32"), "<f4")
    assert audio_parity(golden[384:], np.fromfile(output, "<f4")[384:], 16_000).snr_db >= 110


def test_events_are_those_of_the_golden_vectors(kit: Kit, exported: dict[str, Path], tmp_path: Path) -> None:
    bundle = exported["yamnet"]
    for stream in json.loads((bundle / "golden" / "golden.json").read_text())["streams"]:
        answer = kit.probe(
            "stream",
            bundle,
            input=bundle / "golden" / stream["input"],
            rate=stream["sample_rate_hz"],
            blocks="ragged:9",
            output=tmp_path / "out.f32",
        )
        expected = stream["events"]
        assert len(expected) >= 5
        for ours, theirs in zip(answer["events"], expected, strict=True):
            assert {k: ours[k] for k in ("label", "index", "onset_sample", "offset_sample")} == {
                k: theirs[k] for k in ("label", "index", "onset_sample", "offset_sample")
            }
            # The golden events are torch's: the score of another runtime may differ in its sixth digit.
            assert abs(ours["confidence"] - theirs["confidence"]) <= 1e-4


def test_same_event_is_the_same_in_both_languages() -> None:
    text = (ROOT / "ios-sample/HearpackKit/Sources/HearpackKit/Stream/DecisionTracker.swift").read_text()
    assert "<= 1e-6" in text
    assert same_event.__doc__ is not None
    assert "1e-6" in same_event.__doc__


def edited(bundle: Path, target: Path, **fields: Any) -> Path:
    """A bundle whose manifest says something else; files are hard links, for a reader refuses symbolic ones."""
    shutil.copytree(bundle, target, copy_function=os.link)
    (target / "manifest.json").unlink()
    manifest = json.loads((bundle / "manifest.json").read_text()) | fields
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


@pytest.mark.parametrize(
    ("name", "dsp"),
    [
        ("dtln", None),
        (
            "dtln",
            [
                {"kind": "highpass", "cutoff_hz": 80.0},
                {"kind": "gain", "gain_db": 9.0},
                {"kind": "wet_dry", "attenuation_limit_db": 18.0},
                {"kind": "limiter", "ceiling_dbfs": -6.0, "release_ms": 50.0},
            ],
        ),
        ("yamnet", [{"kind": "gate", "threshold_dbfs": -40.0, "hold_windows": 1}]),
    ],
)
def test_the_worker_of_the_app_with_plain_dsp(
    kit: Kit, exported: dict[str, Path], tmp_path: Path, name: str, dsp: list[dict[str, Any]] | None
) -> None:
    """Feed, ring, worker, plain DSP and decisions give Python's bits; playout and trace account for every sample."""
    bundle = edited(exported[name], tmp_path / exported[name].name, **({} if dsp is None else {"dsp": dsp}))
    values, _, events = reference(bundle, "litert-fp32", 48_000, with_dsp=True)
    output, trace = tmp_path / "out.f32", tmp_path / "trace.json"
    answer = kit.probe(
        "worker", bundle, input=audio(bundle, 48_000), rate=48_000, blocks="ragged:3", output=output, trace=trace
    )
    if name == "dtln":
        assert np.fromfile(output, "<f4").tobytes() == values.tobytes()
        assert answer["offered"] == answer["consumed"] + answer["held"] + answer["dropped"]
        assert answer["heard"] == answer["played"] + answer["silence"] + answer["underrun"] == 480_000
        assert answer["played"] > 400_000
    else:
        ours = sorted(answer["events"], key=lambda e: (e["onset_sample"], e["index"]))
        assert [{k: e[k] for k in events[0]} for e in ours] == events
        assert len(events) > 0
    assert answer["lost"] == 0
    document = json.loads(trace.read_text())
    schema = json.loads((ROOT / "docs" / "device-trace.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["end"]["callbacks"] == len(document["callbacks"])
    assert document["end"]["inferences"] == len(document["inferences"]) == answer["calls"]
    assert sum(c["frames"] for c in document["callbacks"]) == 480_000


@pytest.mark.parametrize("name", ["yamnet", "dtln", "gtcrn"])
@pytest.mark.parametrize("artefact", ["litert-fp32", "litert-fp16"])
def test_self_check_passes(kit: Kit, exported: dict[str, Path], name: str, artefact: str) -> None:
    answer = kit.probe("check", exported[name], artefact)
    assert answer["passed"], answer["summaries"]
    assert len(answer["figures"]) == 2
    if artefact == "litert-fp32":
        assert answer["events_that_differ"] == [0, 0]


def test_self_check_finds_another_models_golden_vectors(kit: Kit, exported: dict[str, Path], tmp_path: Path) -> None:
    bundle = edited(exported["dtln"], tmp_path / "dtln-128.hearpack")
    golden = bundle / "golden" / "enhanced.f32"
    samples = np.fromfile(golden, "<f4")
    samples[80_000:] *= 1.01
    golden.unlink()
    samples.tofile(golden)
    done = kit.attempt("check", bundle)
    assert done.returncode == 2
    assert "golden/enhanced.f32 does not match the manifest" in done.stderr
    hostile_bundles.rehash(bundle)
    answer = kit.probe("check", bundle)
    assert not answer["passed"]
    assert "16000 Hz: FAIL: snr_db" in answer["summaries"][0]
    assert "first leaves the tolerance at" in answer["summaries"][0]
    assert "48000 Hz: pass" in answer["summaries"][1]


def test_parity_figures_are_pythons(kit: Kit, exported: dict[str, Path], tmp_path: Path) -> None:
    bundle, output = exported["dtln"], tmp_path / "out.f32"
    kit.probe("stream", bundle, input=audio(bundle, 16_000), rate=16_000, blocks="ragged:1", output=output)
    golden = np.fromfile(bundle / "golden" / "enhanced.f32", "<f4")
    ours = audio_parity(golden[384:], np.fromfile(output, "<f4")[384:], 16_000).metrics()
    figures = kit.probe("check", bundle)["figures"][0]
    for metric, value in figures.items():
        assert value == pytest.approx(ours[metric], abs=1e-6), metric


@pytest.mark.parametrize(("name", "rate_hz"), [("dtln", 16_000), ("dtln", 48_000), ("yamnet", 48_000)])
def test_no_allocation_a_block_in_the_steady_loop(kit: Kit, exported: dict[str, Path], name: str, rate_hz: int) -> None:
    """malloc is counted in front of glibc's; what LiteRT allocates in a call is counted apart."""
    answer = kit.probe("steady", exported[name], rate=rate_hz, hops=500 if name == "dtln" else 20)
    if not answer["counted"]:
        pytest.skip("allocations are counted on Linux only")
    assert answer["allocations_kit"] == 0
    assert answer["allocations_engine"] > 0


def test_ring_loses_nothing_under_two_threads(kit: Kit) -> None:
    answer = kit.probe("ring", samples=100_000_000)
    assert (answer["samples"], answer["wrong"], answer["refused"], answer["left"]) == (100_000_000, 0, 0, 0)


def test_every_hostile_bundle_is_refused_in_one_harmless_line(kit: Kit, tmp_path: Path) -> None:
    """All that an app does at its start; one process, so a trap of Swift's would end it."""
    hostile_bundles.main(tmp_path / "hostile")
    why = kit.probe("hostile", folder=tmp_path / "hostile", library=litert_library())
    assert why.pop("good") == ""
    assert why.keys() == hostile_bundles.CASES.keys()
    assert len(why) >= 40
    assert [name for name, case in hostile_bundles.CASES.items() if case.apps and not why[name]] == []
    for text in why.values():
        assert len(text) <= 300
        assert text == "" or text.isprintable()
        assert "a private key" not in text


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("hash", "litert/dtln.fp32.tflite does not match the manifest (expected"),
        ("schema", "schema hearpack/2 is not one this app reads (hearpack/1)"),
        ("state", "dtln.fp32.tflite: the manifest names 4 inputs, the file has 5"),
        ("name", "expected the input audio2, the file has"),
        ("gone", "no litert-fp32 artefact is installed"),
    ],
)
def test_bad_bundles(kit: Kit, copy_of: Any, damage: str, expected: str) -> None:
    bundle = copy_of("dtln")
    manifest = json.loads((bundle / "manifest.json").read_text())
    model = bundle / "litert" / "dtln.fp32.tflite"
    if damage == "hash":
        data = bytearray(model.read_bytes())
        data[-1] ^= 1
        model.write_bytes(data)
    elif damage == "schema":
        manifest["schema"] = "hearpack/2"
    elif damage == "state":
        manifest["states"].pop()
    elif damage == "name":
        for artefact in manifest["artefacts"]:
            artefact["io"] = {"audio": "audio2"}
    else:
        model.unlink()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    done = kit.attempt("check", bundle)
    assert done.returncode == 2
    assert expected in done.stderr
