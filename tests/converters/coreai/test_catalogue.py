"""The catalogue's nets in both of Apple's formats over the same stream: Apple's interpreter judges our evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.bundle.test_audio import programme
from converters.export import export
from models.common.errors import UsageError
from runtimes.bundle import Bundle
from runtimes.engines import Choice, open_runtime

pytestmark = pytest.mark.usefixtures("needs_coreai")
SECONDS = {"dtln": 2.0, "gtcrn": 2.0, "yamnet": 3.0, "silero-vad": 3.0, "deepfilternet3": 1.0}


@pytest.mark.parametrize("name", SECONDS)
def test_both_of_apples_formats_compute_the_same(name: str, tmp_path: Path) -> None:
    bundle = Bundle.open(export(name, tmp_path, formats=["coreml", "coreai"], precisions=["fp32"]).path)
    manifest = bundle.manifest
    assert [a.id for a in manifest.artefacts] == ["coreml-fp32", "coreai-fp32"]
    assert bundle.artefact("coreai-fp32").minimum_os.ios == "27.0"
    evaluator = open_runtime(bundle, Choice(bundle.artefact("coreml-fp32"), "mil-fp32"))
    apples = open_runtime(bundle, Choice(bundle.artefact("coreai-fp32"), "coreai"))
    rate, hop = manifest.geometry.sample_rate_hz, manifest.hop_samples
    samples = programme("speech", rate, SECONDS[name])
    ours, theirs, output = evaluator.reset(), apples.reset(), manifest.outputs[0].name
    worst, loudest = 0.0, 0.0
    for start in range(0, len(samples) - manifest.buffer.samples + 1, hop):
        block = np.ascontiguousarray(samples[None, start : start + manifest.buffer.samples])
        expected, ours = evaluator.step(block, ours)
        got, theirs = apples.step(block, theirs)
        worst = max(worst, float(np.abs(expected[output] - got[output]).max()))
        loudest = max(loudest, float(np.abs(expected[output]).max()))
    apples.close()
    assert loudest > 0.01
    assert worst <= 1e-5


def test_halves_are_refused_before_anything_is_converted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--format coreai: expected fp32 among the precisions, got fp16"):
        export("dtln", tmp_path, formats=["coreai"], precisions=["fp16"])
