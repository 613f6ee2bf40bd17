"""models.unet: geometry, the streamed form against the whole, Open-Unmix's vectors, and a separator's bundle whole.

No pretrained weights exist. The tests write some, small and random, but alive: scaling vectors and batch statistics are
those of real audio going through the net, as training would leave them, so that the masks move with the input.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="nets need the extra export")

from converters.bundle.test_audio import several_channels  # noqa: E402
from models.common.errors import AudioError, ConversionError, UsageError, WeightsError  # noqa: E402
from models.nets.unet import net as unet  # noqa: E402
from models.nets.unet.entry import UNET_SEPARATOR, unet_separator  # noqa: E402
from models.nets.unet.weights import BINS, SOURCES, check, expected_shapes  # noqa: E402
from models.weights.checkpoint import load_file  # noqa: E402
from runtimes.torch import TorchRuntime  # noqa: E402
from streaming.core.loop import StreamLoop, run_loop  # noqa: E402
from streaming.files.wav import read_wav, write_wav  # noqa: E402

Array = NDArray[np.float32]

WIDTH = 4
ENTRY = unet_separator(WIDTH)
HOP, DELAY = ENTRY.geometry.hop_samples, ENTRY.geometry.delay_samples
HOPS = (1, 2, 3, 4)
SAME_DB = 100.0


def settled(width: int, audio: Array, seed: int = 3) -> unet.UNet:
    """A net whose statistics are those of [2, n] of real audio."""
    torch.manual_seed(seed)
    net = unet.UNet(width)
    spectrum = torch.stft(torch.from_numpy(audio), 2048, 512, window=torch.hann_window(2048), return_complex=True)
    magnitude = spectrum.abs().transpose(1, 2)[None]  # [1, 2, hops, 1025]
    with torch.no_grad():
        net.input_mean.copy_(-magnitude.mean((0, 1, 2)))
        deviation = magnitude.std((0, 1, 2))
        # The recording has nothing above 8 kHz: scaled up by itself, that is rounding, which no two engines share.
        net.input_scale.copy_(1.0 / (deviation + 0.05 * deviation.max()))
        for number, source in enumerate(SOURCES):
            net.target_models[source].output_mean.fill_(0.3 + 0.1 * number)
            net.target_models[source].output_scale.copy_(torch.linspace(0.1, 0.4, BINS))
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
                torch.nn.init.uniform_(module.weight, 0.7, 1.3)
                torch.nn.init.normal_(module.bias, 0.0, 0.2)
        net.train().masks(magnitude)
    return net.eval()


@pytest.fixture(scope="session")
def music() -> Array:
    """8 s, two channels that differ: there is no music here, speech in a street has to do."""
    torch.set_num_threads(1)
    return several_channels(44100, 8.0, 2)


@pytest.fixture(scope="session")
def file(music: Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unet") / "separator.pt"
    torch.save(settled(WIDTH, music).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def arrays(file: Path) -> dict[str, Any]:
    return dict(load_file(file))


@pytest.fixture(scope="session")
def net(arrays: dict[str, Any]) -> unet.UNet:
    return unet.build(arrays)


@pytest.fixture(scope="session")
def loops(net: unet.UNet) -> dict[int, StreamLoop]:
    """By hops per call, each with its graph in torch."""
    made = {}
    for hops in HOPS:
        runtime = TorchRuntime(unet.graph(net, hops), ENTRY.signature(hops))
        made[hops] = StreamLoop(runtime, ENTRY.geometry, "step", hops * HOP, sources=SOURCES)
    return made


def agreement_db(expected: Array, got: Array) -> float:
    """SNR of the worst source and channel."""
    assert expected.shape == got.shape
    wide = expected.astype(np.float64)
    signal, error = (wide**2).sum(-1), ((got - wide) ** 2).sum(-1)
    return float(10 * np.log10(signal / error).min())


def offline(net: unet.UNet, audio: Array) -> Array:
    """[sources, 2, n + delay], what a flushed stream gives."""
    padded = np.concatenate([audio, np.zeros((2, DELAY), np.float32)], 1)
    result: Array = net(torch.from_numpy(padded)[None])[0].numpy()
    return result[..., : padded.shape[1]]


def test_geometry(net: unet.UNet, music: Array) -> None:
    with torch.no_grad():
        audio = torch.from_numpy(music[None, :, :5000])
        assert net(audio).shape == (1, 4, 2, 5120)
    assert unet.DELAY_SAMPLES == DELAY == 1536
    assert sum(int(np.prod(s)) for n, s in expected_shapes(16).items() if "running" not in n) == 938_402
    assert UNET_SEPARATOR.signature(2).output_names[:4] == ("vocals", "drums", "bass", "other")
    assert {t.shape for t in UNET_SEPARATOR.signature(2).outputs} == {(1, 2, 1024)}


def test_masks_of_one_give_the_mix_back_late(net: unet.UNet, arrays: dict[str, Any], music: Array) -> None:
    ones = dict(arrays)
    for source in SOURCES:
        ones[f"target_models.{source}.output_scale"] = np.zeros(BINS, np.float32)
        ones[f"target_models.{source}.output_mean"] = np.ones(BINS, np.float32)
    out = offline(unet.build(ones), music[:, :20000])
    for source in out:
        np.testing.assert_allclose(source[:, DELAY:], music[:, :20000], atol=1e-6)


def test_it_hears_its_input_and_sources_and_channels_differ(net: unet.UNet, music: Array) -> None:
    spectrum = torch.stft(torch.from_numpy(music), 2048, 512, window=torch.hann_window(2048), return_complex=True)
    masks = net.masks(spectrum.abs().transpose(1, 2)[None]).numpy()
    assert (masks.std(axis=2).mean(axis=(1, 2)) > 0.02).all()  # over time, in every source
    assert all(np.abs(masks[a] - masks[b]).mean() > 0.02 for a in range(4) for b in range(a))
    assert np.abs(masks[:, 0] - masks[:, 1]).mean() > 0.02


def test_nothing_looks_ahead(net: unet.UNet, music: Array) -> None:
    whole, cut = offline(net, music[:, :40960]), music[:, :40960].copy()
    cut[:, 20480:] = 0.0
    np.testing.assert_allclose(offline(net, cut)[..., :20480], whole[..., :20480], atol=1e-6)


@pytest.mark.parametrize("hops", HOPS)
def test_a_stream_is_the_offline_net(net: unet.UNet, loops: dict[int, StreamLoop], music: Array, hops: int) -> None:
    audio = music[:, 30000:52345]  # no multiple of a hop
    results = run_loop(loops[hops], audio)
    got = np.concatenate([r.values for r in results], -1)
    assert results[-1].end_sample == got.shape[-1] == audio.shape[1] + DELAY
    assert agreement_db(offline(net, audio), got) >= SAME_DB


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=2, max_size=8), st.sampled_from(HOPS))
def test_any_partition_is_the_same_stream(
    loops: dict[int, StreamLoop], music: Array, cuts: list[int], hops: int
) -> None:
    audio, loop = music[:, 30000 : 30000 + sum(cuts) + 1], loops[hops]
    whole = np.concatenate([r.values for r in run_loop(loop, audio)], -1)
    loop.reset()
    parts = np.split(audio, np.cumsum(cuts), axis=1)
    results = [r for part in parts for r in loop.push(part)] + loop.flush()
    assert np.array_equal(whole, np.concatenate([r.values for r in results], -1))


def test_blocks_of_other_shapes_are_refused(loops: dict[int, StreamLoop], music: Array) -> None:
    loop = loops[1]
    loop.reset()
    for wrong in (music[0], music[:1], music.T):
        with pytest.raises(UsageError, match=r"a block must be float32 \[2, n\]"):
            loop.push(wrong)
    bad = music[:, :100].copy()
    bad[1, 7] = np.nan
    with pytest.raises(AudioError, match="sample 7 "):
        loop.push(bad)
    with pytest.raises(UsageError, match=r"takes audio \[1, 2, 512\], the buffer says \[1, 512\]"):
        StreamLoop(loop.runtime, dataclasses.replace(ENTRY.geometry, channels=1), "step", HOP)


# --- weights ----------------------------------------------------------------------------------------------


def open_unmix(bins: int, cropped: int) -> dict[str, Any]:
    """Names and shapes of one target's published checkpoint; umxhq's are for 4096 points: 2049 and 1487 bins."""
    shapes = {
        "fc1.weight": (512, 2 * cropped),
        "lstm.weight_ih_l0": (1024, 512),
        "lstm.weight_ih_l0_reverse": (1024, 512),
    }
    shapes |= {
        "fc2.weight": (512, 1024),
        "fc3.weight": (2 * bins, 512),
        "bn1.weight": (512,),
        "bn3.weight": (2 * bins,),
    }
    shapes |= {"input_mean": (cropped,), "input_scale": (cropped,), "output_mean": (bins,), "output_scale": (bins,)}
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}


def test_open_unmix_is_refused_and_told_which_vectors_fit() -> None:
    with pytest.raises(WeightsError, match=r"of Open-Unmix.*of this file none, not input_mean \[1487\].*") as caught:
        check(open_unmix(2049, 1487))
    assert "output_scale [2049]" in str(caught.value)
    assert "bidirectional LSTM needs the whole recording" in str(caught.value)
    one = {f"target_models.vocals.{name}": value for name, value in open_unmix(BINS, 744).items()}
    with pytest.raises(WeightsError) as caught:
        check(one)
    assert re.search(r"of this file target_models\..*target_models\.vocals\.output_scale; train", caught.value.args[0])


def test_vectors_of_open_unmix_load_under_their_names(arrays: dict[str, Any], music: Array) -> None:
    theirs = open_unmix(BINS, 744)
    generator = np.random.default_rng(1)
    scale = generator.uniform(0.5, 1.5, 744).astype(np.float32)
    vocals = generator.uniform(0.5, 1.5, BINS).astype(np.float32)
    mixed = {**arrays, "input_mean": theirs["input_mean"], "input_scale": scale}
    mixed["target_models.vocals.output_scale"] = vocals
    built = unet.build(mixed)
    assert np.array_equal(built.input_scale.numpy(), np.pad(scale, (0, BINS - 744)))  # what is above is not heard
    assert np.array_equal(built.target_models["vocals"].output_scale.numpy(), vocals)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: w.update(input_mean=np.zeros(1487, np.float32)),
            r"input_mean: expected shape \[1025\], got \[1487\]",
        ),
        (lambda w: w.update({"encoder.1.bn.running_var": -np.ones(8, np.float32)}), "negative values"),
    ],
)
def test_other_weights_are_refused(change: Any, message: str, arrays: dict[str, Any]) -> None:
    changed = dict(arrays)
    change(changed)
    with pytest.raises(WeightsError, match=message):
        check(changed)


def test_without_weights_or_of_another_width_it_is_told(file: Path, tmp_path: Path) -> None:
    from hearpack import export

    with pytest.raises(UsageError, match=r"no package holds its weights; give the checkpoint with --weights"):
        export("unet-separator", tmp_path)
    with pytest.raises((UsageError, ConversionError), match=r"weights have 4 channels in their first layer"):
        export("unet-separator", tmp_path, weights=file)
    assert "no pretrained weights" in UNET_SEPARATOR.summary
    root = Path(unet.__file__).parents[3]
    rows = [line for line in (root / "docs" / "models.md").read_text().splitlines() if "| unet-separator |" in line]
    assert len(rows) == 1
    assert "no pretrained weights" in rows[0]


# --- the bundle -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def bundle(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("litert_torch", reason="converting needs the extra export")
    pytest.importorskip("coremltools", reason="converting needs the extra export")
    from hearpack import export

    return export(ENTRY, tmp_path_factory.mktemp("bundles"), weights=file).path


def test_both_formats_are_verified(bundle: Path, file: Path) -> None:
    from hearpack import verify
    from runtimes.bundle import Bundle

    report = verify(bundle, seconds=4.0, weights=file)
    assert report.passed, report
    assert report.reference == "torch original"
    artefacts = {f"{f}-{p}" for f in ("litert", "coreml") for p in ("fp32", "fp16")}
    assert {a.artefact for a in report.artefacts} == artefacts
    shapes = {tuple(t.shape) for t in Bundle.open(bundle).manifest.outputs}
    assert shapes == {(1, 2, HOP)}
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "no pretrained weights" in card
    assert "Open-Unmix" in card


def test_golden_has_a_file_for_each_source_and_two_channels(bundle: Path) -> None:
    from converters.bundle.golden import check_golden, read_golden
    from converters.bundle.write import seal
    from runtimes.bundle import Bundle

    told = json.loads((bundle / "golden" / "golden.json").read_text())["streams"]
    assert [list(s["outputs"]) for s in told] == [sorted(SOURCES)] * 2
    opened = Bundle.open(bundle)
    own, device = read_golden(opened)
    assert (own.samples.shape, device.samples.shape) == ((2, 441000), (2, 480000))
    assert own.output.shape == (4, 2, 441000 + DELAY)
    assert not np.array_equal(own.output[0], own.output[3])
    assert not np.array_equal(own.samples[0], own.samples[1])
    drums = bundle / "golden" / "drums.f32"
    whole = drums.read_bytes()
    try:
        drums.write_bytes((np.frombuffer(whole, "<f4") * np.float32(1.01)).tobytes())
        seal(bundle, opened.manifest)
        result = next(check_golden(Bundle.open(bundle)))
        assert 40.0 < result.figures.metrics()["snr_db"] < 55.0  # 1 % of one source of four is seen
        assert not all(check.passed for check in result.checks)
    finally:
        drums.write_bytes(whole)
        seal(bundle, opened.manifest)


@pytest.mark.parametrize(("rate", "channels", "floor"), [(44100, 2, 100.0), (48000, 2, 20.0), (44100, 1, 100.0)])
def test_run_writes_a_file_for_each_source(
    bundle: Path, net: unet.UNet, music: Array, tmp_path: Path, rate: int, channels: int, floor: float
) -> None:
    from hearpack import run

    audio = music[:channels, :30011]
    write_wav(tmp_path / "song.wav", audio, rate)
    result = run(bundle, tmp_path / "song.wav", output=tmp_path / "out.wav")
    assert [Path(p).name for p in result.outputs] == [f"out.{source}.wav" for source in SOURCES]
    assert result.output is None
    clips = [read_wav(p) for p in result.outputs]
    assert {(c.samples.shape, c.sample_rate_hz) for c in clips} == {((2, 30011), rate)}
    if rate == 44100:
        expected = offline(net, np.broadcast_to(audio, (2, 30011)).copy())[..., DELAY:]
        assert agreement_db(expected, np.stack([c.samples for c in clips])) >= floor


def test_what_takes_one_channel_refuses_it_in_a_line(bundle: Path, tmp_path: Path, music: Array) -> None:
    from typer.testing import CliRunner

    from converters.install.install import install
    from hearpack.cli import app
    from runtimes.bundle import Bundle
    from streaming.metrics.partition import check_partitions
    from streaming.simulator.modes import Simulate
    from streaming.simulator.simulate import simulate

    write_wav(tmp_path / "song.wav", music[:, :44100], 44100)
    (tmp_path / "bundle-schema.txt").write_text("hearpack/1\n")
    opened = Bundle.open(bundle)
    message = r"unet-separator is a separator \(2 channels in, 4 outputs\), which .* does not take"
    for refuse in (
        lambda: simulate(bundle, Simulate(tmp_path / "song.wav")),
        lambda: check_partitions(bundle, tmp_path / "song.wav"),
        lambda: install(opened, android=tmp_path),
        lambda: install(opened, ios=tmp_path),
    ):
        with pytest.raises(UsageError, match=message):
            refuse()
    listed = CliRunner().invoke(app, ["models"]).output
    assert "no pretrained weights" in listed
    edited = opened.manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    edited["dsp"] = [{"kind": "highpass", "cutoff_hz": 80.0}]
    with pytest.raises(ValueError, match="no stage works with a separator"):
        type(opened.manifest).model_validate(edited)
