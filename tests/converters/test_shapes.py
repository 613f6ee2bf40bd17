"""Nets of more shapes, from their file to a bundle: several outputs, sources, embeddings, several channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import hearpack
from converters.bundle.golden import read_golden
from converters.custom import open_custom
from converters.spec import ExportSpec, export_key
from models.common.errors import UsageError
from models.common.hashing import sha256_bytes
from runtimes.bundle import Bundle

RATE, HOP = 16000, 64
HEAD = "import torch\nfrom torch import nn\n\n\ndef build():\n    torch.manual_seed(0)\n    return Net()\n\n\n"
# A mask on a learned basis with one frame of memory, and what its hidden values say of speech.
MASK = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(128, 24, bias=False), nn.Linear(24, 128, bias=False)
        self.mask, self.vad = nn.Linear(24, 48), nn.Linear(24, 1)

    def forward(self, audio, past, tail):
        frame = torch.cat([past, audio], 1)
        x = self.encoder(frame)
        voice = self.decoder(x * torch.sigmoid(self.mask(x)[:, :24]))
        noise = self.decoder(x * torch.sigmoid(self.mask(x)[:, 24:]))
        new = torch.cat([voice, noise])
        out = new[:, :64] + tail
        RETURN
"""
SCORES = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(CHANNELS, 12, 64, 32), nn.Linear(24, 3)

    def forward(self, audio):
        x = torch.relu(self.conv(audio.reshape(1, CHANNELS, -1)))
        pooled = torch.cat([x.mean(-1), x.amax(-1)], 1)
        RETURN
"""
STEREO = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv1d(2, 16, 128, 64, bias=False)
        self.decoder = nn.ConvTranspose1d(16, 2, 128, 64, bias=False)

    def forward(self, audio):
        x = self.encoder(nn.functional.pad(audio, (64, 0)))
        return self.decoder(x * torch.sigmoid(x))[:, :, : audio.shape[2]]
"""
STATES = [{"name": "past", "shape": [1, 64]}, {"name": "tail", "shape": [2, 64]}]
STEP = {"sample_rate_hz": RATE, "window_samples": 128, "hop_samples": HOP, "delay_samples": 64}
WINDOW = {"sample_rate_hz": RATE, "window_samples": 4000, "hop_samples": 4000}
LABELS = {"names": ["a", "b", "c"]}
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "vad": (
        MASK.replace("RETURN", "return out[:1], torch.sigmoid(self.vad(x)), frame[:, 64:], new[:, 64:]"),
        {"task": "enhancer", "geometry": STEP, "states": STATES, "net": {"outputs": ["enhanced", "vad"]}},
    ),
    "sources": (
        MASK.replace("RETURN", "return out[None], frame[:, 64:], new[:, 64:]"),
        {"task": "separator", "geometry": STEP, "states": STATES, "net": {"outputs": ["voice", "noise"]}},
    ),
    "named": (
        SCORES.replace("RETURN", "return {'clipwise_output': torch.sigmoid(self.head(pooled)), 'embedding': pooled}"),
        {"geometry": WINDOW, "labels": LABELS},
    ),
    "embedder": (SCORES.replace("RETURN", "return pooled"), {"task": "embedder", "geometry": WINDOW}),
    "both": (
        SCORES.replace("RETURN", "return torch.sigmoid(self.head(pooled))").replace("CHANNELS", "2"),
        {"geometry": {**WINDOW, "channels": 2}, "labels": LABELS},
    ),
    "stereo": (
        STEREO,
        {"task": "enhancer", "geometry": {**STEP, "channels": 2}, "net": {"form": "causal", "max_hops": 1}},
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Each net's bundle. Never write into these."""
    folder = tmp_path_factory.mktemp("shapes")
    bundles = {}
    for name, (code, tables) in NETS.items():
        tables = {"name": name, **tables}
        if "states" in tables:
            tables["net"] = {"form": "step", **tables["net"]}
        formats = ("litert", "coreml") if name in ("vad", "stereo", "named") else ("litert",)
        precisions = ("fp32", "fp16") if name in ("vad", "embedder") else ("fp32",)
        text = f"GEOMETRY = {tables!r}\n\n\n{code.replace('CHANNELS', '1')}"
        (folder / f"{name}.py").write_text(HEAD + text)
        result = hearpack.export(f"{folder / name}.py:build", folder, formats=formats, precisions=precisions)
        assert not result.refused
        bundles[name] = Bundle.open(result.path)
    return bundles


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of noise in stereo at another rate."""
    file = tmp_path_factory.mktemp("clip") / "clip.wav"
    samples = 0.1 * np.random.default_rng(0).standard_normal((22050, 2))
    soundfile.write(file, samples.astype(np.float32), 22050, subtype="FLOAT")
    return file


@pytest.mark.parametrize("name", NETS)
def test_every_artefact_agrees_with_the_net(made: dict[str, Bundle], name: str) -> None:
    report = hearpack.verify(made[name].path, seconds=2)
    assert report.reference == "torch original", report.material
    for artefact in report.artefacts:
        assert artefact.passed, f"{artefact.artefact} on {artefact.engine}: {artefact.checks}"


def test_extra_outputs_are_in_the_manifest_behind_the_tasks_own_and_are_judged(made: dict[str, Bundle]) -> None:
    manifest = made["vad"].manifest
    assert [(t.name, t.shape) for t in manifest.outputs] == [("enhanced", (1, 64)), ("vad", (1, 1))]
    assert [t.name for t in manifest.extra_outputs] == ["vad"]
    golden = read_golden(made["vad"])[0]
    calls = -(-len(golden.output) // HOP)
    assert golden.extras["vad"].shape == (calls, 1, 1)
    assert golden.extras["vad"].std() > 1e-3
    report = hearpack.verify(made["vad"].path, seconds=2)
    for artefact in report.artefacts:
        found = {check.metric: check for check in artefact.checks}
        assert found["vad snr_db"].limit == (80.0 if artefact.artefact.endswith("fp32") else 40.0)
        assert found["vad nan_count"].value == 0.0


def test_a_wrong_extra_output_fails_as_a_wrong_own_one_does(
    made: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtimes.litert import LiteRTRuntime

    step = LiteRTRuntime.step

    def spoilt(self: Any, block: Any, state: Any) -> Any:
        outputs, state = step(self, block, state)
        return {**outputs, "vad": outputs["vad"] * 1.001}, state

    monkeypatch.setattr(LiteRTRuntime, "step", spoilt)
    report = hearpack.verify(made["vad"].path, artefacts=["litert-fp32"], seconds=2)
    assert not report.passed
    assert [c.metric for c in report.artefacts[0].checks if not c.passed] == ["vad snr_db"]


def test_a_dicts_other_values_come_by_their_keys(made: dict[str, Bundle]) -> None:
    outputs = made["named"].manifest.outputs
    assert [(t.name, t.shape) for t in outputs] == [("scores", (1, 3)), ("embedding", (1, 24))]


def test_embeddings_are_of_unit_length_and_run_writes_them(made: dict[str, Bundle], clip: Path, tmp_path: Path) -> None:
    result = hearpack.run(made["embedder"], clip, output=tmp_path / "e.npz")
    assert result.output == str(tmp_path / "e.npz")
    arrays = np.load(tmp_path / "e.npz")
    assert arrays["embedding"].shape == (5, 24)  # a second at 16 kHz and what the resampler holds back
    assert arrays["end_sample"].tolist() == [4000, 8000, 12000, 16000, 20000]
    assert np.allclose(np.linalg.norm(arrays["embedding"][:4], axis=1), 1.0, atol=1e-6)
    with pytest.raises(UsageError, match=r"--output: arrays go into a .npz, got 'e.wav'"):
        hearpack.run(made["embedder"], clip, output=tmp_path / "e.wav")
    with pytest.raises(UsageError, match="embedder is an embedder, which simulate does not take"):
        hearpack.simulate(made["embedder"], clip)


def test_sources_go_into_a_file_each_and_add_up(made: dict[str, Bundle], clip: Path, tmp_path: Path) -> None:
    bundle = made["sources"]
    assert bundle.manifest.sources == ("voice", "noise")
    assert bundle.manifest.extra_outputs == ()
    golden = read_golden(bundle)[0]
    assert golden.samples.shape[0] == 1
    assert golden.output.shape[:2] == (2, 1)
    result = hearpack.run(bundle, clip, output=tmp_path / "x.wav")
    assert [Path(f).name for f in result.outputs] == ["x.voice.wav", "x.noise.wav"]
    voice, noise = (soundfile.read(f)[0] for f in result.outputs)
    assert voice.shape == noise.shape == (22050,)
    assert np.abs(voice - noise).max() > 1e-3


def test_two_channels_go_through_a_net_together(made: dict[str, Bundle], clip: Path, tmp_path: Path) -> None:
    bundle = made["stereo"]
    assert bundle.manifest.inputs[0].shape == bundle.manifest.outputs[0].shape == (1, 2, 64)
    assert read_golden(bundle)[0].output.shape[0] == 2
    result = hearpack.run(bundle, clip, output=tmp_path / "x.wav")
    both, rate = soundfile.read(result.output)
    assert (both.shape, rate) == ((22050, 2), 22050)
    # The left channel of what comes out depends on the right one of what goes in.
    samples, _ = soundfile.read(clip)
    samples[:, 1] = 0.0
    soundfile.write(tmp_path / "left.wav", samples, 22050, subtype="FLOAT")
    left, _ = soundfile.read(hearpack.run(bundle, tmp_path / "left.wav", output=tmp_path / "y.wav").output)
    assert np.abs(left[:, 0] - both[:, 0]).max() > 1e-3
    heard = hearpack.run(made["both"], clip)
    assert heard.calls == 5


def test_what_feeds_one_channel_refuses_more_in_a_line(made: dict[str, Bundle], clip: Path, tmp_path: Path) -> None:
    line = "takes 2 channels, and simulate feeds one channel; hearpack run, verify, coldstart and calibrate do more"
    for name in ("stereo", "both"):
        with pytest.raises(UsageError, match=line):
            hearpack.simulate(made[name], clip)
    with pytest.raises(UsageError, match="takes 2 channels, and install feeds one channel"):
        hearpack.install(made["stereo"], android=Path(__file__).resolve().parents[2] / "android-sample")


@pytest.mark.parametrize("name", ["sources", "stereo", "embedder"])
def test_calls_of_more_shapes_are_timed(made: dict[str, Bundle], name: str) -> None:
    calibration, _ = hearpack.calibrate(made[name], seconds=0.1)
    assert calibration.entries[0].paced_count > 0


def test_extra_outputs_of_a_run_are_arrays(made: dict[str, Bundle], clip: Path, tmp_path: Path) -> None:
    result = hearpack.run(made["vad"], clip, output=tmp_path / "x.wav", extras=tmp_path / "x.npz")
    arrays = np.load(tmp_path / "x.npz")
    assert sorted(arrays) == ["vad.1", "vad.2"]  # a mono net hears the channels one by one
    assert arrays["vad.1"].shape == (result.calls // 2, 1, 1)
    with pytest.raises(UsageError, match="--extras: sources has no output beside voice, noise"):
        hearpack.run(made["sources"], clip, output=tmp_path / "y.wav", extras=tmp_path / "y.npz")
    with pytest.raises(UsageError, match=r"--extras: arrays go into a \.npz"):
        hearpack.run(made["vad"], clip, output=tmp_path / "y.wav", extras=tmp_path / "y.csv")


AEC = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.near, self.loud, self.out = nn.Linear(128, 24), nn.Linear(128, 24), nn.Linear(24, 64)

    def forward(self, mic, past, far, far_past, speaker):
        frame, other = torch.cat([past, mic], 1), torch.cat([far_past, far], 1)
        mask = torch.sigmoid(self.loud(other)) * speaker
        return self.out(self.near(frame) * mask), frame[:, 64:], other[:, 64:]
"""


@pytest.fixture(scope="module")
def canceller(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An echo canceller that takes a far end, and a speaker's vector as a constant. Never write into it."""
    folder = tmp_path_factory.mktemp("aec")
    np.save(folder / "speaker.npy", np.linspace(0.5, 1.5, 24, dtype=np.float32)[None])
    (folder / "net.py").write_text(HEAD + AEC)
    states = "".join(f"[[states]]\nname = '{name}'\nshape = [1, 64]\n" for name in ("past", "far_past"))
    (folder / "geometry.toml").write_text(
        f"name = 'aec'\ntask = 'enhancer'\n[geometry]\nsample_rate_hz = {RATE}\nwindow_samples = 128\n"
        "hop_samples = 64\ndelay_samples = 64\n[net]\nform = 'step'\n[[inputs]]\nname = 'speaker'\n"
        "file = 'speaker.npy'\n"
        f"[[inputs]]\nname = 'far'\nkind = 'audio'\n{states}"
    )
    result = hearpack.export(f"{folder / 'net.py'}:build", folder, precisions=("fp32",))
    assert not result.refused
    return Bundle.open(result.path)


def test_a_far_end_goes_in_beside_the_microphone(canceller: Bundle) -> None:
    manifest = canceller.manifest
    assert [(t.name, t.shape) for t in manifest.inputs] == [("audio", (1, 64)), ("far", (1, 64))]
    assert read_golden(canceller)[0].samples.shape[0] == 2
    report = hearpack.verify(canceller, seconds=2)
    assert report.reference == "torch original", report.material
    assert report.material == "speech in the street at 5 dB, and an echo of far"
    assert report.passed, report.artefacts
    assert {a.engine for a in report.artefacts} >= {"litert-compiled", "litert-interpreter", "mil-fp32"}


def test_a_constant_is_in_the_graph_and_its_hash_in_the_manifest(canceller: Bundle) -> None:
    (constant,) = canceller.manifest.original.constants or ()
    assert (constant.name, constant.shape) == ("speaker", (1, 24))
    folder = canceller.path.parent
    speaker = np.load(folder / "speaker.npy")
    assert constant.sha256 == sha256_bytes(speaker.tobytes())
    other = folder / "other"
    other.mkdir()
    for name in ("net.py", "geometry.toml"):
        (other / name).write_text((folder / name).read_text())
    np.save(other / "speaker.npy", speaker[:, ::-1])
    one, two = (open_custom(f"{f / 'net.py'}:build") for f in (folder, other))
    assert one.source_sha256 != two.source_sha256
    assert export_key(ExportSpec(one), "0") != export_key(ExportSpec(two), "0")


def test_run_takes_a_file_for_the_far_end(canceller: Bundle, clip: Path, tmp_path: Path) -> None:
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, np.zeros(1000, np.float32), 22050, subtype="FLOAT")  # ends early: silence goes on
    loud = hearpack.run(canceller, clip, output=tmp_path / "a.wav", far=[clip])
    without = hearpack.run(canceller, clip, output=tmp_path / "b.wav", far=[quiet])
    one, two = (soundfile.read(result.output)[0] for result in (loud, without))
    assert one.shape == two.shape == (22050,)
    assert np.abs(one - two).max() > 1e-3
    with pytest.raises(UsageError, match="--far: aec needs a file for each of: far; got 0"):
        hearpack.run(canceller, clip, output=tmp_path / "c.wav")
    soundfile.write(quiet, np.zeros(1000, np.float32), 16000, subtype="FLOAT")
    with pytest.raises(UsageError, match=r"--far: .* is at 16000 Hz, .* at 22050; bring both to one rate"):
        hearpack.run(canceller, clip, output=tmp_path / "c.wav", far=[quiet])
    with pytest.raises(UsageError, match="aec takes the input far, and simulate feeds one channel"):
        hearpack.simulate(canceller, clip)
    assert hearpack.calibrate(canceller, seconds=0.1)[0].entries[0].paced_count > 0
