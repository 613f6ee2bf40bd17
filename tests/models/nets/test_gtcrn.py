"""models.gtcrn: the authors' ONNX on real speech, offline against the graph for any partition, checkpoints, halves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="nets need the extra export")

from models import pretrained  # noqa: E402
from models.common.errors import WeightsError  # noqa: E402
from models.nets.gtcrn import net as gtcrn  # noqa: E402
from models.nets.gtcrn import weights as gtcrn_weights  # noqa: E402
from models.nets.gtcrn.entry import GTCRN  # noqa: E402
from models.nets.gtcrn.weights import HOP_SAMPLES  # noqa: E402
from models.weights.assets import pull_asset  # noqa: E402
from models.weights.checkpoint import load_file  # noqa: E402
from streaming.files.wav import read_wav  # noqa: E402
from tests.models.nets.agreement import agreement_db, stream  # noqa: E402

SAME_DB = 110.0
HOP = HOP_SAMPLES

Array = NDArray[np.float32]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def arrays() -> dict[str, Array]:
    return pretrained.load("gtcrn")


@pytest.fixture(scope="session")
def net(arrays: dict[str, Array]) -> gtcrn.GTCRN:
    return gtcrn.build(arrays)


@pytest.fixture(scope="session")
def speech() -> Array:
    """48 hops (0.77 s) of a real voice with street noise, [1, 12288]."""
    clip = sorted(pull_asset("speech").rglob("*.wav"))[0]
    street = read_wav(pull_asset("street-wav")).samples[0]
    voice = read_wav(clip).samples[0]
    start = int(np.argmax(np.abs(voice) > 0.1 * np.abs(voice).max()))
    samples = 48 * HOP
    mixed = voice[start : start + samples] + 0.3 * street[:samples]
    return np.ascontiguousarray(mixed, np.float32)[None]


@pytest.fixture(scope="session")
def enhanced(net: gtcrn.GTCRN, speech: Array) -> Array:
    return net(torch.from_numpy(speech)).numpy()


def authors(audio: Array) -> Array:
    """The published streaming graph with the transforms around it, in numpy; audio [n] in float64."""
    ort = pytest.importorskip("onnxruntime", reason="running the authors' graph needs the extra export")
    session = ort.InferenceSession(str(pretrained.pull("gtcrn").path.parent / "gtcrn_simple.onnx"))
    caches = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name != "mix"}
    window = np.sqrt(np.hanning(513)[:-1])
    frame, carried, outputs = np.zeros(512), np.zeros(256), []
    for block in audio.reshape(-1, 256):
        frame = np.concatenate([frame[256:], block])
        spectrum = np.fft.rfft(frame * window)
        mix = np.stack([spectrum.real, spectrum.imag], -1).astype(np.float32)[None, :, None]
        masked, *new = session.run(None, {"mix": mix, **caches})
        caches = dict(zip(caches, new, strict=True))
        cleaned = np.fft.irfft(masked[0, :, 0, 0] + 1j * masked[0, :, 0, 1]) * window
        outputs.append(cleaned[:256] + carried)
        carried = cleaned[256:]
    return np.concatenate(outputs).astype(np.float32)


def test_computes_what_the_authors_graph_computes(net: gtcrn.GTCRN, speech: Array, enhanced: Array) -> None:
    expected = authors(speech[0])
    assert agreement_db(expected, enhanced[0]) >= SAME_DB
    (streamed,), _ = stream(GTCRN, {1: gtcrn.graph(net, 1)}, speech, [1] * 48)
    assert agreement_db(expected, streamed[0]) >= SAME_DB


def test_all_in_halves_that_flush_to_zero_it_stays_finite(
    net: gtcrn.GTCRN, speech: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ARM's native halves do (docs: precision): below 6.1e-5 there is nothing. Quiet, silent, loud: no NaN.

    Every operation of the whole net in half, none kept in float32, as where a delegate is told to force halves.
    """
    pytest.importorskip("coremltools", reason="the emulation of halves needs the extra export")
    from converters.coreml.convert import CoreMLMetadata, convert
    from runtimes.mil import MilRuntime

    to_half = torch.Tensor.half

    def flushed(value: Any) -> Any:
        half = to_half(value)
        return half * (half.abs() >= 2.0**-14)

    signature = GTCRN.signature(1)
    package = tmp_path / "gtcrn.mlpackage"
    convert(gtcrn.graph(net, 1), signature, "fp16", (), package, CoreMLMetadata("", "", "", "", GTCRN.geometry))
    monkeypatch.setattr(torch.Tensor, "half", flushed)
    runtime = MilRuntime(package, signature, mode="fp16")
    seconds = [1e-4 * speech, np.zeros_like(speech), speech, np.ones_like(speech), np.zeros_like(speech)]
    audio = np.concatenate([part[:, : 8 * HOP] for part in seconds], 1)
    state, outputs = runtime.reset(), []
    for start in range(0, audio.shape[1], HOP):
        out, state = runtime.step(np.ascontiguousarray(audio[:, start : start + HOP]), state)
        outputs.append(out["enhanced"])
        assert all(np.isfinite(value).all() for value in (*out.values(), *state.values()))
    loud = np.concatenate(outputs, 1)[:, 17 * HOP : 24 * HOP]
    assert 1e-3 < float(np.abs(loud).max()) < 2.0


def test_weights_are_the_state_dict(arrays: dict[str, Array], net: gtcrn.GTCRN) -> None:
    own = {name for name in net.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(arrays) == own == set(gtcrn_weights.SHAPES)
    trained = [name for name in arrays if "running_" not in name and not name.startswith("erb.")]
    assert sum(arrays[name].size for name in trained) == 23_669  # the paper's 23.7 k; the bands are fixed


def test_the_authors_own_checkpoint_loads(shared: Path) -> None:
    """Their VCTK checkpoint: optimizer state and counters beside the weights, batch norms not folded."""
    pair = (shared / "data" / "audio" / "vctk_demand" / f"{kind}_p287_003.wav" for kind in ("clean", "noisy"))
    clean, noisy = (read_wav(file).samples[:, : 128 * HOP].astype(np.float32) for file in pair)
    other = gtcrn.build(load_file(shared / "data" / "reference" / "gtcrn_vctk.tar"))
    output = other(torch.from_numpy(noisy)).numpy()
    (step,), _ = stream(GTCRN, {8: gtcrn.graph(other, 8)}, noisy, [8] * 16)
    assert agreement_db(output, step) >= 90.0
    assert agreement_db(clean[:, :-256], output[:, 256:]) > agreement_db(clean, noisy) + 2.0


def test_another_or_damaged_onnx_is_refused() -> None:
    onnx = pytest.importorskip("onnx", reason="reading GTCRN's ONNX file needs the extra export")
    with pytest.raises(WeightsError, match="not an ONNX model"):
        gtcrn_weights.read_onnx(b"\xff\xff not a graph")
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    with pytest.raises(WeightsError, match="not the published GTCRN"):
        gtcrn_weights.read_onnx(empty.SerializeToString())
    published = onnx.load(str(pretrained.pull("gtcrn").path.parent / "gtcrn_simple.onnx"))
    kept = [t for t in published.graph.initializer if t.name != "decoder.de_convs.4.conv.bias"]
    del published.graph.initializer[:]
    published.graph.initializer.extend(kept)
    with pytest.raises(WeightsError, match=r"no tensor 'decoder\.de_convs\.4\.conv\.bias'"):
        gtcrn_weights.read_onnx(published.SerializeToString())
