"""A net is added by one folder and one line: here by a folder of the tests and a line in a patched catalogue."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("litert_torch")

from converters.export import export
from converters.verify import verify
from models.catalog import CATALOG
from models.weights.store import to_safetensors
from streaming.files.stream_file import run
from streaming.files.wav import read_wav, write_wav

NETS = Path(__file__).resolve().parents[1] / "fixtures" / "nets"


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The net's name, once it is in the catalogue."""
    monkeypatch.syspath_prepend(str(NETS))
    from echo_gate.entry import ECHO_GATE

    monkeypatch.setitem(CATALOG, ECHO_GATE.name, ECHO_GATE)  # type: ignore[arg-type]  # the line in catalog.py
    yield ECHO_GATE.name
    for name in [name for name in sys.modules if name.partition(".")[0] == "echo_gate"]:
        del sys.modules[name]


def test_a_new_net_is_exported_verified_and_run_like_the_others(added: str, tmp_path: Path) -> None:
    weights = tmp_path / "gains.safetensors"
    weights.write_bytes(to_safetensors({"gains": np.float32([0.9, 0.3])}))
    result = export(added, tmp_path, formats=["litert"], precisions=["fp32"], weights=weights, hops_per_call=2)
    assert result.path.name == "echo-gate-128.hearpack"
    assert "it improves nothing" in (result.path / "MODEL_CARD.md").read_text()
    assert "supplied by the user" in (result.path / "LICENSES" / "WEIGHTS.txt").read_text()
    report = verify(result.path, weights=weights, seconds=2.0)
    assert (report.reference, report.passed) == ("torch original", True)
    assert {a.artefact for a in report.artefacts} == {"litert-fp32"}
    assert export(added, tmp_path, formats=["litert"], precisions=["fp32"], weights=weights, hops_per_call=2).cached

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 1000).astype(np.float32)
    write_wav(tmp_path / "in.wav", noise, 16000)
    run(result.path, tmp_path / "in.wav", output=tmp_path / "out.wav")
    expected = np.float32(0.9) * noise - np.float32(0.3) * np.concatenate([np.zeros(64, np.float32), noise[:-64]])
    np.testing.assert_allclose(read_wav(tmp_path / "out.wav").samples[0], expected, atol=1e-6)
