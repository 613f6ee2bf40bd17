"""`hearpack predict`: a package and a .npz in, a .npz out; anything wrong is one line and exit code 2."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

from converters.coreml.convert import quiet_coremltools  # noqa: E402
from hearpack.cli import main  # noqa: E402


class Net(torch.nn.Module):
    """Keeps a running sum in a Core ML state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4))

    def forward(self, x: Any) -> Any:
        self.total.add_(x)
        return torch.tanh(self.total)


class Picture(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.softmax(x.mean((2, 3)), 1)


@pytest.fixture(scope="session")
def stateful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("predict") / "sum.mlpackage"
    with quiet_coremltools() as ct:
        ct.convert(
            torch.jit.trace(Net().eval(), torch.zeros(1, 4)),
            inputs=[ct.TensorType("x", (1, 4))],
            outputs=[ct.TensorType("y")],
            states=[ct.StateType(ct.TensorType(shape=(1, 4), dtype=np.float16), name="total")],
            minimum_deployment_target=ct.target.iOS18,
        ).save(str(path))
    return path


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("predict") / "colour.mlpackage"
    with quiet_coremltools() as ct:
        ct.convert(
            torch.jit.trace(Picture().eval(), torch.zeros(1, 3, 4, 5)),
            inputs=[ct.ImageType("x", (1, 3, 4, 5))],
            classifier_config=ct.ClassifierConfig(["red", "green", "blue"]),
            minimum_deployment_target=ct.target.iOS16,
        ).save(str(path))
    return path


def hearpack(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of the command line, run in this process."""
    monkeypatch.setattr(sys, "argv", ["hearpack", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


X = np.array([[0.1, -0.7, 2.0, 0.0]], np.float32)


def test_writes_what_the_package_computes(
    stateful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, output = npz(tmp_path / "in.npz", x=X), tmp_path / "out.npz"
    results = {}
    for mode in ("fp32", "fp16", "fp32"):  # a second time: each run starts from the zero state
        assert hearpack(monkeypatch, "predict", stateful, inputs, "-o", output, "--mode", mode) == 0
        with np.load(output) as file:
            assert file.files == ["y"]
            results.setdefault(mode, file["y"])
            np.testing.assert_array_equal(results[mode], file["y"])
    assert "y: float32 [1, 4]" in capsys.readouterr().out
    np.testing.assert_allclose(results["fp32"], np.tanh(X), atol=1e-6)
    np.testing.assert_allclose(results["fp16"], np.tanh(X), atol=1e-3)
    assert (results["fp16"] != results["fp32"]).any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npz", "out.npz"]


def test_classes_pictures_and_json(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[..., 1] = 3
    inputs, output = npz(tmp_path / "in.npz", x=pixels), tmp_path / "out.npz"
    assert hearpack(monkeypatch, "predict", classifier, inputs, "-o", output, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["output"] == str(output)
    assert report["mode"] == "fp32"
    with np.load(output) as file:
        assert set(file.files) == set(report["outputs"])
        assert str(file["classLabel"]) == "green"
        (labels,) = (n for n in file.files if n.endswith(".labels"))
        assert file[labels].tolist() == ["red", "green", "blue"]
        np.testing.assert_allclose(file[labels.removesuffix(".labels")].sum(), 1.0, atol=1e-3)


def test_bad_input_is_one_line(
    stateful: Path,
    classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good, output = npz(tmp_path / "good.npz", x=X), tmp_path / "out.npz"
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:100])
    np.save(tmp_path / "one.npy", X)
    broken = Path(shutil.copytree(classifier, tmp_path / "broken.mlpackage"))
    next(broken.rglob("*.mlmodel")).write_bytes(b"\xff" * 64)
    cases: list[tuple[list[object], str]] = [
        ([stateful, npz(tmp_path / "a.npz", y=X)], "no input 'y'; the model's inputs are: x"),
        ([stateful, npz(tmp_path / "b.npz")], "input 'x' is missing"),
        ([stateful, npz(tmp_path / "c.npz", x=X[:, :3])], "expected shape [1, 4], got [1, 3]"),
        ([stateful, npz(tmp_path / "d.npz", x=X * np.nan)], "holds NaN"),
        ([stateful, npz(tmp_path / "e.npz", x=np.array([["a"]]))], "expected numbers"),
        ([stateful, npz(tmp_path / "f.npz", x=np.array([{}], object))], "expected a .npz"),
        ([classifier, npz(tmp_path / "g.npz", x=X)], "image"),
        ([stateful, tmp_path / "none.npz"], "none.npz does not exist"),
        ([stateful, tmp_path / "text.npz"], "expected a .npz"),
        ([stateful, tmp_path / "cut.npz"], "expected a .npz"),
        ([stateful, tmp_path / "one.npy"], "without a name"),
        ([tmp_path / "none.mlpackage", good], "none.mlpackage does not exist"),
        ([broken, good], "cannot be parsed"),
        ([stateful, good, "--mode", "int3"], "'fp32' or 'fp16'"),
        ([stateful, good, "--function", "other"], "no function 'other'; it has: main"),
    ]
    before = sorted(p.name for p in tmp_path.iterdir())
    for arguments, message in cases:
        assert hearpack(monkeypatch, "predict", *arguments, "-o", output) == 2, message
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("hearpack: ")
        assert message in lines[0]
    assert hearpack(monkeypatch, "predict", stateful, good, "-o", tmp_path / "no" / "out.npz") == 2
    assert "make it first" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == [*before]
