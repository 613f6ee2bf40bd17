"""models.custom.shapes: which of forward's results is which output, said or guessed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converters.custom import open_custom
from models.common.errors import ConversionError, UsageError
from models.custom.entry import CustomEntry
from models.custom.geometry_toml import parse
from models.custom.shapes.outputs import Pick, picked, placed, said_outputs

GEOMETRY = {"sample_rate_hz": 16000, "window_samples": 128, "hop_samples": 64}
CLASSIFIER: dict[str, Any] = {"geometry": GEOMETRY, "labels": {"names": ["a", "b"]}}
ENHANCER: dict[str, Any] = {"task": "enhancer", "geometry": GEOMETRY, "net": {"form": "causal"}}
SEPARATOR: dict[str, Any] = {**ENHANCER, "task": "separator"}
EMBEDDER: dict[str, Any] = {"task": "embedder", "geometry": GEOMETRY}


@pytest.mark.parametrize(
    ("base", "outputs", "message"),
    [
        (ENHANCER, ["vad"], "'enhanced', the task's own output, is not among vad"),
        (ENHANCER, ["enhanced", "enhanced"], "one of them twice"),
        (ENHANCER, ["enhanced", "voice activity"], "letters, digits and _ .* got 'voice activity'"),
        (ENHANCER, ["enhanced", 3], "letters, digits and _"),
        (ENHANCER, {"enhanced": 1}, "a table of name and key, got 1"),
        (ENHANCER, ["enhanced", "audio"], "'audio' is the name of the input"),
        (ENHANCER, "enhanced", "outputs: expected list or dict"),
        (SEPARATOR, None, "a separator names its sources"),
        (SEPARATOR, ["voice", ""], "two sources at least, got .'voice'."),
    ],
)
def test_names_that_are_none(base: dict[str, Any], outputs: Any, message: str) -> None:
    tables = copy.deepcopy(base)
    if outputs is not None:
        tables["net"]["outputs"] = outputs
    with pytest.raises(UsageError, match=message):
        parse(tables, "geometry.toml", "net")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": "embedder", "labels": None, "net": {"form": "causal"}},
            "an embedder is a torch net that takes windows",
        ),
        ({"task": "separator", "labels": None}, "a separator gives as many samples as it takes"),
        ({"geometry": {**GEOMETRY, "channels": 9}}, "geometry.channels: expected 1 to 8, got 9"),
        (
            {"geometry": {**GEOMETRY, "channels": 2}, "front_end": {"kind": "log_mel", "n_fft": 64, "hop_samples": 32}},
            r"a \[front_end\] takes one channel, geometry.channels is 2",
        ),
    ],
)
def test_tasks_and_channels_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    tables = {key: value for key, value in {**CLASSIFIER, **changes}.items() if value is not None}
    with pytest.raises(UsageError, match=message):
        parse(tables, "geometry.toml", "net")


def test_a_list_is_in_forwards_order_or_by_a_dicts_keys() -> None:
    said = said_outputs(["scores", "", "mask"], "x", "scores", False)
    assert placed(said, (1, 2, 3), "net") == (Pick("scores", 0), Pick("mask", 2))
    said = said_outputs(["scores", "embedding"], "x", "scores", False)
    # "embedding" is a key, wherever it stands; the other name is for the key that is left.
    assert placed(said, {"embedding": 1, "clipwise": 2}, "net") == (
        Pick("scores", "clipwise"),
        Pick("embedding", "embedding"),
    )
    said = said_outputs({"scores": "clipwise"}, "x", "scores", False)
    assert placed(said, {"embedding": 1, "clipwise": 2}, "net") == (Pick("scores", "clipwise"),)


def test_sources_of_one_tensor_are_its_axis() -> None:
    said = said_outputs(["voice", "", "noise"], "x", "", True)
    voice, noise = placed(said, torch.zeros(1, 3, 64), "net", sources=True)
    assert (voice.part, noise.part) == (0, 2)
    stack = torch.arange(6.0).reshape(1, 3, 2)
    assert picked(stack, noise).tolist() == [[4.0, 5.0]]
    assert picked((stack[0],), noise).tolist() == [4.0, 5.0]  # [sources, samples]


@pytest.mark.parametrize(
    ("said", "result", "message"),
    [
        (["scores", "mask"], (1, 2, 3), "forward returned 3 results, net.outputs names 2: scores, mask"),
        ({"scores": "x"}, {"a": 1}, "forward returned a dict of a has no 'x'"),
        ({"scores": "x"}, (1, 2), "takes 'x' of a dict, forward returned a tuple of 2"),
        (["scores", "mask"], {"a": 1, "b": 2, "c": 3}, "forward returned a dict of a, b, c"),
    ],
)
def test_names_that_do_not_fit_what_forward_returns(said: Any, result: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        placed(said_outputs(said, "x", "scores", False), result, "net")


class Several(nn.Module):
    """What `gives` makes of two scores, a vector of eight and the samples."""

    def __init__(self, gives: Any) -> None:
        super().__init__()
        self.scores, self.gives = nn.Linear(64, 2), gives

    def forward(self, audio: Tensor) -> Any:
        rows = audio.reshape(-1, 64)
        return self.gives(torch.sigmoid(self.scores(rows)), rows[:, :8], audio)


def opened(tmp_path: Path, tables: dict[str, Any], gives: str) -> CustomEntry:
    """A net whose forward returns `gives` of (scores, vector, audio)."""
    code = (
        "import torch\nfrom tests_several import Several\n\ndef build():\n    torch.manual_seed(0)\n"
        f"    return Several(lambda scores, vector, audio: {gives})\n"
    )
    (tmp_path / "net.py").write_text(code)
    source = Path(__file__).read_text(encoding="utf-8")
    head = "from typing import Any\nimport torch\nfrom torch import Tensor, nn\n\n"
    (tmp_path / "tests_several.py").write_text(
        head + source[source.index("class Several(") : source.index("def opened(")]
    )
    return open_custom(f"{tmp_path / 'net.py'}:build", tables)


WINDOW = {**CLASSIFIER, "geometry": {**GEOMETRY, "window_samples": 64}}


def test_of_a_dict_that_nobody_named_the_one_that_fits_is_the_tasks_own(tmp_path: Path) -> None:
    entry = opened(tmp_path, WINDOW, "{'embedding': vector * 2, 'clipwise_output': scores}")
    assert entry.picks == (Pick("scores", "clipwise_output"), Pick("embedding", "embedding"))
    assert [(t.name, t.shape) for t in entry.signature(1).outputs] == [("scores", (1, 2)), ("embedding", (1, 8))]


@pytest.mark.parametrize(
    ("tables", "gives", "message"),
    [
        (WINDOW, "(scores, vector * 2)", r"net.outputs = \['scores', ...\]"),
        (WINDOW, "{'a': scores, 'b': 1 - scores}", "forward returned a dict of a, b; say which is which"),
        (
            {**WINDOW, "net": {"outputs": ["scores", "n"]}},
            "(scores, vector.argmax(1))",
            "'n' is of int64, expected floats",
        ),
        ({**WINDOW, "net": {"outputs": ["scores", "n"]}}, "(scores, 3)", "'n' is a int, expected a tensor"),
        ({**WINDOW, "net": {"outputs": ["scores", "n"]}}, "(scores, vector.sum())", "'n' has 0 axes"),
        (
            {**WINDOW, "net": {"outputs": ["scores", "n"]}},
            "scores",
            r"forward returned \[1, 2\], net.outputs names 2: scores, n",
        ),
        (
            {**EMBEDDER, "geometry": WINDOW["geometry"]},
            "vector[:, None] * vector[:, :, None]",
            "an embedder gives one vector",
        ),
        (
            {**EMBEDDER, "geometry": WINDOW["geometry"]},
            "{'v': vector}",
            "say which is which, net.outputs = .embedding = 'v'",
        ),
        (
            {**ENHANCER, "net": {"form": "causal", "outputs": ["enhanced", "level"]}},
            "(audio * 0.5, audio.mean(1, keepdim=True))",
            "folds the whole recording into one value|does not grow with the audio",
        ),
        (
            {**SEPARATOR, "net": {"form": "causal", "outputs": ["voice", "noise"]}},
            "torch.stack([audio * 0.5, audio * 0.25, audio * 0.1], 1)",
            r"forward returned \[1, 3, 768\], net.outputs names 2: voice, noise",
        ),
    ],
)
def test_what_cannot_be_an_output(tmp_path: Path, tables: dict[str, Any], gives: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        opened(tmp_path, tables, gives)


def test_an_extra_output_of_a_stream_grows_with_its_hops(tmp_path: Path) -> None:
    tables = {**ENHANCER, "net": {"form": "causal", "outputs": ["enhanced", "", "level"]}}
    entry = opened(tmp_path, tables, "(audio * 0.5, vector, vector.square().mean(1, keepdim=True)[None])")
    assert [(t.name, t.shape) for t in entry.signature(3).outputs] == [("enhanced", (1, 192)), ("level", (1, 3, 1))]


def test_what_its_user_says_of_outputs_is_part_of_what_a_net_is(tmp_path: Path) -> None:
    one = opened(tmp_path, {**WINDOW, "net": {"outputs": ["scores", "a"]}}, "(scores, vector * 2)")
    two = opened(tmp_path, {**WINDOW, "net": {"outputs": ["scores", "b"]}}, "(scores, vector * 2)")
    assert one.source_sha256 != two.source_sha256
