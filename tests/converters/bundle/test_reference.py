"""converters.bundle.reference: a net's stream and its offline form are the same, and compare() sees where not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from converters.bundle.reference import StreamOutput, compare, entry_of, original, stream
from models.catalog import CATALOG
from models.common.errors import WeightsError
from models.nets.silero_vad.entry import SILERO_VAD
from models.nets.unet.entry import UNET_SEPARATOR
from runtimes.torch import TorchRuntime, load_net
from streaming.metrics.parity import AudioParity, ScoreParity
from tests.converters.bundle.nets import DELAY, HOP, RATE, WINDOW, classifier, enhancer, manifest_of

NO_ENDS = np.zeros(0, np.int64)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("name", CATALOG)
def test_the_entry_of_a_manifest_is_found_by_its_factory(name: str, tmp_path: Path) -> None:
    assert entry_of(manifest_of(CATALOG[name], tmp_path)) is CATALOG[name]


def test_a_factory_that_is_not_in_the_catalogue_is_never_imported(tmp_path: Path) -> None:
    manifest = manifest_of(enhancer(), tmp_path)
    with pytest.raises(
        WeightsError, match=r"original.factory 'net.py:build' is not one of this hearpack's: .*models.dtln"
    ):
        entry_of(manifest)
    with pytest.raises(WeightsError, match=r"is not one of this hearpack's"):
        original(manifest, nn.Identity(), noise(HOP))


@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, 5 * HOP + 17])
def test_an_enhancers_original_is_the_signal_and_its_delay_and_so_is_its_stream(samples: int, tmp_path: Path) -> None:
    entry = enhancer()
    manifest, audio = manifest_of(entry, tmp_path), noise(samples)
    truth = original(manifest, load_net(entry, {}), audio, entry)
    came = stream(manifest, TorchRuntime(entry.load_graph(entry.net, 1), entry.signature(1)), audio)
    expected = np.concatenate([np.zeros(DELAY, np.float32), np.float32(0.5) * audio])
    assert np.array_equal(truth.values, expected)
    assert np.array_equal(came.values, expected)
    assert truth.ends.size == came.ends.size == 0


def test_a_windowed_nets_original_sees_the_windows_of_the_loop(tmp_path: Path) -> None:
    entry = classifier()
    manifest, audio = manifest_of(entry, tmp_path), noise(400)
    truth = original(manifest, entry.net, audio, entry)
    assert list(truth.ends) == [WINDOW, 240, 320, 400]
    by_hand = [entry.net(torch.from_numpy(audio[None, end - WINDOW : end]))[0].numpy() for end in truth.ends]
    assert np.array_equal(truth.values, np.stack(by_hand))
    assert truth.values.shape == (4, 2)


class Counted(nn.Module):
    """The number of its hop, 0, 1, 2 ..., as the score of each."""

    def forward(self, audio: Tensor) -> Tensor:
        return torch.arange(-(-audio.shape[1] // 512), dtype=torch.float32).reshape(1, -1, 1)


@pytest.mark.parametrize(("hops", "expected"), [(1, [0, 1, 2, 3, 4, 5]), (2, [1, 3, 5]), (3, [2, 5])])
def test_a_step_classifier_of_several_hops_gives_the_scores_of_the_last(
    hops: int, expected: list[int], tmp_path: Path
) -> None:
    entry = dataclasses.replace(SILERO_VAD, max_hops=3)
    audio = noise(512 * 6)
    truth = original(manifest_of(entry, tmp_path, hops), Counted(), audio, entry)
    assert truth.values[:, 0].tolist() == expected
    assert list(truth.ends) == [512 * (hop + 1) for hop in expected]


class Sources(nn.Module):
    """Four sources of a mix: all of it, half, a quarter, an eighth."""

    def forward(self, audio: Tensor) -> Tensor:
        return torch.stack([audio / 2**k for k in range(4)], 1)


def test_a_separators_original_has_its_sources_and_channels(tmp_path: Path) -> None:
    delay, mix = UNET_SEPARATOR.geometry.delay_samples, np.stack([noise(3000), noise(3000, 1)])
    truth = original(manifest_of(UNET_SEPARATOR, tmp_path), Sources(), mix)
    assert truth.values.shape == (4, 2, 3000 + delay)
    assert np.array_equal(truth.values[1, 1, :3000], mix[1] / 2)
    assert not truth.values[..., 3000:].any()


def test_audio_is_compared_without_its_lead_in(tmp_path: Path) -> None:
    manifest, values = manifest_of(enhancer(), tmp_path), noise(RATE)
    loud_lead_in = values.copy()
    loud_lead_in[:DELAY] = 1.0
    same = compare(manifest, StreamOutput(values, NO_ENDS), StreamOutput(loud_lead_in, NO_ENDS))
    assert isinstance(same, AudioParity)
    assert (same.samples, same.snr_db, same.max_abs_error) == (RATE - DELAY, 200.0, 0.0)
    wrong = values.copy()
    wrong[DELAY] += 0.5
    other = compare(manifest, StreamOutput(values, NO_ENDS), StreamOutput(wrong, NO_ENDS))
    assert isinstance(other, AudioParity)
    assert other.max_abs_error == pytest.approx(0.5)
    assert other.worst_frame == 0


def test_sources_of_a_separator_are_one_signal_sample_by_sample(tmp_path: Path) -> None:
    """A fault in one channel of one source lies at its time, not at the end of a row of sources."""
    manifest = manifest_of(UNET_SEPARATOR, tmp_path)
    delay, rate = UNET_SEPARATOR.geometry.delay_samples, 44100
    values = noise(8 * (delay + rate)).reshape(4, 2, -1)
    wrong = values.copy()
    wrong[3, 1, delay + round(0.55 * rate)] += 1.0
    figures = compare(manifest, StreamOutput(values, NO_ENDS), StreamOutput(wrong, NO_ENDS))
    assert isinstance(figures, AudioParity)
    assert figures.samples == 8 * rate
    assert figures.worst_frame == 5
    assert figures.worst_frame_s == pytest.approx(0.5)


def test_scores_are_compared_as_scores(tmp_path: Path) -> None:
    manifest = manifest_of(classifier(), tmp_path)
    scores = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    flipped = scores[:, ::-1].copy()
    ends = np.array([160, 240], np.int64)
    figures = compare(manifest, StreamOutput(scores, ends), StreamOutput(flipped, ends))
    assert isinstance(figures, ScoreParity)
    assert figures.metrics()["top1_flips"] == 2
