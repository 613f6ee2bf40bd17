"""Graph -> .tflite on small nets, and on the real YAMNet."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from converters.checks import example_inputs
from converters.litert.convert import convert, halve, module_segments
from converters.litert.tflite_edit import cast_to_half
from models.common.errors import ConversionError
from models.geometry import GraphSignature, TensorSpec
from models.nets.yamnet.entry import YAMNET
from runtimes.inspect.tflite import describe, walk
from runtimes.litert import LiteRTRuntime

ROOT = Path(__file__).resolve().parents[3]
_CHILD = """
import hashlib, importlib.util, sys
spec = importlib.util.spec_from_file_location("hearpack_test_nets", "tests/fixtures/tflite/nets.py")
nets = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = nets
spec.loader.exec_module(nets)
from converters.litert.convert import convert
tflite = convert(nets.Step().eval(), nets.STEP, "fp16", ("front_end",))
print(hashlib.sha256(tflite).hexdigest())
"""


@pytest.fixture(scope="module")
def step(nets: ModuleType) -> tuple[nn.Module, bytes]:
    graph = nets.Step().eval()
    return graph, convert(graph, nets.STEP, "fp32")


def run(graph: nn.Module, tflite: bytes, signature: GraphSignature, steps: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Scores of torch and of the artefact over a stream, each with its own state."""
    runtime, generator = LiteRTRuntime(tflite, signature, "compiled"), np.random.default_rng(0)
    state, ours = runtime.reset(), torch.zeros(1, 32)
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for _ in range(steps):
        block = (0.1 * generator.standard_normal((1, 256))).astype(np.float32)
        with torch.no_grad():
            scores, ours = graph(torch.from_numpy(block), ours)
        outputs, state = runtime.step(block, state)
        rows[0].append(scores.numpy())
        rows[1].append(outputs["scores"])
    return np.concatenate(rows[0]), np.concatenate(rows[1])


def test_fp32_has_our_names_and_computes_the_original(nets: ModuleType, step: tuple[nn.Module, bytes]) -> None:
    graph, tflite = step
    (signature,) = describe(tflite).signatures
    assert [t.name for t in signature.inputs] == ["audio", "h"]
    assert {t.name for t in signature.outputs} == {"scores", "h_out"}
    torch_scores, artefact_scores = run(graph, tflite, nets.STEP)
    assert np.abs(torch_scores - artefact_scores).max() < 1e-6
    assert torch_scores.std(axis=0).max() > 1e-3


def test_fp16_halves_matrices_and_leaves_the_named_module(nets: ModuleType, step: tuple[nn.Module, bytes]) -> None:
    graph, tflite = step
    report = halve(tflite, graph, nets.STEP, ("front_end",))
    assert len(report.halved) == 2
    assert all("gates_" in name for name in report.halved)
    assert sorted(report.kept.values()) == ["belongs to front_end"] * 2
    assert describe(report.tflite).weight_bytes["float16"] == 2 * (16 * 96 + 32 * 96) == report.halved_bytes // 2
    assert len(tflite) - len(report.tflite) > 0.9 * report.halved_bytes / 2
    plain = halve(tflite, graph, nets.STEP)
    assert len(plain.halved) == 4
    assert not plain.kept
    torch_scores, artefact_scores = run(graph, report.tflite, nets.STEP)
    assert 0 < np.abs(torch_scores - artefact_scores).max() < 2e-3


def test_fp16_weights_are_the_rounded_weights(nets: ModuleType, step: tuple[nn.Module, bytes]) -> None:
    graph, tflite = step
    rounded = nets.Step().eval()
    with torch.no_grad():
        for layer in (rounded.gates_x, rounded.gates_h):
            layer.weight.copy_(layer.weight.half().float())
    half = halve(tflite, graph, nets.STEP, ("front_end",)).tflite
    torch_scores, artefact_scores = run(rounded, half, nets.STEP)
    assert np.abs(torch_scores - artefact_scores).max() < 1e-6


def test_values_beyond_half_precision_stay_fp32(nets: ModuleType, step: tuple[nn.Module, bytes]) -> None:
    _, tflite = step
    found = walk(tflite)
    graph = found.graphs[0]
    (index,) = (i for i, t in enumerate(graph.tensors) if "gates_h;" in t.name and t.shape == (96, 32))
    start = found.buffer_spans[graph.buffers[index]][0]
    broken = tflite[:start] + np.float32(70000.0).tobytes() + tflite[start + 4 :]
    report = cast_to_half(broken, lambda _: None)
    assert [reason for name, reason in report.kept.items() if "gates_h" in name] == [
        "a value lies outside half precision (largest finite 65504)"
    ]


def test_bytes_do_not_depend_on_process_or_hash_seed(nets: ModuleType, step: tuple[nn.Module, bytes]) -> None:
    # This process and one more: their seeds differ, since this one's is random or not 4242.
    child = subprocess.run(
        [sys.executable, "-c", _CHILD],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "4242", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    graph, tflite = step
    here = hashlib.sha256(halve(tflite, graph, nets.STEP, ("front_end",)).tflite).hexdigest()
    assert child.returncode == 0, child.stderr
    assert (child.stdout.strip(), child.stderr) == (here, "")  # not a word of the libraries' chatter either


def test_unknown_or_empty_fp32_modules_are_refused(nets: ModuleType, step: tuple[nn.Module, bytes]) -> None:
    graph, tflite = step
    with pytest.raises(ConversionError, match=r"names 'frontend', which is no submodule.*front_end, gates_x"):
        convert(graph, nets.STEP, "fp16", ("frontend",))
    other = nn.Module()
    other.front_end = nn.Linear(64, 64)  # smaller constants are never cast, so none of them can be missed
    with pytest.raises(ConversionError, match="no constant of 'front_end' was found"):
        halve(tflite, other, nets.STEP, ("front_end",))
    assert module_segments(graph, ("gates_x",)) == {"gates_x": "torch.nn.modules.linear.Linear_gates_x"}


class Stft(nn.Module):
    def forward(self, audio: Tensor) -> Tensor:
        return torch.stft(audio, 64, window=torch.ones(64), return_complex=True).abs()


def test_what_cannot_be_converted_names_the_op_and_the_way_out(capfd: pytest.CaptureFixture[str]) -> None:
    signature = GraphSignature(
        (TensorSpec("audio", (1, 256), (-1.0, 1.0), ""),), (TensorSpec("magnitude", (1, 33, 17), (0.0, 1.0), ""),)
    )
    with pytest.raises(ConversionError, match=r"\(stft\).*write the DFT as a matrix") as caught:
        convert(Stft(), signature, "fp32")
    assert caught.value.__cause__ is not None
    assert capfd.readouterr() == ("", "")


def test_a_state_handed_through_fails_the_build(nets: ModuleType) -> None:
    with pytest.raises(ConversionError, match="output 'h_out' is an input handed through"):
        convert(nets.HandsThrough().eval(), nets.STEP, "fp32")


# The real net.


def street_windows(count: int) -> np.ndarray:
    """Windows of the street recording that comes with the weights, without overlap: [count, 1, 15600]."""
    from models.weights.assets import pull_asset

    with wave.open(str(pull_asset("street-wav"))) as file:
        samples = np.frombuffer(file.readframes(count * 15600), "<i2").astype(np.float32) / 32768
    return samples[: count * 15600].reshape(count, 1, 15600)


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-4), ("fp16", 1e-2)])
def test_yamnet_scores(precision: str, limit: float, yamnet_files: Any) -> None:
    runtime = LiteRTRuntime(getattr(yamnet_files, precision), YAMNET.signature(1))
    worst, largest = 0.0, 0.0
    for window in street_windows(16):
        with torch.no_grad():
            expected = yamnet_files.graph(torch.from_numpy(window))[0].numpy()
        worst = max(worst, float(np.abs(runtime.step(window, {})[0]["scores"] - expected).max()))
        largest = max(largest, float(expected.max()))
    assert worst <= limit
    assert largest > 0.5


def test_yamnet_fp16_keeps_its_front_end(yamnet_files: Any) -> None:
    owners = list(yamnet_files.kept.values())
    assert owners.count("belongs to front_end") == 3  # even and odd DFT, mel
    assert set(owners) == {"belongs to front_end", "belongs to body.layers.0"}
    report = describe(yamnet_files.fp16)
    assert report.labels == 521
    assert report.weight_bytes["float16"] > 7_000_000
    assert report.file_bytes < 0.53 * len(yamnet_files.fp32)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_mediapipe_runs_yamnet_with_our_scores(
    precision: str, yamnet_files: Any, mediapipe_scores: Callable[[bytes, np.ndarray, int], list[Any]]
) -> None:
    tflite, windows = getattr(yamnet_files, precision), street_windows(8)
    theirs = mediapipe_scores(tflite, windows.ravel(), 16000)
    runtime = LiteRTRuntime(tflite, YAMNET.signature(1))
    ours = np.concatenate([runtime.step(window, {})[0]["scores"] for window in windows])
    assert np.array_equal(np.array([[w[i][1] for i in range(521)] for w in theirs], np.float32), ours)
    assert tuple(theirs[0][i][0] for i in range(521)) == yamnet_files.labels


class Transposed(nn.Module):
    """Constants of one shape that are not contiguous: litert-torch 0.10 alone takes some of them for others."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        for index in range(6):
            self.register_buffer(f"matrix{index}", torch.randn(96, 256, generator=generator).t() / 16)

    def forward(self, audio: Tensor) -> tuple[Tensor]:
        return (torch.cat([torch.tanh(audio @ matrix) for matrix in self.buffers()], 1),)


def test_constants_of_one_shape_are_told_apart() -> None:
    out = TensorSpec("features", (1, 576), (-1.0, 1.0), "")
    signature = GraphSignature((TensorSpec("audio", (1, 256), (-1.0, 1.0), ""),), (out,))
    net = Transposed().eval()
    (audio,) = example_inputs(signature)
    for _ in range(3):
        runtime = LiteRTRuntime(convert(net, signature, "fp32"), signature)
        came = runtime.step(audio.numpy(), {})[0]["features"]
        assert np.abs(came - net(audio)[0].numpy()).max() < 1e-5
