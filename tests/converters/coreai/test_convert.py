"""torch -> .aimodel: names, bytes, refusals, and what Apple's interpreter makes of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters.coreai.convert import convert
from models.common.errors import ArtefactError, ConversionError
from models.geometry import GraphSignature, StateSpec, TensorSpec
from runtimes.coreai.asset import ASSET_VERSION
from runtimes.coreai.runtime import CoreAIRuntime
from runtimes.inspect.inspect import inspect
from runtimes.torch import TorchRuntime
from tests.converters.coreai.gated import GEOMETRY, HOP, SIGNATURE, TEXTS, Gated

pytestmark = pytest.mark.usefixtures("needs_coreai")
_AGAIN = """
import sys
from pathlib import Path
from converters.coreai.convert import convert
from tests.converters.coreai.gated import GEOMETRY, SIGNATURE, TEXTS, Gated
convert(Gated().eval(), SIGNATURE, Path(sys.argv[1]), GEOMETRY, TEXTS)
"""


def blocks(count: int) -> list[Any]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal((1, HOP)).astype(np.float32) for _ in range(count)]


def test_a_new_beta_that_changes_the_format_is_told_in_one_line(gated: Path) -> None:
    """The canary: when it fails, hearpack's pins, ASSET_VERSION and docs/core-ai.md are due."""
    written = json.loads((gated / "metadata.json").read_text(encoding="utf-8"))
    assert (written["assetVersion"], written["producer"]) == (ASSET_VERSION, "coreai-core 1.0.0b3")


def test_a_stream_with_its_state_carried_is_torchs(gated: Path) -> None:
    ours, theirs = TorchRuntime(Gated().eval(), SIGNATURE), CoreAIRuntime(gated, SIGNATURE)
    state, carried, signal, noise = ours.reset(), theirs.reset(), 0.0, 0.0
    for block in blocks(300):
        expected, state = ours.step(block, state)
        got, carried = theirs.step(block, carried)
        signal += float((expected["enhanced"].astype(np.float64) ** 2).sum())
        noise += float(((got["enhanced"].astype(np.float64) - expected["enhanced"]) ** 2).sum())
    theirs.close()
    assert 10.0 * np.log10(signal / noise) > 120.0


def test_two_streams_share_one_runtime_and_a_state_may_come_from_anywhere(gated: Path) -> None:
    runtime = CoreAIRuntime(gated, SIGNATURE)
    one, two = blocks(2)
    alone, after = runtime.step(one, runtime.reset())
    other, _ = runtime.step(two, runtime.reset())
    copied = {name: np.array(value) for name, value in after.items()}
    from_copy, _ = runtime.step(two, copied)
    from_native, _ = runtime.step(two, after)
    again, _ = runtime.step(one, runtime.reset())
    runtime.close()
    np.testing.assert_array_equal(from_copy["enhanced"], from_native["enhanced"])
    np.testing.assert_array_equal(again["enhanced"], alone["enhanced"])
    assert np.abs(other["enhanced"] - from_copy["enhanced"]).max() > 1e-3
    with pytest.raises(ValueError, match="read-only"):
        after["hidden"][:] = 0.0


def test_it_runs_where_an_event_loop_runs_already(gated: Path) -> None:
    async def inside() -> Any:
        runtime = CoreAIRuntime(gated, SIGNATURE)
        try:
            return runtime.step(blocks(1)[0], runtime.reset())[0]["enhanced"]
        finally:
            runtime.close()

    assert np.isfinite(asyncio.run(inside())).all()


def test_a_missing_state_a_closed_runtime_and_another_signature_are_one_line(gated: Path) -> None:
    runtime = CoreAIRuntime(gated, SIGNATURE)
    with pytest.raises(ArtefactError, match="state 'hidden' is missing"):
        runtime.step(blocks(1)[0], {})
    runtime.close()
    runtime.close()
    with pytest.raises(ArtefactError, match="closed"):
        runtime.step(blocks(1)[0], runtime.reset())
    other = GraphSignature(SIGNATURE.inputs, SIGNATURE.outputs, (StateSpec("memory", (1, 16)),))
    with pytest.raises(ArtefactError, match="expected the inputs audio, memory; it has audio, hidden"):
        CoreAIRuntime(gated, other)
    wide = GraphSignature(SIGNATURE.inputs, SIGNATURE.outputs, (StateSpec("hidden", (1, 8)),))
    with pytest.raises(ArtefactError, match=r"input 'hidden' should be float32 \[1, 8\]; it is float32 \[1, 16\]"):
        CoreAIRuntime(gated, wide)


def test_a_program_that_is_hashed_right_and_kills_apples_reader_is_one_line(gated: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.aimodel"
    shutil.copytree(gated, broken)
    program = (broken / "main.mlirb").read_bytes()[:600]
    (broken / "main.mlirb").write_bytes(program)
    (broken / "main.hash").write_bytes(hashlib.sha256(program).digest())
    with pytest.raises(
        ArtefactError, match=r"broken\.aimodel: Core AI died of SIG\w+ when a process of its own .*export it again"
    ):
        CoreAIRuntime(broken, SIGNATURE)


@pytest.mark.parametrize("seed", ["1", "4242"])
def test_another_process_writes_the_same_bytes(gated: Path, tmp_path: Path, seed: str) -> None:
    again = tmp_path / "again.aimodel"
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", _AGAIN, str(again)], check=True, env=environment, cwd=root)
    files = sorted(file.name for file in gated.iterdir())
    assert files == ["main.hash", "main.mlirb", "metadata.json"]
    assert [(again / name).read_bytes() for name in files] == [(gated / name).read_bytes() for name in files]


def test_no_path_of_a_source_is_in_the_file(gated: Path) -> None:
    assert str(Path(__file__).resolve().parents[3]).encode() not in (gated / "main.mlirb").read_bytes()


def test_inspect_shows_names_types_and_hearpacks_facts(gated: Path) -> None:
    report: Any = inspect(gated)
    assert [(t.name, t.shape, t.dtype) for t in report.inputs] == [
        ("audio", (1, HOP), "float32"),
        ("hidden", (1, 16), "float32"),
    ]
    assert [t.name for t in report.outputs] == ["enhanced", "hidden_out"]
    assert (report.minimum_os, report.licence, report.asset_version) == ("27.0", "MIT", ASSET_VERSION)
    assert dict(report.user_defined)["hearpack.hop_samples"] == str(HOP)
    assert dict(report.operations)["tanh"] == 1
    assert dict(report.storage)["Float32"] >= sum(p.numel() for p in Gated().parameters())


class Spectrum(nn.Module):
    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.fft.rfft(audio, n=2 * HOP - 2).real,)


def test_an_operation_that_core_ai_lacks_is_named(tmp_path: Path) -> None:
    signature = GraphSignature(SIGNATURE.inputs, (TensorSpec("enhanced", (1, HOP), (-1.0, 1.0), "bins"),), ())
    with pytest.raises(ConversionError, match=r"Core AI has no operation for torch's _fft_r2c; write it with others"):
        convert(Spectrum().eval(), signature, tmp_path / "net.aimodel", GEOMETRY, TEXTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_what_is_decomposed_here_is_exact(tmp_path: Path, correction: int, alpha: float) -> None:
    class Net(nn.Module):
        def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor]:
            spread = audio.var(-1, correction=correction, keepdim=True)
            return (nn.functional.elu(40.0 * audio, alpha) * spread,)

    signature = GraphSignature(SIGNATURE.inputs, SIGNATURE.outputs, ())
    path = tmp_path / "net.aimodel"
    convert(Net().eval(), signature, path, GEOMETRY, TEXTS)
    runtime, block = CoreAIRuntime(path, signature), blocks(1)[0]
    got = runtime.step(block, {})[0]["enhanced"]
    runtime.close()
    expected = Net()(torch.from_numpy(block).double())[0].numpy()
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)
