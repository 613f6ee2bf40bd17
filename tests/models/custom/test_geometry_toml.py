"""models.own_toml: what was not said is listed, what is wrong is refused with what would be right."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from models.common.errors import UsageError
from models.custom.geometry_toml import parse, read_toml
from models.geometry import StreamGeometry

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
        (CLASSIFIER, {"geometry__channels": 2}, "streams of hearpack's loop are mono"),
        (CLASSIFIER, {"geometry__hop_sample": 1}, "unknown key 'hop_sample'; did you mean hop_samples"),
        (CLASSIFIER, {"labels": None}, r"a classifier needs \[labels\]"),
        (CLASSIFIER, {"labels__names": ["a", "a"]}, "different non-empty lines"),
        (CLASSIFIER, {"labels__names": ["a", "b\nc"]}, "different non-empty lines"),
        (CLASSIFIER, {"task": "detector"}, "expected one of classifier, enhancer, got 'detector'"),
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


@pytest.mark.parametrize("figure", ["hop_samples", "n_fft", "bands"])
def test_figures_of_a_front_end_have_bounds(figure: str) -> None:
    wrong = {**FRONT_END, figure: 0 if figure == "hop_samples" else 2**31}
    for form in ("window", "causal"):
        net = {"form": form, "layout": "bands_frames"} if form == "causal" else {"form": form}
        with pytest.raises(UsageError, match="front_end"):
            parse(changed(CLASSIFIER, net=net, front_end=wrong), "geometry.toml", "net")
