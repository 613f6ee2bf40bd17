"""A classifier that carries state, whole way: exported, verified, golden events, run on a file, decisions guarded."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import hearpack
from converters.bundle.golden import check_golden, read_golden
from converters.bundle.reference import original, stream
from converters.bundle.test_audio import noisy_speech
from models import pretrained
from models.common.errors import BundleError
from models.nets.silero_vad.entry import SILERO_VAD
from runtimes.bundle import Bundle, parse_manifest
from runtimes.engines import choose, open_runtime
from runtimes.torch import load_net
from streaming.core.loop import make_loop
from streaming.files.wav import write_wav

CHUNK = 512


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(hearpack.export("silero-vad", tmp_path_factory.mktemp("out")).path)


def test_the_bundle_says_step_and_scores(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.buffer.kind, manifest.buffer.samples, manifest.task) == ("step", CHUNK, "classifier")
    assert [s.in_name for s in manifest.states] == ["context", "hidden", "cell"]
    assert bundle.labels() == ("Speech",)
    assert manifest.decisions is not None
    assert manifest.decisions.window_hop_samples == CHUNK


def test_every_artefact_is_within_tolerance_of_the_original(bundle: Bundle) -> None:
    results = list(check_golden(bundle))
    assert len(results) >= 6
    for result in results:
        assert all(check.passed for check in result.checks), result


def test_golden_vectors_have_speech_and_events(bundle: Bundle) -> None:
    for golden in read_golden(bundle):
        assert golden.output.min() < 0.1
        assert golden.output.max() > 0.9
        assert golden.events
        assert {event["label"] for event in golden.events} == {"Speech"}


@pytest.mark.parametrize("samples", [1, CHUNK, 20 * CHUNK + 1, 20 * CHUNK + 511])
def test_any_length_gives_the_originals_windows(bundle: Bundle, samples: int) -> None:
    clip = noisy_speech(16000, 5.0)[1][40000 : 40000 + samples]
    net = load_net(SILERO_VAD, pretrained.load("silero-vad"))
    runtime = open_runtime(bundle, choose(bundle))
    try:
        heard, truth = stream(bundle.manifest, runtime, clip), original(bundle.manifest, net, clip)
        loop = make_loop(bundle.manifest, runtime)
        pieces = [r for at in range(0, samples, 100) for r in loop.push(clip[at : at + 100])] + loop.flush()
    finally:
        runtime.close()
    assert np.array_equal(heard.ends, truth.ends)
    assert list(heard.ends) == [CHUNK * (i + 1) for i in range(-(-samples // CHUNK))]
    assert np.abs(heard.values - truth.values).max() <= 1e-4
    assert np.array_equal(np.stack([r.values for r in pieces]), heard.values)


def test_run_writes_where_speech_was(bundle: Bundle, tmp_path: Path) -> None:
    clean, noisy = noisy_speech(16000, 10.0)
    file, out = tmp_path / "noisy.wav", tmp_path / "events.csv"
    write_wav(file, noisy, 16000)
    hearpack.run(bundle.path, file, output=out)
    with out.open(newline="") as stream_:
        rows = list(csv.DictReader(stream_))
    assert rows
    covered = np.zeros(len(clean), bool)
    for row in rows:
        covered[max(0, int(row["onset_sample"])) : int(row["offset_sample"])] = True
    loud = np.abs(clean) > 0.1 * np.abs(clean).max()
    assert covered[loud].mean() > 0.9
    assert covered.mean() < 0.95


def test_another_hop_cannot_be_chosen(bundle: Bundle) -> None:
    data = json.loads((bundle.path / "manifest.json").read_text())
    data["decisions"]["window_hop_samples"] = 256
    with pytest.raises(BundleError, match="window_hop_samples is 256; a step net gives scores every 512"):
        parse_manifest(json.dumps(data), "manifest.json")


def test_a_minute_is_verified_with_speech(bundle: Bundle) -> None:
    report = hearpack.verify(bundle.path, artefacts=("litert-fp32",), seconds=4.0)
    assert report.passed
    assert "speech" in report.material
