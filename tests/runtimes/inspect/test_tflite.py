"""Inspection of .tflite files, on small files that tests/fixtures/tflite/make.py made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models.common.errors import ArtefactError
from runtimes.inspect.tflite import describe, walk

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "tests" / "fixtures" / "tflite"


def test_signature_ops_and_weights() -> None:
    report = describe(FILES / "step.tflite")
    (signature,) = report.signatures
    assert signature.key == "serving_default"
    assert [(t.name, t.shape, t.dtype) for t in signature.inputs] == [
        ("audio", (1, 256), "float32"),
        ("h", (1, 32), "float32"),
    ]
    assert {t.name: t.shape for t in signature.outputs} == {"scores": (1, 5), "h_out": (1, 32)}
    assert report.ops["FULLY_CONNECTED"] == 5
    assert sum(report.ops.values()) == sum(len(g.ops) for g in walk((FILES / "step.tflite").read_bytes()).graphs)
    parameters = 64 * 32 + 16 * 16 + (16 + 1) * 96 + (32 + 1) * 96 + (32 + 1) * 5
    assert 0 <= report.weight_bytes["float32"] - 4 * parameters < 2000  # besides: scalars and a bias of zeros
    assert (report.metadata, report.labels, report.lints) == ({}, 0, ())
    assert report.file_bytes == (FILES / "step.tflite").stat().st_size


def test_an_output_that_is_an_input_is_linted() -> None:
    (lint,) = describe((FILES / "aliased.tflite").read_bytes()).lints
    assert lint.startswith("output 'h_out' is an input handed through")


@pytest.mark.parametrize("name", ["step.tflite", "window.tflite", "aliased.tflite"])
def test_every_truncation_is_refused(name: str) -> None:
    data = (FILES / name).read_bytes()
    refused = 0
    for size in range(0, len(data) - 16, max(1, len(data) // 150)):
        with pytest.raises(ArtefactError):
            describe(data[:size])
        refused += 1
    assert refused > 100


def test_flipped_bytes_raise_our_error_or_nothing() -> None:
    data = (FILES / "window.tflite").read_bytes()
    refused = 0
    for position in range(0, 4000, 7):
        broken = bytearray(data)
        broken[position] ^= 0xFF
        try:
            describe(bytes(broken))
        except ArtefactError:
            refused += 1
    assert refused > 20


def test_inspection_is_light() -> None:
    code = (
        "import sys; from pathlib import Path; from runtimes.inspect.tflite import describe\n"
        "describe(Path('tests/fixtures/tflite/step.tflite'))\n"
        "print(sorted({'torch', 'tensorflow', 'litert_torch', 'coremltools'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
