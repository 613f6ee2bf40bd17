"""models.silero_vad: the authors' graph on real speech, offline against the graph, bad weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="nets need the extra export")

from models import pretrained  # noqa: E402
from models.common.errors import AudioError, UsageError, WeightsError  # noqa: E402
from models.nets.silero_vad import net as silero_vad  # noqa: E402
from models.nets.silero_vad import weights as silero_vad_weights  # noqa: E402
from models.nets.silero_vad.entry import SILERO_VAD  # noqa: E402
from models.weights.assets import pull_asset  # noqa: E402
from streaming.files.wav import read_wav  # noqa: E402

CHUNK = silero_vad_weights.CHUNK_SAMPLES
SAME = 1e-5

Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small operations: a second thread costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def arrays() -> dict[str, Array]:
    return pretrained.load("silero-vad")


@pytest.fixture(scope="session")
def net(arrays: dict[str, Array]) -> silero_vad.SileroVAD:
    return silero_vad.build(arrays)


@pytest.fixture(scope="session")
def speech() -> Array:
    """160 chunks (5.1 s): the street alone for a second, then a real voice in it."""
    clip = sorted(pull_asset("speech").rglob("*.wav"))[0]
    street = read_wav(pull_asset("street-wav")).samples[0][: 160 * CHUNK]
    voice = read_wav(clip).samples[0][: 130 * CHUNK]
    mixed = 0.3 * street
    mixed[-len(voice) :] += voice
    return np.ascontiguousarray(mixed, np.float32)


@pytest.fixture(scope="session")
def scores(net: silero_vad.SileroVAD, speech: Array) -> Array:
    result: Array = net(torch.from_numpy(speech)[None])[0, :, 0].numpy()
    return result


def test_computes_what_the_authors_graph_computes(speech: Array, scores: Array) -> None:
    ort = pytest.importorskip("onnxruntime", reason="running the authors' graph needs the extra export")
    session = ort.InferenceSession(str(pretrained.pull("silero-vad").path.parent / "silero_vad_16k.onnx"))
    state, context, expected = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32), []
    for chunk in speech.reshape(-1, CHUNK):
        joined = np.concatenate([context, chunk[None]], 1)
        context = joined[:, -64:]
        score, state = session.run(None, {"input": joined, "state": state, "sr": np.array(16000, np.int64)})
        expected.append(float(score.reshape(-1)[0]))
    assert np.abs(scores - np.array(expected)).max() <= SAME


def test_hears_a_voice_and_not_the_street(scores: Array) -> None:
    assert scores[:25].max() < 0.5
    assert (scores[40:] > 0.5).mean() > 0.5


def test_graph_equals_offline(net: silero_vad.SileroVAD, speech: Array, scores: Array) -> None:
    graph = silero_vad.graph(net, 1)
    state, results = [torch.zeros(spec.shape) for spec in SILERO_VAD.states], []
    with torch.inference_mode():
        for chunk in speech.reshape(-1, 1, CHUNK):
            score, *state = graph(torch.from_numpy(chunk.copy()), *state)
            results.append(float(score))
    assert np.abs(scores - np.array(results)).max() <= SAME
    assert np.array_equal(state[0][0].numpy(), speech[-64:])


def test_graph_has_the_tensors_of_the_catalogue(net: silero_vad.SileroVAD) -> None:
    signature = SILERO_VAD.signature(1)
    outputs = silero_vad.graph(net, 1)(*(torch.zeros(shape) for shape in signature.input_shapes))
    assert [tuple(t.shape) for t in outputs] == [t.shape for t in (*signature.outputs, *signature.states)]
    assert set(SILERO_VAD.fp32_modules) <= {name for name, _ in silero_vad.graph(net, 1).named_modules()}


def test_a_tail_is_padded_with_zeros(net: silero_vad.SileroVAD, speech: Array) -> None:
    cut = torch.from_numpy(speech[20000:21300].copy())[None]
    padded = torch.nn.functional.pad(cut, (0, 3 * CHUNK - 1300))
    assert net(cut).shape == (1, 3, 1)
    assert torch.equal(net(cut), net(padded))


@pytest.mark.parametrize("shape", [(512,), (2, 512), (1, 0), (1, 1, 512)])
def test_wrong_audio_is_refused(net: silero_vad.SileroVAD, shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"expected audio \[1, samples\]"):
        net(torch.zeros(shape))


def test_two_chunks_a_call_are_refused(net: silero_vad.SileroVAD) -> None:
    with pytest.raises(UsageError, match="one chunk of 512 samples"):
        silero_vad.graph(net, 2)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "conv1.bias"}, r"missing conv1\.bias"),
        (lambda a: {**a, "conv5.bias": a["conv1.bias"]}, r"unexpected conv5\.bias"),
        (lambda a: {**a, "conv1.bias": np.zeros(8, np.float32)}, r"expected shape \[128\], got \[8\]"),
        (lambda a: {**a, "conv1.bias": np.zeros(128, np.int8)}, r"expected floats, got int8"),
        (lambda a: {**a, "conv1.bias": np.full(128, np.nan, np.float32)}, r"holds NaN"),
    ],
    ids=["missing", "unexpected", "shape", "integers", "nan"],
)
def test_bad_weights_are_named(
    arrays: dict[str, Array], spoil: Callable[[dict[str, Array]], dict[str, Any]], said: str
) -> None:
    with pytest.raises(WeightsError, match=said):
        silero_vad.build(spoil(arrays))


def test_another_or_damaged_onnx_is_refused() -> None:
    onnx = pytest.importorskip("onnx", reason="reading the ONNX file needs the extra export")
    with pytest.raises(WeightsError, match="not an ONNX model"):
        silero_vad_weights.read_onnx(b"\xff\xff not a graph")
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    with pytest.raises(WeightsError, match="not the published net"):
        silero_vad_weights.read_onnx(empty.SerializeToString())
