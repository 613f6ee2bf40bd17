"""converters.guess: a geometry.toml that the net can be exported with, and a reason beside each guess."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from converters.custom import open_custom
from converters.guess import guess_geometry
from models.common.errors import UsageError

HEADER = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
NETS = {
    "classifier of any length": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = nn.Conv1d(1, 4, 400, 160), nn.Linear(4, 3)
    def forward(self, audio):
        return self.out(torch.relu(self.conv(audio)).mean(2))
def build(): return Net()
""",
    "classifier of one length": """
def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(15600, 2), nn.Sigmoid())
""",
    "enhancer": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enc = nn.Conv1d(1, 8, 256, 128)
        self.dec = nn.ConvTranspose1d(8, 1, 256, 128)
    def forward(self, wav):
        n = wav.shape[-1]
        return self.dec(torch.relu(self.enc(F.pad(wav.unsqueeze(1), (128, 0)))))[:, 0, :n]
def build(): return Net()
""",
    "step": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 64)
    def forward(self, audio, hidden):
        return self.linear(audio) + hidden, hidden
def build(): return Net()
""",
    "features": """
def build(): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 62 * 38, 2), nn.Sigmoid())
""",
}


@pytest.fixture
def net(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird" / "net.py").write_text(HEADER + NETS[request.param])
    noise = 0.1 * np.random.default_rng(0).standard_normal(48000)
    soundfile.write(tmp_path / "clip.wav", noise, 16000)
    return str(tmp_path / "bird" / "net.py")


@pytest.mark.parametrize(
    ("net", "lines"),
    [
        (
            "classifier of any length",
            (
                "sample_rate_hz = 16000  # of clip.wav",
                "window_samples = 16000  # any length is taken: a second",
                'layout = "channel_samples"  # that forward takes',
                'activation = "softmax"  # the clip gives',
                'names = ["0", "1", "2"]  # by number',
            ),
        ),
        (
            "classifier of one length",
            ("window_samples = 15600  # the only length that was tried and taken", 'activation = "none"'),
        ),
        (
            "enhancer",
            (
                'task = "enhancer"',
                "window_samples = 256  # strides of ConvTranspose1d",
                "hop_samples = 128  # strides of ConvTranspose1d",
                "delay_samples = 0  # it cannot be measured: say it",
            ),
        ),
    ],
    indirect=["net"],
)
def test_what_is_guessed_opens_the_net(net: str, lines: tuple[str, ...], tmp_path: Path) -> None:
    path = guess_geometry(net, tmp_path / "clip.wav", tmp_path / "out")
    text = path.read_text()
    assert path == tmp_path / "out" / "bird.geometry.toml"
    for line in lines:
        assert line in text, text
    assert open_custom(net, path).name == "bird"
    assert guess_geometry(net, tmp_path / "clip.wav", tmp_path / "out") == path
    path.write_text("# mine\n" + text)
    with pytest.raises(UsageError, match="is there already and says something else; give it with --geometry"):
        guess_geometry(net, tmp_path / "clip.wav", tmp_path / "out")
    assert path.read_text().startswith("# mine")


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("step", r"forward takes audio, hidden: the shapes of states cannot be guessed"),
        ("features", r"forward takes no audio of .*\[front_end\]"),
    ],
    indirect=["net"],
)
def test_what_cannot_be_guessed_is_refused(net: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        guess_geometry(net, tmp_path / "clip.wav", tmp_path)
    assert not list(tmp_path.glob("*.toml"))


@pytest.mark.parametrize("net", ["classifier of one length"], indirect=True)
def test_a_net_with_a_geometry_needs_no_guess(net: str, tmp_path: Path) -> None:
    Path(net).with_name("geometry.toml").write_text("")
    with pytest.raises(UsageError, match="its geometry is known"):
        guess_geometry(net, tmp_path / "clip.wav", tmp_path)
