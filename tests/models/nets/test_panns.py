"""models.panns: our folded nets against the plain ones, checkpoints in the authors' layout, and an export whole.

No weights are at hand. The checkpoints are random, but the nets are alive: their batch statistics are those of
real audio going through them, as training would leave them, so that scores move with the input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="nets need the extra export")
pytest.importorskip("librosa", reason="the plain nets take librosa's mel matrix")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from models import pretrained  # noqa: E402
from models.common.errors import UsageError, WeightsError  # noqa: E402
from models.common.hashing import sha256_file  # noqa: E402
from models.layers.mel import hann, windowed_dft  # noqa: E402
from models.nets.panns import net as panns  # noqa: E402
from models.nets.panns.entry import PANNS_MOBILENET  # noqa: E402
from models.nets.panns.weights import (  # noqa: E402
    CNN14_CHANNELS,
    DFT_NAMES,
    DFT_POINTS,
    MEL_NAME,
    Kind,
    check,
    expected_shapes,
)
from models.weights.assets import pull_asset  # noqa: E402
from models.weights.checkpoint import load_file  # noqa: E402
from models.weights.tensors import MOBILENET_BLOCKS, MOBILENET_STEM  # noqa: E402
from streaming.core.resample import resample  # noqa: E402
from streaming.files.wav import read_wav  # noqa: E402

WIDTHS: dict[Kind, int] = {"cnn14": 8, "mobilenetv1": 1}
KINDS = pytest.mark.parametrize("kind", WIDTHS)


class Plain(nn.Module):
    """The net as the paper has it: STFT with reflected edges, dB, batch norms and poolings where they are."""

    def __init__(self, kind: Kind, width: int, seed: int) -> None:
        super().__init__()
        import librosa

        torch.manual_seed(seed)
        self.kind = kind
        mel = librosa.filters.mel(sr=32000, n_fft=1024, n_mels=64, fmin=50, fmax=14000).T
        self.mel: Tensor
        self.register_buffer("mel", torch.tensor(mel, dtype=torch.float32))
        self.bn0 = nn.BatchNorm2d(64)
        if kind == "cnn14":
            inputs = 1
            for number, full in enumerate(CNN14_CHANNELS, 1):
                block, outputs = nn.Module(), full // width
                block.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
                block.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
                block.bn1, block.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
                self.add_module(f"conv_block{number}", block)
                inputs = outputs
        else:
            inputs = MOBILENET_STEM // width
            stem = [nn.Conv2d(1, inputs, 3, 1, 1, bias=False), nn.AvgPool2d(2), nn.BatchNorm2d(inputs), nn.ReLU()]
            layers = [nn.Sequential(*stem)]
            for full, stride in MOBILENET_BLOCKS:
                outputs = full // width
                depthwise = nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False)
                layers.append(
                    nn.Sequential(
                        depthwise,
                        nn.AvgPool2d(stride),
                        nn.BatchNorm2d(inputs),
                        nn.ReLU(),
                        nn.Conv2d(inputs, outputs, 1, bias=False),
                        nn.BatchNorm2d(outputs),
                        nn.ReLU(),
                    )
                )
                inputs = outputs
            self.features = nn.Sequential(*layers)
        self.fc1, self.fc_audioset = nn.Linear(inputs, inputs), nn.Linear(inputs, 527)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.7, 1.3)
                nn.init.normal_(module.bias, 0.1, 0.2)

    def log_mel(self, audio: Tensor) -> Tensor:
        """[batch, n] to dB [batch, 1, n / 320 + 1, 64]."""
        window = torch.hann_window(1024, dtype=audio.dtype)
        spectrum = torch.stft(audio, 1024, 320, window=window, pad_mode="reflect", return_complex=True)
        power = spectrum.abs().square().transpose(1, 2) @ self.mel.to(audio.dtype)
        return 10.0 * torch.log10(power.clamp_min(1e-10)).unsqueeze(1)

    def forward(self, audio: Tensor) -> Tensor:
        x = self.bn0(self.log_mel(audio).transpose(1, 3)).transpose(1, 3)
        if self.kind == "cnn14":
            for number in range(1, 7):
                block: Any = getattr(self, f"conv_block{number}")
                x = functional.relu(block.bn1(block.conv1(x)))
                x = functional.relu(block.bn2(block.conv2(x)))
                x = functional.avg_pool2d(x, 2) if number < 6 else x
        else:
            x = self.features(x)
        x = x.mean(dim=3)
        x = x.max(dim=2).values + x.mean(dim=2)
        return torch.sigmoid(self.fc_audioset(functional.relu(self.fc1(x))))

    def settle(self, audio: Tensor) -> Plain:
        """Batch statistics of [batch, n] of real audio; then in eval mode."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            self.train()(audio)
            # Labels rare and common, as a trained net has them, so that "the top five" means something.
            self.fc_audioset.weight.mul_(0.5)
            self.fc_audioset.bias.copy_(torch.linspace(-8.0, 2.0, 527)[torch.randperm(527)])
        return self.eval()

    def checkpoint(self) -> dict[str, Any]:
        """As the authors' training saves it: the weights under "model", and the state of its sampler."""
        samples = np.arange(1024)
        window = 0.5 - 0.5 * np.cos(2.0 * np.pi * samples / 1024)
        turns = np.exp(-2j * np.pi * (np.outer(np.arange(513), samples) % 1024) / 1024) * window
        front = {DFT_NAMES[0]: turns.real[:, None], DFT_NAMES[1]: turns.imag[:, None]}
        state = {k: v for k, v in self.state_dict().items() if k != "mel"}
        state |= {k: torch.tensor(v, dtype=torch.float32) for k, v in front.items()}
        state[MEL_NAME] = self.mel
        assert expected_shapes(self.kind, self.width()).keys() <= state.keys()
        sampler = {"indexes": np.arange(7), "pointer": np.int64(3)}
        return {"iteration": 600000, "model": state, "sampler": sampler}

    def width(self) -> int:
        """By what the channels are divided."""
        first: Any = self.conv_block1.conv1 if self.kind == "cnn14" else self.features[0][0]
        return (CNN14_CHANNELS[0] if self.kind == "cnn14" else MOBILENET_STEM) // int(first.out_channels)


def write(path: Path, net: Plain) -> Path:
    """The checkpoint as a file, and its sha256 beside it."""
    from models.common.hashing import sha256_file

    torch.save(net.checkpoint(), path)
    path.with_name(f"{path.name}.sha256").write_text(f"{sha256_file(path)}  {path.name}\n")
    return path


@pytest.fixture(scope="session")
def street() -> NDArray[np.float32]:
    """20 s of the street at 32 kHz; the recording has nothing above 8 kHz."""
    clip = read_wav(pull_asset("street-wav"))
    heard = np.asarray(clip.samples[0][: 20 * clip.sample_rate_hz], np.float32)
    return resample(heard, clip.sample_rate_hz, 32000)


@pytest.fixture(scope="session")
def windows(street: NDArray[np.float32]) -> Tensor:
    """With a little noise: dB of nothing are dB of rounding, which no two implementations share."""
    noise = np.random.default_rng(0).standard_normal((9, 64000)).astype(np.float32)
    return torch.from_numpy(street[: 9 * 64000].reshape(9, 64000) + 1e-3 * noise)


@pytest.fixture(scope="session")
def plain(windows: Tensor, street: NDArray[np.float32]) -> dict[str, Plain]:
    torch.set_num_threads(1)
    heard = torch.cat([windows, torch.from_numpy(street[: 9 * 64000].reshape(9, 64000))])
    return {kind: Plain(kind, width, seed=3).settle(heard) for kind, width in WIDTHS.items()}


@pytest.fixture(scope="session")
def files(plain: dict[str, Plain], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("panns")
    return {kind: write(folder / f"{kind}.pth", net) for kind, net in plain.items()}


def built(kind: str, file: Path) -> panns.PANNs:
    build = panns.build_cnn14 if kind == "cnn14" else panns.build_mobilenetv1
    return build(load_file(file))


def test_our_dft_is_numpys(windows: Tensor) -> None:
    frame = windows[0, 5000:6024].double().numpy()
    real, imaginary = windowed_dft(hann(DFT_POINTS), DFT_POINTS)
    spectrum = np.fft.rfft(frame * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)))
    np.testing.assert_allclose(frame @ real, spectrum.real, atol=1e-12)
    np.testing.assert_allclose(frame @ imaginary, spectrum.imag, atol=1e-12)


def test_folded_frames_are_those_of_a_centred_stft(files: dict[str, Path], windows: Tensor) -> None:
    frames = built("mobilenetv1", files["mobilenetv1"]).window.front_end.frames(windows[:2])
    reflected = functional.pad(windows[:2].unsqueeze(1), (512, 512), mode="reflect")[:, 0]
    assert torch.equal(frames, reflected.unfold(1, 1024, 320))


@KINDS
def test_scores_are_the_plain_nets(
    kind: Kind, plain: dict[str, Plain], files: dict[str, Path], windows: Tensor
) -> None:
    net = built(kind, files[kind])
    with torch.no_grad():
        wanted = plain[kind](windows)
        truth = plain[kind].double()(windows.double())
        plain[kind].float()
    (scores,) = net.window(windows)
    assert float(wanted.std(dim=0).max()) > 0.01  # it listens
    np.testing.assert_allclose(scores.numpy(), truth.numpy(), atol=2e-5)


def test_no_axis_is_as_wide_as_a_waveform(files: dict[str, Path]) -> None:
    net, widest = built("mobilenetv1", files["mobilenetv1"]), 0

    def look(_module: Any, _inputs: Any, output: Any) -> None:
        nonlocal widest
        if isinstance(output, Tensor):
            widest = max(widest, *output.shape)

    for module in net.window.modules():
        module.register_forward_hook(look)
    net.window(torch.zeros(1, 64000))
    assert 500 < widest <= 2048


@KINDS
def test_published_shapes(kind: Kind) -> None:
    shapes = expected_shapes(kind)
    trained = sum(int(np.prod(s)) for n, s in shapes.items() if not n.startswith(("spectrogram", "logmel", "bn0")))
    trained -= sum(int(np.prod(s)) for n, s in shapes.items() if "running" in n and not n.startswith("bn0"))
    # The paper's table: 80.75 and 4.80 million.
    assert round(trained / 1e6, 2) == {"cnn14": 80.75, "mobilenetv1": 4.80}[kind]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update({"bn0.running_var": -np.ones(64, np.float32)}), "negative values"),
        (lambda w: w.update({DFT_NAMES[0]: w[DFT_NAMES[0]][:, :, ::-1] * 1.01}), "is the checkpoint one for 32 kHz"),
        (lambda w: w.update({"fc_audioset.weight": w["fc_audioset.weight"][:50]}), r"got \[50, 1024\]"),
    ],
)
def test_other_checkpoints_are_refused(change: Any, message: str, files: dict[str, Path]) -> None:
    arrays = load_file(files["mobilenetv1"])
    assert check("mobilenetv1", arrays)
    change(arrays)
    with pytest.raises(WeightsError, match=message):
        check("mobilenetv1", arrays)


def test_a_checkpoint_needs_its_sha256_beside_it(files: dict[str, Path], tmp_path: Path) -> None:
    from hearpack import export

    with pytest.raises(UsageError, match=r"no package holds its weights.*zenodo record 3987831.*--weights"):
        export("panns-mobilenetv1", tmp_path)
    copy = tmp_path / "net.pth"
    copy.write_bytes(files["mobilenetv1"].read_bytes())
    with pytest.raises(WeightsError, match=rf"its sha256 is {sha256_file(copy)}, but net.pth.sha256 .* is missing"):
        export("panns-mobilenetv1", tmp_path, weights=copy)
    (tmp_path / "net.pth.sha256").write_text("0" * 64)
    with pytest.raises(WeightsError, match="says 000000000000"):
        export("panns-mobilenetv1", tmp_path, weights=copy)


def test_labels_are_audiosets() -> None:
    labels = pretrained.labels(PANNS_MOBILENET.name)
    assert (len(labels), len(set(labels))) == (527, 527)
    assert labels[:2] == ("Speech", "Male speech, man speaking")
    # YAMNet's authors left six out, and kept the order of the others.
    kept = [label for label in labels if label in set(pretrained.labels("yamnet"))]
    assert kept == list(pretrained.labels("yamnet"))


def test_export_and_verify(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("litert_torch", reason="converting needs the extra export")
    pytest.importorskip("coremltools")
    from hearpack import export, inspect, verify
    from runtimes.bundle import Bundle

    bundle = Bundle.open(export(PANNS_MOBILENET.name, tmp_path, weights=files["mobilenetv1"]).path)
    report = verify(bundle.path, seconds=8.0, weights=files["mobilenetv1"])
    assert report.passed, report
    assert {a.artefact for a in report.artefacts} == {
        f"{f}-{p}" for f in ("litert", "coreml") for p in ("fp32", "fp16")
    }
    for artefact in ("coreml-fp32", "coreml-fp16"):
        described = inspect(bundle.artefact_path(bundle.artefact(artefact)))
        assert described.lints == (), described.lints
