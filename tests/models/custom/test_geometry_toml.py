"""models.own_toml: what was not said is listed, what is wrong is refused with what would be right."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.common.errors import UsageError
from models.custom.geometry_toml import parse, read_toml
from models.geometry import StreamGeometry
from models.layers.front_end import Features
from models.layers.front_end_spec import FrontEndSpec
from models.layers.mel import mel_matrix

CLASSIFIER: dict[str, Any] = {
    "geometry": {"sample_rate_hz": 16000, "window_samples": 16000, "hop_samples": 8000},
    "labels": {"names": ["a", "b"]},
}
ENHANCER: dict[str, Any] = {
    "task": "enhancer",
    "geometry": {"sample_rate_hz": 16000, "window_samples": 512, "hop_samples": 128, "delay_samples": 384},
    "net": {"form": "causal"},
}
FRONT_END = {"kind": "log_mel", "n_fft": 512, "hop_samples": 160}


def changed(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Dotted keys as "table__key"; None takes a key out."""
    result = copy.deepcopy(base)
    for path, value in changes.items():
        *tables, key = path.split("__")
        table = result
        for name in tables:
            table = table.setdefault(name, {})
        table[key] = value
        if value is None:
            del table[key]
    return result


def test_a_short_file_is_enough_and_what_is_assumed_is_said() -> None:
    entry = parse(CLASSIFIER, "geometry.toml", "bells")
    assert (entry.name, entry.form, entry.task) == ("bells", "window", "classifier")
    assert entry.signature(1).outputs[0].shape == (1, 2)
    assert entry.decisions["window_hop_samples"] == 8000
    assert [a.split(":")[0] for a in entry.assumed] == ["name", "net.form", "decisions", "licence", "citation"]


def test_everything_said_is_nothing_assumed() -> None:
    said = changed(CLASSIFIER, name="x", licence="MIT", citation="me", net__form="window", decisions__on_threshold=0.7)
    entry = parse(said, "geometry.toml", "bells")
    assert entry.assumed == ()
    assert entry.decisions["on_threshold"] == 0.7


def test_a_stream_geometry_from_code_is_as_good() -> None:
    geometry = StreamGeometry(16000, 1, 512, 128, 384)
    entry = parse({**ENHANCER, "geometry": geometry}, "net.py, GEOMETRY", "net")
    assert entry.geometry == geometry
    assert entry.max_hops == 16


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (CLASSIFIER, {"geometry": None}, r"\[geometry\] is missing"),
        (CLASSIFIER, {"geometry__hop_samples": None}, "hop_samples is missing"),
        (CLASSIFIER, {"geometry__hop_samples": "8000"}, "hop_samples: expected int, got '8000'"),
        (CLASSIFIER, {"geometry__channels": 0}, "channels must be at least 1, got 0"),
        (CLASSIFIER, {"geometry__hop_sample": 1}, "unknown key 'hop_sample'; did you mean hop_samples"),
        (CLASSIFIER, {"labels": None}, r"a classifier needs \[labels\]"),
        (CLASSIFIER, {"labels__names": ["a", "a"]}, "different non-empty lines"),
        (CLASSIFIER, {"labels__names": ["a", "b\nc"]}, "different non-empty lines"),
        (CLASSIFIER, {"task": "detector"}, "one of classifier, enhancer, separator, embedder, got 'detector'"),
        (CLASSIFIER, {"task": "enhancer", "labels": None}, "net.form must be step or causal, got window"),
        (CLASSIFIER, {"name": "My Net"}, "lower-case letters"),
        (CLASSIFIER, {"net__layout": "frames_bands"}, "expected one of samples, channel_samples"),
        (CLASSIFIER, {"front_end": {**FRONT_END, "n_fft": 511}}, "n_fft must be even"),
        (CLASSIFIER, {"front_end": {**FRONT_END, "high_hz": 9000}}, "low_hz < high_hz"),
        (CLASSIFIER, {"front_end": {**FRONT_END, "offset": 0}}, "a logarithm needs a floor or an offset"),
        (CLASSIFIER, {"front_end": {**FRONT_END, "n_mels": 3}}, "unknown key 'n_mels'"),
        (CLASSIFIER, {"front_end": FRONT_END, "geometry__window_samples": 500}, "shorter than a frame"),
        (CLASSIFIER, {"net__form": "step"}, r"a step net needs \[\[states\]\]"),
        (CLASSIFIER, {"states": [{"name": "h", "shape": [1]}]}, "are for net.form = 'step'"),
        (ENHANCER, {"decisions": {"on_threshold": 0.5}}, "are for classifiers"),
        (ENHANCER, {"front_end": {**FRONT_END, "center": True}}, "center looks ahead"),
        (ENHANCER, {"front_end": FRONT_END}, "multiple of the front end's hop of 160"),
        (
            ENHANCER,
            {"front_end": {**FRONT_END, "center": True, "pad_mode": "reflect"}},
            "reflected edges are of samples that a stream has not yet",
        ),
        (
            ENHANCER,
            {"front_end": {**FRONT_END, "preemphasis": 0.97, "preemphasis_form": "valid"}},
            "look a sample ahead; a stream takes 'audio'",
        ),
        (CLASSIFIER, {"front_end": {**FRONT_END, "pad_mode": "reflect"}}, "pad_mode goes with center = true"),
        (CLASSIFIER, {"front_end": {**FRONT_END, "pad_mode": "edge"}}, "expected one of zeros, reflect, got 'edge'"),
        (
            CLASSIFIER,
            {
                "front_end": {**FRONT_END, "n_fft": 2048, "center": True, "pad_mode": "reflect"},
                "geometry__window_samples": 1024,
            },
            "a window of 1024 samples has no 1024 samples to reflect",
        ),
        (CLASSIFIER, {"front_end": {**FRONT_END, "preemphasis": 1.97}}, "-1 to 1, got 1.97"),
        (CLASSIFIER, {"front_end": {**FRONT_END, "preemphasis_form": "valid"}}, "goes with a preemphasis"),
        (CLASSIFIER, {"front_end": {**FRONT_END, "scale": 0}}, "scale must not be 0"),
        (CLASSIFIER, {"front_end": {**FRONT_END, "floor": float("nan")}}, "expected finite numbers"),
        (CLASSIFIER, {"front_end": {**FRONT_END, "mel_scale": "kaldi", "mel_norm": "slaney"}}, "not normalised"),
        (
            CLASSIFIER,
            {"front_end": {**FRONT_END, "window": "kaiser"}},
            "expected one of hann, hamming, blackman, povey",
        ),
        (CLASSIFIER, {"front_end": {**FRONT_END, "mel_matrix": "mel.npy"}}, "expected numbers, or the name of a .npy"),
        (
            CLASSIFIER,
            {"front_end": {**FRONT_END, "mel_matrix": np.ones((256, 8))}},
            r"expected \[257, bands\] or .* got",
        ),
        (CLASSIFIER, {"front_end": {**FRONT_END, "mel_matrix": np.full((257, 8), np.inf)}}, "expected finite numbers"),
        (
            CLASSIFIER,
            {"front_end": {**FRONT_END, "mel_matrix": np.eye(257, 8), "bands": 9}},
            "bands is 9, mel_matrix has 8",
        ),
        (CLASSIFIER, {"front_end": {**FRONT_END, "mel_matrix": np.eye(257, 8), "low_hz": 9.0}}, "stands for low_hz"),
    ],
)
def test_what_is_wrong_is_refused_with_what_would_be_right(
    base: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        parse(changed(base, **changes), "geometry.toml", "net")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file; expected a geometry.toml"):
        read_toml(tmp_path / "geometry.toml")
    (tmp_path / "geometry.toml").write_text("[geometry\n")
    with pytest.raises(UsageError, match="cannot be read as TOML"):
        read_toml(tmp_path / "geometry.toml")
    (tmp_path / "geometry.toml").write_text("[labels]\nfile = 'labels.txt'\n")
    with pytest.raises(UsageError, match=r"labels.file 'labels.txt' cannot be read"):
        read_toml(tmp_path / "geometry.toml")
    (tmp_path / "labels.txt").write_text("x\ny\n")
    assert read_toml(tmp_path / "geometry.toml")["labels"] == {"names": ["x", "y"]}


@pytest.mark.parametrize("name", ["/dev/zero", "nul\\u0000", "x" * 300, "."])
def test_labels_in_what_is_no_file_are_refused_before_memory_is_full(tmp_path: Path, name: str) -> None:
    (tmp_path / "geometry.toml").write_text(f'[labels]\nfile = "{name}"\n')
    with pytest.raises(UsageError, match=r"labels\.file .* cannot be read"):
        read_toml(tmp_path / "geometry.toml")


def front_end(**said: Any) -> tuple[FrontEndSpec, list[str]]:
    """The spec, and what was assumed of it."""
    entry = parse(changed(CLASSIFIER, front_end={**FRONT_END, **said}), "geometry.toml", "net")
    assert entry.front_end is not None
    return entry.front_end, [line for line in entry.assumed if line.startswith("front_end")]


def test_kaldis_mel_brings_what_kaldi_does() -> None:
    spec, (assumed,) = front_end(mel_scale="kaldi", window_samples=400)
    assert (spec.window, spec.periodic, spec.pad_window, spec.remove_dc) == ("povey", False, "end", True)
    assert (spec.preemphasis, spec.preemphasis_form, spec.low_hz, spec.mel_norm) == (0.97, "frame", 20.0, "none")
    assert (spec.floor, spec.offset, spec.bands, spec.power) == (2.0**-23, 0.0, 23, 2)
    assert "window = povey, periodic = false, pad_window = end, remove_dc = true, preemphasis = 0.97" in assumed
    assert assumed.endswith("(as torchaudio.compliance.kaldi.fbank)")


def test_edges_that_were_not_said_are_said_with_the_frames_that_differ() -> None:
    _, lines = front_end(center=True)
    (line,) = [line for line in lines if "pad_mode" in line]
    # 101 frames of 512 samples, a hop of 160: two begin before the window's first sample, two end behind its last.
    assert 'pad_mode = "reflect"' in line
    assert line.endswith("in the first 2 and last 2 of 101 frames")
    assert len(front_end(center=True, pad_mode="zeros")[1]) == len(lines) - 1
    assert not [line for line in front_end()[1] if "pad_mode" in line]


def test_the_frames_that_edges_change_are_those_that_are_counted() -> None:
    """Every length of window, by computing."""
    audio = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32))
    for n_fft, window, hop, samples in (
        (512, 512, 160, 4000),
        (512, 100, 160, 3999),
        (512, 400, 50, 3000),
        (64, 2, 64, 700),
    ):
        zeros = FrontEndSpec("stft_magnitude", 16000, n_fft, window, hop, window="rectangular", center=True)
        both = [dataclasses.replace(zeros, pad_mode=mode) for mode in ("zeros", "reflect")]
        one, two = (Features(of, of.frames(samples))(audio[:, :samples])[0] for of in both)
        differ = [int(n) for n in torch.nonzero((one - two).abs().amax(1) > 1e-3)[:, 0]]
        first, last = zeros.edge_frames(samples)
        frames = zeros.frames(samples)
        assert differ == [*range(first), *range(frames - last, frames)]


@pytest.mark.parametrize("turned", [False, True])
def test_a_mel_matrix_from_a_file_is_the_one_that_is_used(tmp_path: Path, turned: bool) -> None:
    matrix = np.random.default_rng(1).random((257, 8)).astype(np.float32)
    np.save(tmp_path / "mel.npy", matrix.T if turned else matrix)
    (tmp_path / "geometry.toml").write_text("[front_end]\nmel_matrix = 'mel.npy'\n")
    read = read_toml(tmp_path / "geometry.toml")["front_end"]["mel_matrix"]
    spec, _ = front_end(mel_matrix=read)
    assert np.array_equal(mel_matrix(spec), matrix)
    assert spec.bands == spec.values == 8
    assert spec.mel_data not in repr(spec)  # what an original is known by is its hash
    assert repr(spec) != repr(front_end(mel_matrix=read * 1.0001)[0])


@pytest.mark.parametrize("content", ["nothing", "text", "objects", "promises", "integers", "nul"])
def test_a_mel_matrix_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    file = tmp_path / "mel.npy"
    if content == "text":
        file.write_text("1 2 3")
    elif content in ("objects", "integers"):
        np.save(file, np.ones((257, 8)).astype(object if content == "objects" else int), allow_pickle=True)
    elif content == "promises":
        np.save(file, np.ones((257, 8)))
        file.write_bytes(file.read_bytes().replace(b"(257, 8)", b"(257,99)"))
    name = "mel\\u0000.npy" if content == "nul" else "mel.npy"
    (tmp_path / "geometry.toml").write_text(f'[front_end]\nmel_matrix = "{name}"\n')
    with pytest.raises(UsageError, match=r"front_end\.mel_matrix .* cannot be read: .*expected a \.npy"):
        read_toml(tmp_path / "geometry.toml")


@pytest.mark.parametrize("figure", ["hop_samples", "n_fft", "bands"])
def test_figures_of_a_front_end_have_bounds(figure: str) -> None:
    wrong = {**FRONT_END, figure: 0 if figure == "hop_samples" else 2**31}
    for form in ("window", "causal"):
        net = {"form": form, "layout": "bands_frames"} if form == "causal" else {"form": form}
        with pytest.raises(UsageError, match="front_end"):
            parse(changed(CLASSIFIER, net=net, front_end=wrong), "geometry.toml", "net")
