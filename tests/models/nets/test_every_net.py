"""The contract of a net, for the whole catalogue: a stream is the offline net, state is a value, faults have names.

Weights are the published ones. For nets whose weights no package holds, SLIM names small random ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="nets need the extra export")

from converters.bundle.test_audio import noisy_speech, several_channels  # noqa: E402
from models import pretrained  # noqa: E402
from models.catalog import CATALOG  # noqa: E402
from models.common.errors import AudioError, UsageError, WeightsError  # noqa: E402
from models.entry import ModelEntry  # noqa: E402
from models.nets.panns import weights as panns  # noqa: E402
from models.nets.unet import weights as unet  # noqa: E402
from models.nets.unet.entry import unet_separator  # noqa: E402
from tests.models.nets.agreement import agreement_db, stream  # noqa: E402

SAME_DB = 110.0
SAME_SCORE = 1e-5
SECONDS = 2.0
HOPS = 48  # of a streamed recording

Array = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]

# Nets without published weights: the entry of a small net, and the shapes of its tensors.
SLIM: dict[str, tuple[ModelEntry, dict[str, tuple[int, ...]]]] = {
    "unet-separator": (unet_separator(4), unet.expected_shapes(4)),
    **{name: (CATALOG[name], panns.expected_shapes(kind, width=8)) for kind, name in panns.NAMES.items()},
}
ENTRIES = {name: SLIM[name][0] if name in SLIM else entry for name, entry in CATALOG.items()}
NETS = pytest.mark.parametrize("name", ENTRIES)
STEPS = pytest.mark.parametrize("name", [n for n, entry in ENTRIES.items() if entry.buffer_kind == "step"])
WINDOWS = pytest.mark.parametrize("name", [n for n, entry in ENTRIES.items() if entry.buffer_kind == "window"])
ENHANCERS = pytest.mark.parametrize("name", [n for n, entry in ENTRIES.items() if entry.task == "enhancer"])


pytestmark = pytest.mark.usefixtures("one_thread")


@functools.cache
def arrays(name: str) -> Arrays:
    if name not in SLIM:
        return pretrained.load(name)
    generator = np.random.default_rng(5)
    made: dict[str, NDArray[Any]] = {}
    for tensor, shape in SLIM[name][1].items():
        spread = 1.0 / np.sqrt(max(1, int(np.prod(shape[1:]))))
        positive = len(shape) == 1 and not tensor.endswith(("bias", "mean"))
        value = generator.uniform(0.5, 1.5, shape) if positive else spread * generator.standard_normal(shape)
        made[tensor] = value.astype(np.float32)
    if name.startswith("panns"):
        transform = panns.windowed_dft(panns.hann(panns.DFT_POINTS), panns.DFT_POINTS)
        made |= {n: m.T[:, None].astype(np.float32) for n, m in zip(panns.DFT_NAMES, transform, strict=True)}
        made[panns.MEL_NAME] = np.abs(made[panns.MEL_NAME])
    return made


@functools.cache
def net(name: str) -> Any:
    return ENTRIES[name].load_net(arrays(name))


def hops_of(name: str) -> list[int]:
    most = ENTRIES[name].max_hops
    return sorted({1, min(2, most), min(3, most), most})


@functools.cache
def graphs(name: str) -> dict[int, Any]:
    return {hops: ENTRIES[name].load_graph(net(name), hops) for hops in hops_of(name)}


@functools.cache
def sound(name: str) -> Array:
    """A voice in a street at the net's rate, [1, n] or [1, channels, n]; n is no multiple of a hop."""
    geometry = ENTRIES[name].geometry
    if geometry.channels > 1:
        return several_channels(geometry.sample_rate_hz, SECONDS + 0.01, 2)[None, :, 11:]
    return noisy_speech(geometry.sample_rate_hz, SECONDS + 0.01)[1][None, 11:]


def offline(name: str, audio: Array) -> list[Array]:
    """What the offline net gives, in the shapes of `stream`."""
    result = net(name)(torch.from_numpy(audio)).numpy()
    if ENTRIES[name].sources:
        return list(result.swapaxes(0, 1))
    return [result[0] if ENTRIES[name].task == "classifier" else result]


def assert_same(name: str, wanted: list[Array], got: list[Array]) -> None:
    for one, other in zip(wanted, got, strict=True):
        if ENTRIES[name].task == "classifier":
            np.testing.assert_allclose(other, one, atol=SAME_SCORE)
        else:
            assert agreement_db(one, other) >= SAME_DB


# --- streams -------------------------------------------------------------------------------------------------


@functools.cache
def streamed(name: str) -> tuple[Array, list[Array]]:
    """A recording of HOPS hops, from where the voice is, and what the offline net makes of it."""
    hop = ENTRIES[name].geometry.hop_samples
    audio = np.ascontiguousarray(sound(name)[..., -HOPS * hop :])
    return audio, offline(name, audio)


@STEPS
def test_a_graph_of_any_buffer_is_the_offline_net(name: str) -> None:
    audio, wanted = streamed(name)
    for hops in hops_of(name):
        got, state = stream(ENTRIES[name], graphs(name), audio, [hops] * (HOPS // hops))
        assert_same(name, wanted, got)
        spec = ENTRIES[name].states[0]
        if spec.name in ("samples", "context"):
            assert np.array_equal(state[0].numpy(), audio[..., -spec.shape[-1] :])


@STEPS
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_every_partition_is_the_same_stream(name: str, data: st.DataObject) -> None:
    audio, wanted = streamed(name)
    left, partition = HOPS, []
    while left:
        partition.append(data.draw(st.sampled_from([hops for hops in hops_of(name) if hops <= left])))
        left -= partition[-1]
    assert_same(name, wanted, stream(ENTRIES[name], graphs(name), audio, partition)[0])


@STEPS
def test_zeros_are_the_reset(name: str) -> None:
    entry, (audio, _) = ENTRIES[name], streamed(name)
    assert {spec.reset for spec in entry.states} == {"zeros"}
    once, again = (stream(entry, graphs(name), audio, [1] * HOPS)[0] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


@WINDOWS
def test_a_recording_is_its_windows_and_a_tail_is_filled_up_with_zeros(name: str) -> None:
    geometry = ENTRIES[name].geometry
    audio = sound(name)[:, : geometry.window_samples + geometry.hop_samples // 2]
    (scores,) = offline(name, audio)
    assert scores.shape == (2, *ENTRIES[name].output.shape[1:])
    filled = np.pad(audio, ((0, 0), (0, geometry.hop_samples)))
    for number, row in enumerate(scores):
        start = number * geometry.hop_samples
        (one,) = graphs(name)[1](torch.from_numpy(filled[:, start : start + geometry.window_samples].copy()))
        np.testing.assert_allclose(one[0].numpy(), row, atol=SAME_SCORE)
    assert len(offline(name, audio[:, : geometry.window_samples])[0]) == 1
    assert len(offline(name, audio[:, :1])[0]) == 1


@STEPS
def test_a_tail_is_padded_with_zeros(name: str) -> None:
    hop = ENTRIES[name].geometry.hop_samples
    audio = sound(name)[..., -10 * hop + 7 :]
    whole = np.concatenate([audio, np.zeros((*audio.shape[:-1], 7), np.float32)], -1)
    assert all(np.array_equal(a, b) for a, b in zip(offline(name, audio), offline(name, whole), strict=True))


# --- calls ---------------------------------------------------------------------------------------------------


@NETS
def test_state_is_a_value_and_tensors_are_those_of_the_catalogue(name: str) -> None:
    for hops, graph in graphs(name).items():
        signature = ENTRIES[name].signature(hops)
        generator = torch.Generator().manual_seed(hops)
        inputs = [torch.rand(shape, generator=generator) for shape in signature.input_shapes]
        before = [value.clone() for value in inputs]
        first, second = graph(*inputs), graph(*inputs)
        shapes = [t.shape for t in signature.outputs] + [s.shape for s in signature.states]
        assert [tuple(t.shape) for t in first] == shapes
        assert all(torch.equal(a, b) for a, b in zip([*first, *before], [*second, *inputs], strict=True))
        passed = {(value.data_ptr(), tuple(value.shape)) for value in inputs}
        assert not passed & {(value.data_ptr(), tuple(value.shape)) for value in first}, "an input handed through"


@NETS
def test_modules_kept_in_float32_exist_and_constants_lie_in_c_order(name: str) -> None:
    graph = graphs(name)[1]
    assert set(ENTRIES[name].fp32_modules) <= {module for module, _ in graph.named_modules()}
    assert all(tensor.is_contiguous() for tensor in (*graph.parameters(), *graph.buffers()))
    assert not any(tensor.requires_grad for tensor in graph.parameters())


@NETS
def test_silence_and_full_scale_stay_finite(name: str) -> None:
    geometry = ENTRIES[name].geometry
    square = np.sign(np.sin(np.arange(float(8 * geometry.window_samples))) + 1e-9)
    for audio in (0.0 * square, np.ones_like(square), square):
        given = np.broadcast_to(audio, (*sound(name).shape[:-1], len(audio))).astype(np.float32)
        for output in offline(name, given):
            assert np.isfinite(output).all()
            if ENTRIES[name].task == "classifier":
                assert output.min() >= 0.0
                assert output.max() <= 1.0
            elif not audio.any():
                assert not output.any()


@STEPS
def test_a_stream_of_silence_stays_silent_and_its_state_finite(name: str) -> None:
    hops = hops_of(name)[-1]
    silence = np.zeros((*sound(name).shape[:-1], 8 * ENTRIES[name].buffer_samples(hops)), np.float32)
    outputs, state = stream(ENTRIES[name], graphs(name), silence, [hops] * 8)
    assert all(bool(torch.isfinite(value).all()) for value in state)
    assert ENTRIES[name].task == "classifier" or not any(output.any() for output in outputs)


@ENHANCERS
def test_an_enhancer_lags_by_its_delay_and_takes_noise_away(name: str) -> None:
    """Noise of the speech's level goes down by far more than speech: the net reacts, and to the right thing."""
    audio, delay = sound(name), ENTRIES[name].geometry.delay_samples
    (enhanced,) = offline(name, audio)
    lags = range(0, 2 * delay + 1, delay // 16)
    scores = [float(audio[0, : audio.shape[1] - lag] @ enhanced[0, lag : audio.shape[1]]) for lag in lags]
    assert lags[int(np.argmax(scores))] == delay
    level, half = float(np.sqrt((audio**2).mean())), audio.shape[1] // 2
    noise = level * np.random.default_rng(1).standard_normal(audio.shape).astype(np.float32)
    kept = float(np.sqrt((offline(name, noise)[0][:, half:] ** 2).mean()))
    assert kept < 0.3 * float(np.sqrt((enhanced[:, half:] ** 2).mean()))


# --- what is refused -----------------------------------------------------------------------------------------


@NETS
def test_wrong_audio_is_refused(name: str) -> None:
    channels = ENTRIES[name].geometry.channels
    expected = r"expected audio \[1, samples\]" if channels == 1 else rf"expected audio \[1, {channels}, samples\]"
    shapes: list[tuple[int, ...]] = [(4096,), (2, 4096), (1, 0), (1, 1, 4096), (1, channels, 0)]
    for shape in shapes:
        with pytest.raises(AudioError, match=f"{name.partition('-')[0]}.*{expected}"):
            net(name)(torch.zeros(shape))


@NETS
def test_a_call_of_hops_that_it_does_not_take_is_refused(name: str) -> None:
    entry = ENTRIES[name]
    wrong = 2 if entry.max_hops == 1 else 0
    with pytest.raises(UsageError, match=str(wrong)):
        entry.load_graph(net(name), wrong)


SPOILS: dict[str, tuple[Callable[[dict[str, Any], str], object], str]] = {
    "missing": (lambda w, tensor: w.pop(tensor), "missing {tensor}"),
    "unexpected": (lambda w, tensor: w.update({"other.bias": w[tensor]}), r"unexpected other\.bias"),
    "shape": (lambda w, tensor: w.update({tensor: w[tensor][:-1]}), "{tensor}: expected shape"),
    "integers": (
        lambda w, tensor: w.update({tensor: w[tensor].astype(np.int8)}),
        "{tensor}: expected floats, got int8",
    ),
    "nan": (lambda w, tensor: w.update({tensor: np.nan * w[tensor]}), "{tensor}: holds NaN"),
    "empty": (lambda w, tensor: w.clear(), r"got 0: missing .* and \d+ more"),
}


@NETS
@pytest.mark.parametrize("fault", SPOILS)
def test_weights_that_do_not_fit_are_named(name: str, fault: str) -> None:
    spoil, said = SPOILS[fault]
    weights = dict(arrays(name))
    tensor = sorted(weights)[len(weights) // 2 + 2]
    spoil(weights, tensor)
    with pytest.raises(WeightsError, match=f"^{name}: .*" + said.replace("{tensor}", tensor.replace(".", r"\."))):
        ENTRIES[name].load_net(weights)


# --- papers --------------------------------------------------------------------------------------------------


@NETS
def test_card_and_licence_are_there(name: str) -> None:
    entry = CATALOG[name]
    assert len(entry.text(entry.card_file)) > 200
    if entry.pretrained() is None:
        assert "weights" in entry.summary  # says that there are none, or to bring them
        return
    licences = pretrained.pull(name).licences
    assert licences
    assert all(file.read_text(encoding="utf-8").strip() for file in licences)
