"""models.yamnet: real recordings, an independent front end, and offline against window by window."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="nets need the extra export")

from models import pretrained  # noqa: E402
from models.common.errors import UsageError, WeightsError  # noqa: E402
from models.nets.yamnet import net as yamnet  # noqa: E402
from models.nets.yamnet.entry import YAMNET  # noqa: E402
from models.nets.yamnet.weights import expected_shapes, from_checkpoint  # noqa: E402
from models.weights.assets import pull_asset  # noqa: E402
from streaming.files.wav import read_wav  # noqa: E402

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "audio"
RATE, WINDOW, HOP = (getattr(YAMNET.geometry, part) for part in ("sample_rate_hz", "window_samples", "hop_samples"))

# ESC-10 clips and the AudioSet label that means the same
ESC10 = {
    "baby_cry": "Baby cry, infant cry",
    "chainsaw": "Chainsaw",
    "clock_tick": "Tick-tock",
    "dog_bark": "Dog",
    "fire_crackling": "Crackle",
    "helicopter": "Helicopter",
    "person_sneeze": "Sneeze",
    "rain": "Rain",
    "rooster": "Crowing, cock-a-doodle-doo",
    "sea_waves": "Waves, surf",
}

Arrays = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="session")
def arrays() -> Arrays:
    return pretrained.load("yamnet")


@pytest.fixture(scope="session")
def net(arrays: Arrays) -> yamnet.YAMNet:
    torch.set_num_threads(1)  # spinning threads of a busy machine cost more than they bring
    return yamnet.build(arrays)


@pytest.fixture(scope="session")
def labels() -> tuple[str, ...]:
    return pretrained.labels("yamnet")


@pytest.fixture(scope="session")
def street() -> NDArray[np.float32]:
    return np.asarray(read_wav(pull_asset("street-wav")).samples[0], np.float32)


@pytest.fixture(scope="session")
def street_scores(net: yamnet.YAMNet, street: NDArray[np.float32]) -> NDArray[np.float32]:
    return run(net, street)


def run(net: yamnet.YAMNet, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(net(torch.from_numpy(audio)[None])[0].numpy())


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/audio (ESC-10 clips) is not beside this checkout")
@pytest.mark.parametrize("clip", ESC10)
def test_the_clips_class_wins_among_the_ten(net: yamnet.YAMNet, labels: tuple[str, ...], clip: str) -> None:
    soundfile, soxr = pytest.importorskip("soundfile"), pytest.importorskip("soxr")
    (file,) = (SHARED / "esc10").glob(f"{clip}__*.ogg")
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    scores = run(net, soxr.resample(samples.mean(axis=1), rate, RATE).astype(np.float32)).mean(axis=0)
    ranked = sorted(ESC10, key=lambda name: -scores[labels.index(ESC10[name])])
    assert ranked[0] == clip
    assert scores[labels.index(ESC10[clip])] > 0.1


def test_the_bell_rings_where_people_heard_it(labels: tuple[str, ...], street_scores: NDArray[np.float32]) -> None:
    with pull_asset("street-csv").open(newline="") as file:
        spans = [(float(start), float(end), bell == "True") for start, end, _, bell in csv.reader(file)]
    bell = street_scores[:, labels.index("Bicycle bell")]
    begin_s = np.arange(len(bell)) * HOP / RATE
    end_s = begin_s + WINDOW / RATE

    def inside(start_s: float, stop_s: float) -> NDArray[np.float32]:
        return bell[(begin_s >= start_s) & (end_s <= stop_s)]

    long_rings = [(start, end) for start, end, rings in spans if rings and end - start > 10]
    quiet = [(start, end) for start, end, rings in spans if not rings and end - start > 2]
    assert (len(long_rings), len(quiet)) == (2, 2)
    for start, end in long_rings:
        assert inside(start, end).mean() > 0.7
        first = begin_s[(end_s > start) & (bell > 0.5)][0] + WINDOW / RATE  # when a phone would know
        assert start < first < start + 2.0
    for start, end in quiet:
        assert inside(start, end).max() < 0.05


def independent_log_mel(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """librosa's STFT, then TensorFlow's definition of the mel matrix (`linear_to_mel_weight_matrix`) entry by entry."""
    librosa = pytest.importorskip("librosa")
    side = (512 - 400) // 2  # librosa puts a short window into the middle of the transform
    padded = np.pad(audio.astype(np.float64), side)
    spectrum = librosa.stft(padded, n_fft=512, hop_length=160, win_length=400, window="hann", center=False)

    def mel(hz: float) -> float:
        return 2595.0 * np.log10(1.0 + hz / 700.0)

    edges = [mel(125.0) + n * (mel(7500.0) - mel(125.0)) / 65 for n in range(66)]
    matrix = np.zeros((257, 64))
    for row in range(1, 257):
        here = mel(row * 16000 / 512)
        for band in range(64):
            low, middle, high = edges[band : band + 3]
            matrix[row, band] = max(0.0, min((here - low) / (middle - low), (high - here) / (high - middle)))
    return np.asarray(np.log(np.abs(spectrum).T @ matrix + 0.001))


def agreement_db(reference: NDArray[np.float64], ours: NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - ours).sum()))


def test_the_front_end_equals_librosas(net: yamnet.YAMNet, street: NDArray[np.float32]) -> None:
    """Measured: 134 dB on the street; 89 dB on a tone at 0.9, where float32 rounds against the loud bin."""
    seconds = np.arange(WINDOW) / RATE
    tone = (0.9 * np.sin(2 * np.pi * 300.0 * seconds)).astype(np.float32)
    for audio, least_db in ((street[8 * RATE :][:WINDOW], 120.0), (tone, 80.0)):
        reference = independent_log_mel(audio)
        ours = net.front_end(torch.from_numpy(audio.copy())[None])[0].numpy()
        assert reference.shape == ours.shape == (96, 64)
        assert agreement_db(reference, ours) > least_db


def test_the_mel_bands_lie_where_librosa_puts_them() -> None:
    librosa = pytest.importorskip("librosa")
    matrix = yamnet.mel_matrix()
    edges_hz = librosa.mel_frequencies(66, fmin=125.0, fmax=7500.0, htk=True)
    bins_hz = np.arange(257) * 16000 / 512
    for band in range(64):
        support = bins_hz[matrix[:, band] > 0]
        assert edges_hz[band] < support.min()
        assert support.max() < edges_hz[band + 2]
        assert abs(bins_hz[matrix[:, band].argmax()] - edges_hz[band + 1]) < 16000 / 512
    assert not matrix[0].any()


def test_offline_windows_equal_the_graph_call_by_call(
    net: yamnet.YAMNet, street: NDArray[np.float32], street_scores: NDArray[np.float32]
) -> None:
    graph = yamnet.graph(net)
    for window in (0, 16, 40, 90):
        start = window * HOP
        (scores,) = graph(torch.from_numpy(street[start : start + WINDOW].copy())[None])
        assert scores.shape == (1, 521)
        np.testing.assert_allclose(scores[0].numpy(), street_scores[window], atol=2e-6)


@pytest.mark.parametrize(
    ("samples", "windows"), [(1, 1), (15600, 1), (15601, 2), (15600 + 7680, 2), (15600 + 7681, 3), (40000, 5)]
)
def test_a_tail_is_padded_with_zeros_once(
    net: yamnet.YAMNet, street: NDArray[np.float32], samples: int, windows: int
) -> None:
    audio = street[8 * RATE :][:samples]
    scores = run(net, audio)
    assert scores.shape == (windows, 521)
    last = np.zeros(WINDOW, np.float32)
    tail = audio[(windows - 1) * HOP :]
    last[: len(tail)] = tail
    np.testing.assert_allclose(run(net, last)[0], scores[-1], atol=2e-6)


def test_scores_are_probabilities_and_depend_on_the_audio(
    street_scores: NDArray[np.float32], labels: tuple[str, ...]
) -> None:
    assert street_scores.min() >= 0.0
    assert street_scores.max() <= 1.0
    assert np.abs(street_scores[20] - street_scores[80]).max() > 0.5
    assert np.ptp(street_scores, axis=0)[labels.index("Bicycle bell")] > 0.9


def test_silence_is_called_silence(net: yamnet.YAMNet, labels: tuple[str, ...]) -> None:
    scores = run(net, np.zeros(WINDOW, np.float32))[0]
    assert labels[int(scores.argmax())] == "Silence"
    assert scores.max() > 0.9


def test_batch_normalisation_is_folded(net: yamnet.YAMNet) -> None:
    kinds = {type(module) for module in net.modules()}
    assert torch.nn.BatchNorm2d not in kinds
    assert not net.training
    # 3.75 M values of the checkpoint less a mean and a variance of each of 10,944 channels, which the fold uses up
    assert sum(p.numel() for p in net.parameters()) == 3_751_369 - 2 * 10_944


def test_the_graph_takes_one_window_of_a_yamnet(net: yamnet.YAMNet) -> None:
    with pytest.raises(UsageError, match="hops_per_call=2"):
        yamnet.graph(net, 2)
    with pytest.raises(UsageError, match="got Linear"):
        yamnet.graph(torch.nn.Linear(1, 1))


def test_a_negative_variance_is_refused(arrays: Arrays) -> None:
    with pytest.raises(WeightsError, match=r"stem\.variance has negative values"):
        yamnet.build(dict(arrays) | {"stem.variance": -arrays["stem.variance"]})


def test_weights_of_another_net_are_refused() -> None:
    with pytest.raises(WeightsError, match=f"expected the {len(expected_shapes())} tensors .* got 1: .*another net"):
        yamnet.build({"core1.mask.bias": np.zeros(257, np.float32)})
    with pytest.raises(WeightsError, match="the checkpoint is of another net"):
        from_checkpoint({"dense/kernel": np.zeros((3, 3), np.float32)})
