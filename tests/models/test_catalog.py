"""models.catalog: the entries are coherent, importable late, and mistakes get an offer."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from models.catalog import CATALOG, find
from models.common.errors import UsageError
from models.entry import ModelEntry
from models.nets.dtln.entry import DTLN
from models.nets.yamnet.entry import YAMNET
from runtimes.bundle import Decisions

ENTRIES = pytest.mark.parametrize("entry", CATALOG.values(), ids=str)


def test_the_catalogue_is_light() -> None:
    code = (
        "import sys, models.catalog, models.pretrained, models.weights.assets;"
        "print([m for m in ('torch', 'onnx', 'coremltools', 'litert_torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@ENTRIES
def test_a_net_module_offers_build_and_graph(entry: ModelEntry) -> None:
    loaded = importlib.import_module(f"{entry.package}.net")
    assert callable(getattr(loaded, entry.factory.partition(":")[2]))
    assert callable(loaded.graph)


@ENTRIES
def test_buffers_and_hops_agree(entry: ModelEntry) -> None:
    for hops in range(1, entry.max_hops + 1):
        samples = entry.buffer_samples(hops)
        assert entry.hops_for(samples) == hops
        signature = entry.signature(hops)
        assert signature.inputs[0].name == "audio"
        channels = () if entry.geometry.channels == 1 else (entry.geometry.channels,)
        assert signature.inputs[0].shape == (1, *channels, samples)
        names = 1 + max(1, len(entry.sources)) + 2 * len(entry.states)
        assert len(set(signature.input_names + signature.output_names)) == names


@ENTRIES
@pytest.mark.parametrize("wrong", [0, 17])
def test_hops_out_of_range_are_refused(entry: ModelEntry, wrong: int) -> None:
    hops = "one hop" if entry.max_hops == 1 else f"1 to {entry.max_hops} hops"
    with pytest.raises(UsageError, match=f"{hops} per call, got {wrong}"):
        entry.signature(wrong)


def test_an_enhancer_gives_as_many_samples_as_it_takes() -> None:
    assert DTLN.signature(4).outputs[0].shape == (1, 512)


def test_a_classifier_has_one_buffer_and_decisions_that_validate() -> None:
    assert YAMNET.signature(1).outputs[0].shape == (1, 521)
    with pytest.raises(UsageError, match=r"exactly 15600 samples per call \(975 ms\), got 16000"):
        YAMNET.hops_for(16000)
    decisions = Decisions.model_validate(dict(YAMNET.decisions))
    assert decisions.window_hop_samples == YAMNET.geometry.hop_samples
    assert set(YAMNET.decisions) == set(Decisions.model_fields)


def test_find_offers_the_nearest_name() -> None:
    assert find("yamnet") is YAMNET
    with pytest.raises(UsageError, match="did you mean yamnet"):
        find("yament")
    with pytest.raises(UsageError, match=f"known models: {', '.join(sorted(CATALOG))}"):
        find("zzz")
