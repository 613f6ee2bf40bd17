"""models.silero_vad: the authors' graph on real speech, offline against the graph, bad weights."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="nets need the extra export")

from models import pretrained  # noqa: E402
from models.common.errors import WeightsError  # noqa: E402
from models.nets.silero_vad import net as silero_vad  # noqa: E402
from models.nets.silero_vad import weights as silero_vad_weights  # noqa: E402
from models.weights.assets import pull_asset  # noqa: E402
from streaming.files.wav import read_wav  # noqa: E402

CHUNK = silero_vad_weights.CHUNK_SAMPLES
SAME = 1e-5

Array = NDArray[np.float32]


pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_another_or_damaged_onnx_is_refused() -> None:
    onnx = pytest.importorskip("onnx", reason="reading the ONNX file needs the extra export")
    with pytest.raises(WeightsError, match="not an ONNX model"):
        silero_vad_weights.read_onnx(b"\xff\xff not a graph")
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    with pytest.raises(WeightsError, match="not the published net"):
        silero_vad_weights.read_onnx(empty.SerializeToString())
