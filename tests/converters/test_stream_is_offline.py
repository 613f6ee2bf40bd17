"""However callbacks cut the audio, the shipped artefact gives what the original gives for the whole file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.bundle.reference import compare, entry_of, original, stream
from converters.bundle.test_audio import programme
from models import pretrained
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime
from runtimes.torch import load_net
from streaming.core.loop import make_loop

SECONDS = 3.0
SIZES = st.lists(st.integers(1, 6000), min_size=1, max_size=40)


class Opened:
    """A bundle with a loaded artefact, its material, and what one undivided push gives."""

    def __init__(self, path: Path) -> None:
        self.bundle = Bundle.open(path)
        self.manifest = self.bundle.manifest
        self.runtime = open_runtime(self.bundle, choose(self.bundle))
        self.samples = programme(entry_of(self.manifest).test_material, self.manifest.geometry.sample_rate_hz, SECONDS)
        self.whole = stream(self.manifest, self.runtime, self.samples)


@pytest.fixture(scope="module", params=["dtln", "gtcrn", "yamnet"])
def opened(exported: dict[str, Path], request: pytest.FixtureRequest) -> Any:
    opened = Opened(exported[request.param])
    yield opened
    opened.runtime.close()


def test_the_stream_equals_the_offline_original(opened: Opened) -> None:
    net = load_net(entry_of(opened.manifest), pretrained.load(opened.manifest.name))
    figures = compare(opened.manifest, original(opened.manifest, net, opened.samples), opened.whole).metrics()
    if opened.manifest.task == "enhancer":
        assert figures["snr_db"] >= 110.0
    else:
        assert figures["score_max_abs_error"] <= 1e-4


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=SIZES)
def test_any_partition_into_callbacks_gives_the_same_bits(opened: Opened, sizes: list[int]) -> None:
    loop = make_loop(opened.manifest, opened.runtime)
    results = []
    at, turn = 0, 0
    while at < len(opened.samples):
        block = opened.samples[at : at + sizes[turn % len(sizes)]]
        results += loop.push(block)
        at, turn = at + len(block), turn + 1
    results += loop.flush()
    values = [r.values for r in results]
    joined = np.stack(values) if opened.manifest.task == "classifier" else np.concatenate(values)
    assert np.array_equal(joined, opened.whole.values)


def test_a_reset_forgets_everything(opened: Opened) -> None:
    loop = make_loop(opened.manifest, opened.runtime)
    loop.push(opened.samples[:20000])
    loop.reset()
    first = loop.push(opened.samples) + loop.flush()
    assert np.array_equal(np.concatenate([r.values for r in first]), opened.whole.values.reshape(-1))
