"""Core ML's missing half: the golden test over the .mlpackage in the evaluator, in CoreMLEngine's exact call order.

docs/core-ml-engine.md has the order as a table a bundle. Swift's CallPlan must give those rows; here they are
carried out one by one, tensors by the names in the table, state by what the table says it carries.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.bundle.golden import LONG_STREAM_METRICS
from converters.export import export
from runtimes.bundle import Bundle
from runtimes.coreai.deps import cannot_run
from runtimes.coreai.runtime import CoreAIRuntime
from runtimes.mil import MLModel
from streaming.metrics.parity import audio_parity, judge, score_parity
from tests.ios.swift_kit import KIT, ROOT, Kit

Array = NDArray[np.float32]
DOC = ROOT / "docs" / "core-ml-engine.md"


@dataclass(frozen=True)
class Step:
    action: str
    tensor: str
    shape: tuple[int, ...]
    carries: str


def rows(heading: str) -> list[str]:
    """The table's rows under a heading of the page."""
    section = DOC.read_text().split(f"### {heading}\n")[1].split("\n#")[0]
    return [line for line in section.splitlines() if re.match(r"\| \d+ \|", line)]


def steps(heading: str) -> list[Step]:
    found = []
    for number, row in enumerate(rows(heading), 1):
        cells = [c.strip() for c in row.strip("|").split("|")]
        assert int(cells[0]) == number
        found.append(Step(cells[1], cells[2], tuple(map(int, re.findall(r"\d+", cells[3]))), cells[4]))
    assert found, f"no table under {heading}"
    return found


def stream(model: Any, plan: list[Step], samples: Array, hop: int) -> Array:
    """Every whole buffer of the samples through the table's steps; outputs one after the other."""
    buffer = next(s for s in plan if s.carries == "block").shape[-1]
    state = {s.carries: np.zeros(s.shape, np.float32) for s in plan if s.carries.startswith("state ")}
    out = []
    for start in range(0, len(samples) - buffer + 1, hop):
        inputs: dict[str, Array] = {}
        results: dict[str, Array] = {}
        taken: dict[str, Array] = {}
        for step in plan:
            if step.action == "write":
                value = (
                    samples[start : start + buffer].reshape(1, -1) if step.carries == "block" else state[step.carries]
                )
                assert value.shape == step.shape
                inputs[step.tensor] = value
            elif step.action == "predict":
                results = model.predict(inputs)
            else:
                assert results[step.tensor].shape == step.shape
                taken[step.carries] = np.array(results[step.tensor], np.float32)
        state = {name: taken[name] for name in state}
        out.append(next(v for k, v in taken.items() if k.startswith("output ")).reshape(-1))
    return np.stack(out)


@pytest.mark.parametrize("artefact_id", ["coreml-fp32", "coreml-fp16"])
@pytest.mark.parametrize(("name", "heading"), [("dtln", "dtln-128"), ("yamnet", "yamnet-15600")])
def test_golden_vectors_in_the_tables_order(
    exported: dict[str, Path], name: str, heading: str, artefact_id: str
) -> None:
    """Two seconds of the golden stream for the step net, all full windows for the other, within the tolerance."""
    bundle = Bundle.open(exported[name])
    manifest, artefact = bundle.manifest, bundle.artefact(artefact_id)
    mode = "fp16" if artefact_id.endswith("fp16") else "fp32"
    model = MLModel(str(bundle.artefact_path(artefact)), mode=mode)
    golden = json.loads((bundle.path / "golden" / "golden.json").read_text())["streams"][0]
    samples = np.fromfile(bundle.path / "golden" / golden["input"], "<f4")
    output = manifest.outputs[0].name
    expected = np.fromfile(bundle.path / "golden" / golden["outputs"][output], "<f4")
    rate = manifest.geometry.sample_rate_hz
    if name == "dtln":
        got = stream(model, steps(heading), samples[: 2 * rate], manifest.buffer.samples).reshape(-1)
        lead = manifest.geometry.delay_samples
        figures = audio_parity(expected[lead : len(got)], got[lead:], rate).metrics()
    else:
        assert manifest.decisions is not None
        got = stream(model, steps(heading), samples, manifest.decisions.window_hop_samples)
        ends = np.arange(len(got)) * manifest.decisions.window_hop_samples + manifest.buffer.samples
        figures = score_parity(expected.reshape(-1, got.shape[1])[: len(got)], got, ends, rate).metrics()
    checks = judge(figures, [t for t in artefact.tolerance if t.metric not in LONG_STREAM_METRICS])
    assert len(checks) >= 2
    assert all(c.passed for c in checks), checks


def test_a_swapped_state_is_noticed(exported: dict[str, Path]) -> None:
    """The golden test has teeth: hidden and cell state handed over crosswise fall out of the tolerance."""
    bundle = Bundle.open(exported["dtln"])
    model = MLModel(str(bundle.artefact_path(bundle.artefact("coreml-fp32"))), mode="fp32")
    swap = {"state hidden": "state cell", "state cell": "state hidden"}
    plan = [
        Step(s.action, s.tensor, s.shape, swap.get(s.carries, s.carries) if s.action == "read" else s.carries)
        for s in steps("dtln-128")
    ]
    samples = np.fromfile(bundle.path / "golden" / "input.f32", "<f4")[:16_000]
    got = stream(model, plan, samples, 128).reshape(-1)
    expected = np.fromfile(bundle.path / "golden" / "enhanced.f32", "<f4")
    assert audio_parity(expected[384 : len(got)], got[384:], 16_000).snr_db < 55


@pytest.mark.parametrize(("name", "heading"), [("dtln", "dtln-128"), ("yamnet", "yamnet-15600")])
def test_swifts_call_plan_is_the_same_table(kit: Kit, exported: dict[str, Path], name: str, heading: str) -> None:
    for artefact in ("coreml-fp32", "coreml-fp16"):
        assert kit.probe("plan", exported[name], artefact)["rows"] == rows(heading)


def test_the_engine_carries_out_the_plan_in_its_order() -> None:
    """In the source: block, states in, prediction, outputs, states out; names from the plan's own rule."""
    text = (KIT / "Sources" / "HearpackCoreML" / "CoreMLEngine.swift").read_text()
    body = text.split("public func step(")[1].split("private func predict")[0]
    marks = ["write(block, 0)", "state.read(index)", "try predict()", "outputNames[index]", "next.write(index)"]
    places = [body.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "artefact.fileName($0.output)" in text
    assert "array.strides" in text


def test_core_ais_engine_carries_out_the_same_plan() -> None:
    """In the source: block and states in by the plan's writes, one run, its reads out: outputs, then states."""
    text = (KIT / "Sources" / "HearpackCoreML" / "CoreAIEngine.swift").read_text()
    marks = [
        "writes = plan.filter { $0.action == .write }",
        "reads = plan.filter { $0.action == .read }",
        "[Array(block)] + state.tensors",
        "outputs[index] = results[index]",
        "results[outputs.count + index]",
        "zip(writes, values)",
        "function.run(inputs: inputs)",
        "reads.map",
    ]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)


def test_core_ai_gives_golden_vectors_in_the_tables_order(tmp_path: Path) -> None:
    """A second of DTLN's golden stream in Apple's interpreter, tensors by the names in the table."""
    reason = cannot_run()
    if reason:
        pytest.skip(f"Core AI: {reason}")
    bundle = Bundle.open(export("dtln", tmp_path, formats=["coreai"], precisions=["fp32"]).path)
    manifest, artefact = bundle.manifest, bundle.artefact("coreai-fp32")
    runtime = CoreAIRuntime(bundle.artefact_path(artefact), manifest.signature)
    golden = json.loads((bundle.path / "golden" / "golden.json").read_text())["streams"][0]
    rate, hop = manifest.geometry.sample_rate_hz, manifest.buffer.samples
    samples = np.fromfile(bundle.path / "golden" / golden["input"], "<f4")[:rate]
    expected = np.fromfile(bundle.path / "golden" / golden["outputs"]["enhanced"], "<f4")

    class Table:
        """Called as `stream` calls an MLModel: a value for each row that writes, one back for each that reads."""

        def predict(self, values: dict[str, Array]) -> dict[str, Array]:
            carried = {name: value for name, value in values.items() if name != "audio"}
            outputs, states = runtime.step(values["audio"], carried)
            return {**outputs, **{f"{name}_out": value for name, value in states.items()}}

    got = stream(Table(), steps("dtln-128"), samples, hop).reshape(-1)
    runtime.close()
    lead = manifest.geometry.delay_samples
    figures = audio_parity(expected[lead : len(got)], got[lead:], rate).metrics()
    assert figures["snr_db"] > 110.0
