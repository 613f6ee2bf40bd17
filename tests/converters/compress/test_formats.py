"""Compressed files of both formats: smaller, near, the same bytes twice, float32 outside; parts stay as planned."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("litert_torch")
pytest.importorskip("coremltools")

import torch

from converters.compress.litert import compress, weights_of
from converters.compress.recipe import SCHEMES, Plan
from converters.coreml.convert import CoreMLMetadata
from converters.coreml.convert import convert as to_coreml
from converters.litert.convert import convert, prove_runs
from converters.litert.tflite_edit import read_model
from models.common.errors import ConversionError
from models.geometry import GraphSignature, StateSpec, StreamGeometry, TensorSpec
from runtimes.inspect.tflite import walk
from runtimes.litert import LiteRTRuntime
from runtimes.mil import MilRuntime

SAMPLES, WIDTH = 64, 96
SIGNATURE = GraphSignature(
    (TensorSpec("audio", (1, SAMPLES), (-1.0, 1.0), "waveform"),),
    (TensorSpec("enhanced", (1, SAMPLES), (-1.0, 1.0), "waveform"),),
    (StateSpec("h", (1, WIDTH)),),
)
METADATA = CoreMLMetadata("a step", "nobody", "none", "1", StreamGeometry(16000, 1, SAMPLES, SAMPLES, 0))


class Step(torch.nn.Module):
    """A recurrent step: a transform that is kept, a recurrence, a convolution and a way out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front_end = torch.nn.Linear(SAMPLES, WIDTH, bias=False)
        self.recurrent = torch.nn.Linear(WIDTH, WIDTH)
        self.conv = torch.nn.Conv1d(1, 16, 17)
        self.out = torch.nn.Linear(16 * (WIDTH - 16), SAMPLES)

    def forward(self, audio: Any, h: Any) -> Any:
        h = torch.tanh(self.front_end(audio) + self.recurrent(h))
        features = torch.relu(self.conv(h[:, None]))
        return self.out(features.reshape(1, -1)), h


@cache
def net() -> Step:
    return Step().eval()


@cache
def fp32() -> bytes:
    return convert(net(), SIGNATURE, "fp32")


def package(plan: Plan | None, path: Path, kept: dict[str, Any] | None = None) -> Path:
    to_coreml(net(), SIGNATURE, "fp32", (), path, METADATA, plan, kept)
    return path


@pytest.fixture(scope="module")
def programs() -> dict[str, Any]:
    """Converted once for every scheme."""
    return {}


def size(path: Path) -> int:
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def streamed(runtime: Any) -> np.ndarray:
    """Some calls, the state carried on."""
    noise = np.random.default_rng(3).standard_normal((12, 1, SAMPLES)).astype(np.float32) * np.float32(0.3)
    state = {"h": np.zeros((1, WIDTH), np.float32)}
    outputs = []
    for block in noise:
        out, state = runtime.step(block, state)
        assert state["h"].dtype == np.float32
        outputs.append(out["enhanced"])
    return np.stack(outputs)


def snr_db(truth: np.ndarray, came: np.ndarray) -> float:
    return float(10.0 * np.log10(np.square(truth).sum() / np.square(truth - came).sum()))


# Least SNR in dB, and largest size: of the weights a quarter or an eighth, and what is kept.
@pytest.mark.parametrize(
    ("name", "near_db", "smaller"), [("int8", 25, 0.33), ("int8-weights", 30, 0.33), ("int4", 8, 0.22)]
)
def test_a_tflite_is_smaller_near_and_the_same_twice(name: str, near_db: float, smaller: float) -> None:
    plan = Plan(name, {"front_end": "fp32"})
    data = compress(fp32(), net(), plan)
    assert data == compress(fp32(), net(), plan)
    assert len(data) < smaller * len(fp32())
    prove_runs(data, SIGNATURE)
    truth = streamed(LiteRTRuntime(fp32(), SIGNATURE, tried=True))
    for engine in ("interpreter", "compiled"):
        assert snr_db(truth, streamed(LiteRTRuntime(data, SIGNATURE, engine, tried=True))) > near_db  # type: ignore[arg-type]


def test_what_a_plan_names_is_stored_as_it_says() -> None:
    kinds = {w.module: w.operation for w in weights_of(fp32(), net())}
    assert set(kinds) == {"front_end", "recurrent", "conv", "out"}
    plan = Plan("int8", {"front_end": "fp32", "recurrent": "fp32", "out": "int4"})
    stored = {t.dtype for t in walk(compress(fp32(), net(), plan)).graphs[0].tensors}
    assert {"int4", "int8", "float32"} <= stored
    assert floats(compress(fp32(), net(), plan)) == {(WIDTH, SAMPLES), (WIDTH, WIDTH)}


def test_modules_of_a_graph_of_fx_are_known_too() -> None:
    graph = torch.fx.symbolic_trace(net()).eval()
    traced = convert(graph, SIGNATURE, "fp32")
    assert {w.module for w in weights_of(traced, graph)} >= {"front_end", "recurrent"}
    assert floats(compress(traced, graph, Plan("int8", {"front_end": "fp32"}))) == {(WIDTH, SAMPLES)}


def floats(tflite: bytes) -> set[tuple[int, ...]]:
    """Shapes of the weights that a file holds in float32."""
    found = walk(tflite)
    return {
        tensor.shape
        for tensor, buffer in zip(found.graphs[0].tensors, found.graphs[0].buffers, strict=True)
        if tensor.dtype == "float32" and len(tensor.shape) > 1 and found.buffer_spans[buffer][1] > 1024
    }


def test_a_front_end_that_only_names_tell_of_is_kept() -> None:
    assert floats(compress(fp32(), None, Plan("int8"))) == {(WIDTH, SAMPLES)}


@pytest.mark.parametrize("name", [n for n in SCHEMES if n not in ("int8-weights", "pal6")])
def test_a_package_is_smaller_near_and_the_same_twice(name: str, tmp_path: Path, programs: dict[str, Any]) -> None:
    plan = Plan(name, {"front_end": "fp32"})
    one, two = (package(plan, tmp_path / f"{n}.mlpackage", programs) for n in ("one", "two"))
    files = [p.relative_to(one) for p in sorted(one.rglob("*")) if p.is_file()]
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files)
    plain = package(None, tmp_path / "plain.mlpackage", programs)
    bits = SCHEMES[name].bits
    assert size(one) < (0.16 + bits / 32.0) * size(plain)
    truth = streamed(MilRuntime(plain, SIGNATURE))
    assert snr_db(truth, streamed(MilRuntime(one, SIGNATURE))) > 5.0 * bits - 12.0


def test_nothing_to_compress_is_said() -> None:
    with pytest.raises(
        ConversionError, match="no weights of at least 256 elements can be compressed; ship the fp32 file"
    ):
        compress(fp32(), net(), Plan("fp32"))
    with pytest.raises(ConversionError, match="LiteRT has no palettes"):
        compress(fp32(), net(), Plan("pal4"))


def test_tensors_without_scales_have_no_table_of_scales() -> None:
    tensors = read_model(compress(fp32(), net(), Plan("int8"))).subgraphs[0].tensors
    tables = [t.quantization for t in tensors if t.quantization is not None]
    assert tables
    assert all(table.scale is not None for table in tables)
