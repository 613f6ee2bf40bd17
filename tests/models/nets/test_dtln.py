"""models.dtln: the authors' .tflite pair on real speech, offline against the graph for every partition, bad weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="nets need the extra export")

from models import pretrained  # noqa: E402
from models.common.errors import WeightsError  # noqa: E402
from models.nets.dtln import net as dtln  # noqa: E402
from models.nets.dtln import step as dtln_graph  # noqa: E402
from models.nets.dtln import weights as dtln_weights  # noqa: E402
from models.nets.dtln.entry import DTLN  # noqa: E402
from models.weights.assets import pull_asset  # noqa: E402
from streaming.files.wav import read_wav  # noqa: E402
from tests.models.nets.agreement import agreement_db, stream  # noqa: E402

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
AUTHORS_PAIR = tuple(SHARED / "reference" / f"dtln_model_{core}.tflite" for core in (1, 2))
NOISY = tuple(SHARED / "audio" / "vctk_demand" / f"noisy_p287_00{number}.wav" for number in (1, 2, 3))
SAME_DB = 110.0

Array = NDArray[np.float32]


@pytest.fixture(scope="session")
def arrays() -> dict[str, Array]:
    return pretrained.load("dtln")


@pytest.fixture(scope="session")
def net(arrays: dict[str, Array]) -> dtln.DTLN:
    return dtln.build(arrays)


@pytest.fixture(scope="session")
def speech() -> Array:
    """96 hops of a real voice with street noise, [1, 12288]."""
    clip = sorted(pull_asset("speech").rglob("*.wav"))[0]
    street = read_wav(pull_asset("street-wav")).samples[0]
    voice = read_wav(clip).samples[0]
    start = int(np.argmax(np.abs(voice) > 0.1 * np.abs(voice).max()))
    samples = 96 * dtln.HOP_SAMPLES
    mixed = voice[start : start + samples] + 0.3 * street[:samples]
    return np.ascontiguousarray(mixed, np.float32)[None]


@pytest.fixture(scope="session")
def enhanced(net: dtln.DTLN, speech: Array) -> Array:
    return net(torch.from_numpy(speech)).numpy()


def zero_state() -> list[Any]:
    return [torch.zeros(spec.shape) for spec in DTLN.states]


class AuthorsPair:
    """The published .tflite files with the transforms around them as the authors' example has them, in numpy."""

    def __init__(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.cores = [Interpreter(str(file), num_threads=1) for file in AUTHORS_PAIR]
        for core in self.cores:
            core.allocate_tensors()

    def _run(self, number: int, value: NDArray[Any], state: Array) -> tuple[Array, Array]:
        core = self.cores[number]
        by_rank = {len(d["shape"]): d["index"] for d in core.get_input_details()}
        core.set_tensor(by_rank[3], value.astype(np.float32)[None, None])
        core.set_tensor(by_rank[4], state)
        core.invoke()
        out = {len(d["shape"]): core.get_tensor(d["index"]) for d in core.get_output_details()}
        return out[3][0, 0], out[4]

    def __call__(self, audio: Array) -> Array:
        frame, summed, outputs = np.zeros(512), np.zeros(512), []
        states = [np.zeros((1, 2, 128, 2), np.float32) for _ in self.cores]
        for block in audio.reshape(-1, 128):
            frame = np.concatenate([frame[128:], block])
            spectrum = np.fft.rfft(frame)
            mask, states[0] = self._run(0, np.abs(spectrum), states[0])
            cleaned, states[1] = self._run(1, np.fft.irfft(spectrum * mask), states[1])
            summed = np.concatenate([summed[128:], np.zeros(128)]) + cleaned
            outputs.append(summed[:128].copy())
        return np.concatenate(outputs).astype(np.float32)


@pytest.mark.skipif(
    not all(file.is_file() for file in (*AUTHORS_PAIR, *NOISY)),
    reason="the authors' .tflite pair or VCTK-DEMAND are not in ../shared/data",
)
@pytest.mark.parametrize("file", NOISY, ids=lambda file: file.stem)
def test_computes_what_the_authors_files_compute(net: dtln.DTLN, file: Path) -> None:
    recording = read_wav(file)
    assert recording.sample_rate_hz == DTLN.geometry.sample_rate_hz
    hops = min(recording.samples.shape[1] // 128, 288) // 16 * 16
    audio = np.ascontiguousarray(recording.samples[:1, : hops * 128], np.float32)
    authors = AuthorsPair()(audio[0])
    assert agreement_db(authors, net(torch.from_numpy(audio)).numpy()[0]) >= SAME_DB
    (streamed,), _ = stream(DTLN, {1: dtln.graph(net, 1)}, audio, [1] * hops)
    assert agreement_db(authors, streamed[0]) >= SAME_DB


def test_front_end_is_the_dft() -> None:
    frames = np.random.default_rng(3).standard_normal((5, 512)).astype(np.float32)
    real, imag, magnitude = (value.numpy() for value in dtln_graph.FrontEnd(5)(torch.from_numpy(frames)))
    assert sorted(dtln_graph.FREQUENCY) == list(range(257))
    spectrum = np.fft.rfft(frames.astype(np.float64))[:, dtln_graph.FREQUENCY]
    assert agreement_db(np.abs(spectrum), magnitude) >= SAME_DB
    assert agreement_db(spectrum.real, real) >= SAME_DB
    assert agreement_db(np.abs(spectrum.imag), np.abs(imag)) >= SAME_DB  # a mirrored bin has the other sign


def test_weights_are_the_state_dict(arrays: dict[str, Array], net: dtln.DTLN) -> None:
    assert set(arrays) == set(net.state_dict()) == set(dtln_weights.SHAPES)
    # The catalogue's 0.99 million, and the second biases of core 2, which are zero.
    assert sum(value.size for value in arrays.values()) == 987_777 + 1024


def _onnx_pair(activation: str = "Tanh", epsilon: float = 1e-7, leave_out: str = "") -> tuple[bytes, bytes]:
    """Two files with the tensors of the published graphs, filled so that a gate in the wrong place shows."""
    onnx = pytest.importorskip("onnx", reason="reading DTLN's ONNX files needs the extra export")
    gates = {name: np.repeat(np.asarray(name, np.float32), 128) for name in ((1, 2, 3, 4), (1, 4, 2, 3))}
    lstms, one, two = [], {}, {}
    for name, inputs in (("lstm_4", 257), ("lstm_5", 128)):
        rows = gates[1, 4, 2, 3][None, :, None]  # input, output, forget, cell
        one[f"{name}_W"], one[f"{name}_R"] = np.tile(rows, (1, 1, inputs)), np.tile(rows, (1, 1, 128))
        one[f"{name}_B"] = np.tile(gates[1, 4, 2, 3], 2)[None]
        ends = {"activations": ["Sigmoid", activation, "Tanh"], "direction": "forward", "hidden_size": 128}
        lstms.append(onnx.helper.make_node("LSTM", ["x"], ["y"], name, **ends))
    one |= {"dense_2/kernel:0": np.ones((128, 257)), "dense_2/bias:0": np.ones(257)}
    for name, inputs in (("lstm_6", 256), ("lstm_7", 128)):
        for part, rows in (("MatMul", inputs), ("MatMul_1", 128)):
            two[f"model_2/{name}/{part}/ReadVariableOp/resource:0"] = np.tile(gates[1, 2, 3, 4], (rows, 1))
        two[f"model_2/{name}/BiasAdd/ReadVariableOp/resource:0"] = gates[1, 2, 3, 4]
    norm = "model_2/instant_layer_normalization_1"
    two |= {
        "conv1d_2/kernel:0": np.ones((256, 512, 1)),
        "conv1d_3/kernel:0": np.ones((512, 256, 1)),
        f"{norm}/add/y:0": np.asarray(epsilon),
        f"{norm}/mul/ReadVariableOp/resource:0": np.ones(256),
        f"{norm}/add_1/ReadVariableOp/resource:0": np.ones(256),
        "model_2/dense_3/Tensordot/Reshape_1:0": np.ones((128, 256)),
        "model_2/dense_3/BiasAdd/ReadVariableOp/resource:0": np.ones(256),
    }

    def pack(tensors: dict[str, NDArray[Any]], nodes: list[Any]) -> bytes:
        kept = [
            onnx.numpy_helper.from_array(np.asarray(value, np.float32), name)
            for name, value in tensors.items()
            if name != leave_out
        ]
        return bytes(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], kept)).SerializeToString())

    return pack(one, lstms), pack(two, [])


def test_read_onnx_orders_the_gates() -> None:
    weights = dtln_weights.read_onnx(*_onnx_pair())
    for prefix in ("core1.lstm1", "core1.lstm2", "core2.lstm1", "core2.lstm2"):
        for part in ("weight_ih_l0", "weight_hh_l0"):
            assert np.array_equal(weights[f"{prefix}.{part}"][::128, 0], [1, 2, 3, 4])
        assert np.array_equal(weights[f"{prefix}.bias_ih_l0"][::128], [1, 2, 3, 4])
    assert all(value.dtype == np.float32 and value.flags.c_contiguous for value in weights.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation": "Relu"}, "model_1.onnx: LSTM 'lstm_4': expected"),
        ({"epsilon": 1e-5}, "model_2.onnx: expected a normalisation epsilon of 1e-07, got 1e-05"),
        ({"leave_out": "conv1d_3/kernel:0"}, "model_2.onnx: no tensor 'conv1d_3/kernel:0'"),
    ],
    ids=["activation", "epsilon", "tensor"],
)
def test_another_onnx_graph_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        dtln_weights.read_onnx(*_onnx_pair(**change))


def test_swapped_or_damaged_onnx_is_refused() -> None:
    one, two = _onnx_pair()
    with pytest.raises(WeightsError, match=r"model_2\.onnx"):
        dtln_weights.read_onnx(two, one)
    with pytest.raises(WeightsError, match="not an ONNX model"):
        dtln_weights.read_onnx(b"\xff" * 64, two)
