"""models.gtcrn: the authors' ONNX on real speech, offline against the graph for any partition, checkpoints, halves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="nets need the extra export")

from models import pretrained  # noqa: E402
from models.common.errors import AudioError, UsageError, WeightsError  # noqa: E402
from models.nets.gtcrn import net as gtcrn  # noqa: E402
from models.nets.gtcrn import step as gtcrn_graph  # noqa: E402
from models.nets.gtcrn import weights as gtcrn_weights  # noqa: E402
from models.nets.gtcrn.entry import GTCRN  # noqa: E402
from models.nets.gtcrn.weights import HOP_SAMPLES  # noqa: E402
from models.weights.assets import pull_asset  # noqa: E402
from models.weights.checkpoint import load_file  # noqa: E402
from streaming.files.wav import read_wav  # noqa: E402

SAME_DB = 110.0
HOPS = (1, 2, 3, 8)
HOP = HOP_SAMPLES

Array = NDArray[np.float32]


def agreement_db(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Energy of the reference over that of the difference."""
    reference, other = reference.astype(np.float64), other.astype(np.float64)
    assert reference.shape == other.shape
    assert (reference**2).sum() > 0
    return float(10 * np.log10((reference**2).sum() / max(((reference - other) ** 2).sum(), 1e-30)))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small operations: a second thread costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def arrays() -> dict[str, Array]:
    return pretrained.load("gtcrn")


@pytest.fixture(scope="session")
def net(arrays: dict[str, Array]) -> gtcrn.GTCRN:
    return gtcrn.build(arrays)


@pytest.fixture(scope="session")
def graphs(net: gtcrn.GTCRN) -> dict[int, gtcrn_graph.StepGraph]:
    return {hops: gtcrn.graph(net, hops) for hops in HOPS}


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


def stream(graphs: dict[int, gtcrn_graph.StepGraph], audio: Array, partition: Sequence[int]) -> tuple[Array, list[Any]]:
    """Audio through calls of as many hops as `partition` says; output and last state."""
    state, outputs, at = [torch.zeros(spec.shape) for spec in GTCRN.states], [], 0
    with torch.inference_mode():
        for hops in partition:
            samples = hops * HOP
            output, *state = graphs[hops](torch.from_numpy(audio[:, at : at + samples]), *state)
            outputs.append(output.numpy())
            at += samples
    assert at == audio.shape[1]
    return np.concatenate(outputs, axis=1), state


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


def test_computes_what_the_authors_graph_computes(
    net: gtcrn.GTCRN, graphs: dict[int, gtcrn_graph.StepGraph], speech: Array, enhanced: Array
) -> None:
    expected = authors(speech[0])
    assert agreement_db(expected, enhanced[0]) >= SAME_DB
    assert agreement_db(expected, stream(graphs, speech, [1] * 48)[0][0]) >= SAME_DB


@pytest.mark.parametrize("hops", HOPS)
def test_graph_equals_offline(
    graphs: dict[int, gtcrn_graph.StepGraph], speech: Array, enhanced: Array, hops: int
) -> None:
    output, state = stream(graphs, speech, [hops] * (48 // hops))
    assert agreement_db(enhanced, output) >= SAME_DB
    assert np.array_equal(state[0].numpy(), speech[:, -256:])


@settings(max_examples=5, deadline=None)
@given(st.data())
def test_every_partition_gives_the_same(
    graphs: dict[int, gtcrn_graph.StepGraph], speech: Array, enhanced: Array, data: st.DataObject
) -> None:
    left, partition = 48, []
    while left:
        partition.append(data.draw(st.sampled_from([hops for hops in HOPS if hops <= left])))
        left -= partition[-1]
    assert agreement_db(enhanced, stream(graphs, speech, partition)[0]) >= SAME_DB


def test_graph_has_the_tensors_of_the_catalogue(graphs: dict[int, gtcrn_graph.StepGraph]) -> None:
    for hops, graph in graphs.items():
        signature = GTCRN.signature(hops)
        outputs = graph(*(torch.zeros(shape) for shape in signature.input_shapes))
        expected = [t.shape for t in signature.outputs] + [s.shape for s in signature.states]
        assert [tuple(t.shape) for t in outputs] == expected


def test_fp32_modules_are_modules_of_the_graph(graphs: dict[int, gtcrn_graph.StepGraph]) -> None:
    assert GTCRN.fp32_modules
    assert set(GTCRN.fp32_modules) <= {name for name, _ in graphs[1].named_modules()}


def test_state_is_a_value(graphs: dict[int, gtcrn_graph.StepGraph], speech: Array) -> None:
    for hops, graph in graphs.items():
        generator = torch.Generator().manual_seed(hops)
        inputs = [torch.from_numpy(speech[:, : hops * HOP].copy())]
        inputs += [torch.rand(spec.shape, generator=generator) for spec in GTCRN.states]
        before = [value.clone() for value in inputs]
        first, second = graph(*inputs), graph(*inputs)
        assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_output_lags_by_the_delay(speech: Array, enhanced: Array) -> None:
    lags = range(0, 769, 16)
    scores = [float(speech[0, : 12288 - lag] @ enhanced[0, lag:]) for lag in lags]
    assert lags[int(np.argmax(scores))] == GTCRN.geometry.delay_samples == gtcrn.DELAY_SAMPLES


def test_hears_its_input(net: gtcrn.GTCRN, speech: Array, enhanced: Array) -> None:
    """Noise of the speech's level goes down by far more than speech: the net reacts, and to the right thing."""
    level = float(np.sqrt((speech**2).mean()))
    noise = level * np.random.default_rng(1).standard_normal(speech.shape).astype(np.float32)
    kept = float(np.sqrt((net(torch.from_numpy(noise)).numpy()[:, 6144:] ** 2).mean())) / level
    assert kept < 0.3 * float(np.sqrt((enhanced[:, 6144:] ** 2).mean())) / level


def test_silence_stays_silent(net: gtcrn.GTCRN, graphs: dict[int, gtcrn_graph.StepGraph]) -> None:
    silence = np.zeros((1, 32 * HOP), np.float32)
    assert not net(torch.from_numpy(silence)).any()
    output, state = stream(graphs, silence, [8] * 4)
    assert not output.any()
    assert all(bool(torch.isfinite(value).all()) for value in state)


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


@pytest.mark.parametrize("shape", [(256,), (2, 256), (1, 0), (1, 1, 256)])
def test_wrong_audio_is_refused(net: gtcrn.GTCRN, shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"expected audio \[1, samples\]"):
        net(torch.zeros(shape))


def test_no_hops_are_refused(net: gtcrn.GTCRN) -> None:
    with pytest.raises(UsageError, match="at least 1 hop"):
        gtcrn.graph(net, 0)


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
    step, _ = stream({8: gtcrn.graph(other, 8)}, noisy, [8] * 16)
    assert agreement_db(output, step) >= 90.0
    assert agreement_db(clean[:, :-256], output[:, 256:]) > agreement_db(clean, noisy) + 2.0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "dpgrnn1.intra_fc.bias"}, r"missing dpgrnn1\.intra_fc\.bias"),
        (lambda a: {**a, "dpgrnn3.bias": np.zeros(3, np.float32)}, r"unexpected dpgrnn3\.bias"),
        (lambda a: {**a, "dpgrnn1.intra_fc.bias": np.zeros(8, np.float32)}, r"expected shape \[16\], got \[8\]"),
        (lambda a: {**a, "dpgrnn1.intra_fc.bias": np.zeros(16, np.int8)}, r"expected floats, got int8"),
        (lambda a: {**a, "dpgrnn1.intra_fc.bias": np.full(16, np.nan, np.float32)}, r"holds NaN"),
        (lambda _: {}, r"got 0: missing .* and \d+ more"),
    ],
    ids=["missing", "unexpected", "shape", "integers", "nan", "empty"],
)
def test_bad_weights_are_named(
    arrays: dict[str, Array], spoil: Callable[[dict[str, Array]], dict[str, Array]], said: str
) -> None:
    with pytest.raises(WeightsError, match=said):
        gtcrn.build(spoil(arrays))


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
