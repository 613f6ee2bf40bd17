"""Nets of a user's own, from their file to a bundle whose every artefact was compared with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hearpack
from converters.bundle.golden import check_golden, read_golden
from converters.custom import open_custom
from converters.spec import ExportSpec, export_key
from models.common.errors import ConversionError, UsageError, WeightsError
from models.weights.assets import pull_asset
from runtimes.bundle import Bundle

NETS = Path(__file__).resolve().parents[1] / "fixtures" / "custom"
NAMES = ("waveform", "logmel", "mfcc", "step", "causal", "listener")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each net exported to both formats at both precisions from a copy of its folder. Never write into these."""
    folder = tmp_path_factory.mktemp("own")
    bundles = {}
    for name in NAMES:
        shutil.copytree(NETS / name, folder / name)
        bundles[name] = hearpack.export(f"{folder / name / 'net.py'}:build", folder).path
    return bundles


@pytest.fixture(params=NAMES)
def bundle(own: dict[str, Path], request: pytest.FixtureRequest) -> Bundle:
    return Bundle.open(own[request.param])


def test_both_formats_at_both_precisions_verify(bundle: Bundle) -> None:
    report = hearpack.verify(bundle.path, seconds=4)
    assert report.reference == "torch original", report.material
    assert {a.artefact for a in report.artefacts} == {"litert-fp32", "litert-fp16", "coreml-fp32", "coreml-fp16"}
    for artefact in report.artefacts:
        assert artefact.passed, f"{artefact.artefact} on {artefact.engine}: {artefact.checks}"


def test_the_net_reacts_to_real_audio(bundle: Bundle) -> None:
    """Parity of a net that gives the same whatever it hears would prove nothing."""
    for stream in read_golden(bundle):
        values = stream.output
        spread = values.std(0).max() if values.ndim == 2 else values.std()
        assert spread > 5e-3
        assert np.abs(values).max() < 1.5


def test_manifest_and_folder_hold_what_an_app_needs(bundle: Bundle) -> None:
    manifest, text = bundle.manifest, (bundle.path / "manifest.json").read_text()
    assert manifest.original.factory == "net.py:build"
    assert manifest.original.source_sha256 is not None
    assert str(bundle.path.parent) not in text
    if manifest.task == "classifier":
        assert len(bundle.labels()) == manifest.outputs[0].shape[-1]
        assert manifest.decisions is not None
    assert bool(manifest.states) == (manifest.buffer.kind == "step")
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert "Assumed, because it was not said" in card
    assert (bundle.path / "LICENSES" / "WEIGHTS.txt").is_file()


def test_what_the_user_said_is_in_the_bundle(own: dict[str, Path]) -> None:
    logmel, waveform, step = (Bundle.open(own[name]).manifest for name in ("logmel", "waveform", "step"))
    assert logmel.decisions is not None
    assert (logmel.decisions.on_threshold, logmel.decisions.off_threshold) == (0.6, 0.4)
    assert waveform.weights[0].licence == "CC0-1.0"
    assert "CC0-1.0" in (own["waveform"] / "LICENSES" / "WEIGHTS.txt").read_text()
    assert [(s.in_name, s.shape) for s in step.states] == [("past", (1, 64)), ("hidden", (1, 24)), ("tail", (1, 64))]
    assert step.geometry.delay_samples == 64


def test_states_that_hearpack_found_are_named_after_their_layers(own: dict[str, Path]) -> None:
    causal, listener = (Bundle.open(own[name]).manifest for name in ("causal", "listener"))
    assert [s.in_name for s in causal.states] == [
        "pad_past",
        "cumsum_sum",
        "div_count",
        "blocks_0_conv_past",
        "blocks_1_conv_past",
        "blocks_2_conv_past",
        "pad_1_past",
        "lstm_h",
        "lstm_c",
        "decoder_tail",
    ]
    assert [s.in_name for s in listener.states] == [
        "pad_past",
        "pad_1_past",
        "cumsum_sum",
        "div_count",
        "cumsum_1_sum",
        "over_h",
    ]
    card = (own["causal"] / "MODEL_CARD.md").read_text()
    assert "kept_conv1d" in card  # the encoder, which geometry.toml names
    assert "lstm.layers.1.cell" in card


def test_several_hops_a_call_are_another_bundle_of_the_same_net(tmp_path: Path) -> None:
    shutil.copytree(NETS / "causal", tmp_path / "net")
    target = str(tmp_path / "net" / "net.py")
    path = hearpack.export(target, tmp_path, hops_per_call=4, formats=("litert",), precisions=("fp32",)).path
    assert path.name == "own-causal-256.hearpack"
    bundle = Bundle.open(path)
    assert (bundle.manifest.buffer.hops_per_call, bundle.manifest.buffer.samples) == (4, 256)
    results = list(check_golden(bundle))
    assert {r.engine for r in results} == {"litert-interpreter", "litert-compiled"}
    assert all(check.passed for r in results for check in r.checks)


def test_a_users_own_package_called_models_exports(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    (tmp_path / "models" / "catalog.py").write_text(
        f"{HEADER}from hearpack import CumulativeNorm\n"
        "class Body(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(1600, 2)\n"
        "        self.norm = CumulativeNorm\n"
        "    def forward(self, audio):\n"
        "        return torch.sigmoid(self.linear(audio))\n"
    )
    (tmp_path / "net.py").write_text("from models.catalog import Body\ndef build(): return Body()\n")
    path = hearpack.export(str(tmp_path / "net.py"), tmp_path, geometry=GEOMETRY, precisions=("fp32",)).path
    assert {a.id for a in Bundle.open(path).manifest.artefacts} == {"litert-fp32", "coreml-fp32"}


def test_a_whole_number_among_the_parameters_is_no_weight(tmp_path: Path) -> None:
    """Keras' Dropout keeps its seed there; half and double weights are refused as before."""
    file, body = (
        tmp_path / "net.py",
        (
            f"{HEADER}class Net(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.linear = nn.Linear(1600, 2)\n"
            "        self.seed = nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)\n"
            "    def forward(self, audio):\n"
            "        return torch.sigmoid(self.linear(audio))\n"
        ),
    )
    file.write_text(f"{body}def build(): return Net()\n")
    assert open_custom(f"{file}:build", GEOMETRY).net.seed.dtype == torch.int64
    file.write_text(f"{body}def build(): return Net().double()\n")
    with pytest.raises(UsageError, match="expected float32 parameters"):
        open_custom(f"{file}:build", GEOMETRY)


def test_run_takes_a_bundle_of_ones_own(own: dict[str, Path], tmp_path: Path) -> None:
    import soundfile

    from converters.bundle.test_audio import street

    soundfile.write(tmp_path / "street.wav", street(16000)[: 3 * 16000], 16000)
    result = hearpack.run(own["step"], tmp_path / "street.wav", output=tmp_path / "out.wav")
    samples, _ = soundfile.read(result.output)
    assert len(samples) == 3 * 16000
    assert samples.std() > 1e-3


def test_an_unchanged_net_comes_from_the_cache_and_a_changed_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = pull_asset("street-wav").parent  # which golden vectors need: the network is asked once, as elsewhere
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / audio.name).symlink_to(audio)
    monkeypatch.setenv("HEARPACK_CACHE", str(tmp_path / "cache"))  # the user's has both nets after a first test run
    shutil.copytree(NETS / "mfcc", tmp_path / "net")
    target = tmp_path / "net" / "net.py"
    only: dict[str, Any] = {"formats": ("litert",), "precisions": ("fp32",)}
    hearpack.export(str(target), tmp_path / "a", **only)
    assert hearpack.export(str(target), tmp_path / "b", **only).cached
    target.write_text(target.read_text().replace("4 * self.second", "5 * self.second"))
    assert not hearpack.export(str(target), tmp_path / "b", **only).cached


def test_an_export_is_known_by_all_that_its_net_was_built_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package on PYTHONPATH, a config, an environment variable: none is a source, each decides what is computed."""

    def key() -> str:
        entry = open_custom(str(tmp_path / "net" / "net.py"), GEOMETRY)
        return export_key(ExportSpec(entry), entry.given_weights(None).sha256)

    for folder in ("net", "elsewhere/own_parts"):
        (tmp_path / folder).mkdir(parents=True)
    parts, config = tmp_path / "elsewhere" / "own_parts" / "__init__.py", tmp_path / "net" / "config.json"
    parts.write_text("def scaled(x): return 0.1 * x\n")
    config.write_text('{"gain": 1.0}')
    (tmp_path / "net" / "net.py").write_text(
        f"{HEADER}import json, os, pathlib\nfrom own_parts import scaled\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        torch.manual_seed(0)\n"
        "        self.linear = nn.Linear(1600, 2)\n"
        "        self.gain = json.loads(pathlib.Path(__file__).with_name('config.json').read_text())['gain']\n"
        "        self.tilt = float(os.environ.get('OWN_TILT', '1'))\n"
        "    def forward(self, audio):\n"
        "        return torch.sigmoid(self.gain * self.tilt * scaled(self.linear(audio)))\n"
        "def build(): return Net()\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    keys = [key(), key()]
    parts.write_text("def scaled(x): return 0.25 * x\n")
    keys.append(key())
    config.write_text('{"gain": 2.0}')
    keys.append(key())
    monkeypatch.setenv("OWN_TILT", "3")
    keys.append(key())
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_a_checkpoint_is_loaded_into_the_net(tmp_path: Path) -> None:
    shutil.copytree(NETS / "mfcc", tmp_path / "net")
    target = str(tmp_path / "net" / "net.py")
    net = open_custom(target).net
    state = {name: value * 0.5 for name, value in net.state_dict().items()}
    torch.save(state, tmp_path / "mine.pt")
    path = hearpack.export(
        target, tmp_path, weights=tmp_path / "mine.pt", formats=("litert",), precisions=("fp32",)
    ).path
    assert hearpack.verify(path, seconds=3).reference == "torch original"
    with pytest.raises(WeightsError, match=r"weights of net.py:build have changed|checkpoint"):
        hearpack.verify(path, seconds=3, original=target)
    (tmp_path / "mine.pt").unlink()
    assert "the checkpoint" in hearpack.verify(path, seconds=3).material
    torch.save({"first.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="is of another net"):
        open_custom(target, weights=tmp_path / "other.pt")


GEOMETRY = {
    "geometry": {"sample_rate_hz": 16000, "window_samples": 1600, "hop_samples": 800},
    "labels": {"names": ["a", "b"]},
}
HEADER = "import torch\nfrom torch import nn\n"


def refused(tmp_path: Path, body: str, geometry: dict[str, Any] | None) -> str:
    """The message with which a net is refused."""
    file = tmp_path / "wrong.py"
    file.write_text(f"{HEADER}{body}")
    with pytest.raises((ConversionError, UsageError)) as caught:
        open_custom(str(file), geometry)
    return str(caught.value)


def test_a_buffer_changed_in_forward_is_refused(tmp_path: Path) -> None:
    body = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('seen', torch.zeros(1))
        self.linear = nn.Linear(1600, 2)
    def forward(self, audio):
        self.seen += audio.abs().mean()
        return torch.sigmoid(self.linear(audio) + self.seen)
def build(): return Net()
"""
    assert "forward changes 'net.seen'" in refused(tmp_path, body, GEOMETRY)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("x[0, 0]", r"forward returned [], expected scores [1, 2]"),
        ("x.unsqueeze(2).expand(1, 2, 7)", r"forward returned [1, 2, 7], expected scores [1, 2]"),
        ("x[:, :1]", r"forward returned [1, 1], expected scores [1, 2]"),
        ("(x, x)", r"forward returned 2 results ([1, 2], [1, 2]), expected one tensor; name them in this order"),
    ],
)
def test_a_wrong_rank_is_refused(tmp_path: Path, returned: str, message: str) -> None:
    body = f"""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1600, 2)
    def forward(self, audio):
        x = torch.sigmoid(self.linear(audio))
        return {returned}
def build(): return Net()
"""
    assert message in refused(tmp_path, body, GEOMETRY)


def test_scores_without_a_batch_axis_are_taken(tmp_path: Path) -> None:
    body = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(1600, 2)
    def forward(self, audio):
        return torch.sigmoid(self.linear(audio)).squeeze()
def build(): return Net()
"""
    file = tmp_path / "squeezed.py"
    file.write_text(f"{HEADER}{body}")
    entry = open_custom(str(file), GEOMETRY)
    assert entry.load_graph(entry.net, 1)(torch.zeros(1, 1600))[0].shape == (1, 2)


def test_logits_where_scores_are_due_are_refused(tmp_path: Path) -> None:
    body = "def build():\n    torch.manual_seed(0)\n    return nn.Linear(1600, 2, bias=False)\n"
    message = refused(tmp_path, body, GEOMETRY)
    assert "scores must lie in 0 to 1" in message
    assert "net.activation" in message


def test_a_net_that_ignores_its_input_is_refused(tmp_path: Path) -> None:
    body = """
def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1600, 2), nn.Sigmoid())
    nn.init.zeros_(net[0].weight)
    return net
"""
    message = refused(tmp_path, body, GEOMETRY)
    assert "'scores' hardly depends on 'audio'" in message
    assert "--allow-insensitive" in message
    result = hearpack.export(
        str(tmp_path / "wrong.py"),
        tmp_path,
        geometry=GEOMETRY,
        allow_insensitive=True,
        formats=("litert",),
        precisions=("fp32",),
    )
    manifest = Bundle.open(result.path).manifest
    assert manifest.original.insensitive is True
    assert "--allow-insensitive: output 'scores' hardly depends" in (result.path / "MODEL_CARD.md").read_text()
    toml = tmp_path / "geometry.toml"
    toml.write_text(
        "[geometry]\nsample_rate_hz = 16000\nwindow_samples = 1600\nhop_samples = 800\n[labels]\nnames = ['a', 'b']\n"
    )
    report = hearpack.verify(result.path, seconds=2, geometry=toml, original=str(tmp_path / "wrong.py"))
    assert report.reference == "torch original"
    assert any("hardly reacts to its input" in warning for warning in report.warnings)


def test_a_net_that_reacts_is_not_marked(own: dict[str, Path]) -> None:
    assert "insensitive" not in (own["waveform"] / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "padding=self.surplus, dilation",
            "padding=dilation, dilation",
            r"'blocks.0.conv' (Conv1d): kernel 3, padding 1 on both sides: its output looks 1 frames ahead",
        ),
        (
            "num_layers=2, batch_first",
            "bidirectional=True, batch_first",
            r"'lstm' (LSTM): a bidirectional LSTM over time",
        ),
    ],
)
def test_a_net_that_looks_ahead_is_refused_by_layer(tmp_path: Path, old: str, new: str, message: str) -> None:
    shutil.copytree(NETS / "causal", tmp_path / "net")
    file = tmp_path / "net" / "net.py"
    text = file.read_text().replace(old, new)
    if "dilation" in new:  # as long as its input, so that nothing is cut off
        text = text.replace("[..., : -self.surplus]", "")
    file.write_text(text.replace("Linear(24,", "Linear(48,") if "bidirectional" in new else text)
    with pytest.raises(ConversionError) as caught:
        open_custom(str(file))
    assert message in str(caught.value)


def test_a_step_that_differs_from_its_offline_form_is_refused(tmp_path: Path) -> None:
    shutil.copytree(NETS / "step", tmp_path / "net")
    file = tmp_path / "net" / "net.py"
    file.write_text(file.read_text().replace("y[:, :HOP] + tail,", "y[:, :HOP],"))
    with pytest.raises(ConversionError, match=r"the steps and offline\(\) agree by .* dB only"):
        open_custom(str(file))


def test_no_geometry_is_a_clear_refusal(tmp_path: Path) -> None:
    assert "its geometry is not known; give --geometry" in refused(
        tmp_path, "def build(): return nn.Identity()\n", None
    )


def test_what_a_factory_returns_must_be_a_net(tmp_path: Path) -> None:
    assert "expected a torch.nn.Module, it returned dict" in refused(tmp_path, "def build(): return {}\n", GEOMETRY)


def test_geometry_may_stand_in_the_code(tmp_path: Path) -> None:
    file = tmp_path / "coded.py"
    file.write_text(
        f"{HEADER}from hearpack import StreamGeometry\n"
        "GEOMETRY = StreamGeometry(16000, 1, 1600, 800, 0)\n"
        "HEARPACK = {'name': 'coded', 'labels': {'names': ['a', 'b']}}\n"
        "def build():\n    torch.manual_seed(0)\n    return nn.Sequential(nn.Linear(1600, 2), nn.Sigmoid())\n"
    )
    entry = open_custom(str(file))
    assert (entry.name, entry.geometry.hop_samples) == ("coded", 800)
