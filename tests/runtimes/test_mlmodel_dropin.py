"""Code written for coremltools' MLModel, on this one: what it takes, keeps, saves; and coremltools' own, patched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

from converters.coreml.convert import quiet_coremltools  # noqa: E402
from models.common.errors import ArtefactError, UsageError  # noqa: E402
from runtimes.mil import MLModel  # noqa: E402
from runtimes.mil.features import InputTypeError, PredictionError  # noqa: E402
from runtimes.mil.patch import patch_coremltools  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
X = {"x": np.ones((1, 64), np.float32)}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(64, 32)

    def forward(self, x: Any) -> Any:
        return self.layer(x)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dropin") / "net.mlpackage"
    with quiet_coremltools() as ct:
        model = ct.convert(
            torch.jit.trace(Net().eval(), torch.ones(1, 64)),
            inputs=[ct.TensorType("x", (1, 64))],
            outputs=[ct.TensorType("y")],
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS16,
        )
        model.save(str(path))
    return path


def test_arguments_come_in_coremltools_order(package: Path) -> None:
    model = MLModel(str(package), False, None, True, "ALL", None, None, {"reshapeFrequency": 1})
    assert (model.compute_unit, model.optimization_hints) == ("ALL", {"reshapeFrequency": 1})
    with pytest.raises(PredictionError, match="skip_model_load"):
        model.predict(X)
    assert model.load_duration_in_nano_seconds is None
    assert (model.is_package, model.is_temp_package, model.package_path) == (True, False, str(package))
    with pytest.raises(UsageError, match="threads must be at least 1"):
        MLModel(package, threads=0)


def test_a_specification_with_its_weights_folder(package: Path) -> None:
    whole = MLModel(package)
    wanted = whole.predict(X)["y"]
    assert Path(str(whole.weights_dir)).is_dir()
    assert np.array_equal(MLModel(whole.get_spec(), weights_dir=whole.weights_dir).predict(X)["y"], wanted)
    assert np.array_equal(MLModel(whole).predict(X)["y"], wanted)
    with quiet_coremltools() as ct:
        theirs = ct.models.MLModel(str(package))
        assert np.array_equal(MLModel(theirs).predict(X)["y"], wanted)
        assert np.array_equal(MLModel(theirs.get_spec(), weights_dir=theirs.weights_dir).predict(X)["y"], wanted)
    with pytest.raises(ArtefactError, match="pass their folder as weights_dir"):
        MLModel(whole.get_spec())
    with pytest.raises(InputTypeError):
        MLModel(object())


def test_what_is_set_is_saved_and_coremltools_reads_it(package: Path, tmp_path: Path) -> None:
    model = MLModel(package)
    model.author, model.license, model.version, model.short_description = "Ada", "MIT", "1.2", "a test"
    model.user_defined_metadata["kind"] = "toy"
    model.input_description["x"] = "what comes"
    model.output_description["y"] = "what goes"
    with pytest.raises(KeyError):
        model.input_description["z"] = "nothing"
    model.save(tmp_path / "copy")
    from_spec = MLModel(model.get_spec(), weights_dir=model.weights_dir)
    from_spec.save(tmp_path / "spec.mlpackage")
    for saved in (tmp_path / "copy.mlpackage", tmp_path / "spec.mlpackage"):
        again = MLModel(saved)
        assert (again.author, again.license, again.version) == ("Ada", "MIT", "1.2")
        assert dict(again.user_defined_metadata)["kind"] == "toy"
        assert np.array_equal(again.predict(X)["y"], model.predict(X)["y"])
        with quiet_coremltools() as ct:
            theirs = ct.models.MLModel(str(saved))
            assert theirs.short_description == "a test"
            assert theirs.input_description["x"] == "what comes"
            assert theirs.output_description["y"] == "what goes"
    assert "Ada" not in MLModel(package).author
    again.save(tmp_path / "copy.mlpackage")  # replaced
    with pytest.raises(UsageError, match=r"saved as \.mlpackage"):
        model.save(tmp_path / "net.mlmodel")


def test_paths_durations_and_temporary_packages(package: Path, tmp_path: Path) -> None:
    model = MLModel(package)
    assert model.get_compiled_model_path() == str(package)
    assert model.last_predict_duration_in_nano_seconds is None
    assert [len(r) for r in model.predict([X, X])] == [1, 1]
    assert model.predict([]) == []
    assert (model.last_predict_duration_in_nano_seconds or 0) > 0
    assert (model.load_duration_in_nano_seconds or 0) > 0
    with pytest.raises(PredictionError, match="save it"):
        MLModel(model.get_spec(), weights_dir=model.weights_dir).get_compiled_model_path()
    model.save(tmp_path / "gone.mlpackage")
    passing = MLModel(tmp_path / "gone.mlpackage", is_temp_package=True)
    assert passing.predict(X)
    del passing
    assert not (tmp_path / "gone.mlpackage").exists()


def test_coremltools_own_model_predicts_here(package: Path) -> None:
    wanted = MLModel(package).predict(X)["y"]
    with quiet_coremltools() as ct:
        before = ct.models.model._MLModelProxy
        with patch_coremltools():
            theirs = ct.models.MLModel(str(package))
            assert np.array_equal(theirs.predict(dict(X))["y"], wanted)
            assert np.array_equal(theirs.predict([dict(X), dict(X)])[1]["y"], wanted)
            with pytest.raises(RuntimeError, match="Unable to compute the prediction"):
                theirs.predict({"x": np.ones((1, 65))})
            assert theirs.get_compiled_model_path() == str(package)
        assert ct.models.model._MLModelProxy is before
        if sys.platform != "darwin":
            with pytest.raises(Exception, match=r"Core ?ML|macOS"):
                ct.models.MLModel(str(package)).predict(dict(X))
    with pytest.raises(UsageError):
        patch_coremltools("half")  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ["never", "before", "later"])
def test_coremltools_is_not_imported_and_may_be(order: str, package: Path) -> None:
    theirs = (
        "import coremltools\n"
        f"spec = coremltools.utils.load_spec({str(package)!r})\n"
        "print(type(spec) is type(MLModel(PATH, skip_model_load=True).get_spec()))\n"
        "print(MLModel(spec, weights_dir=MLModel(PATH).weights_dir).predict(X)['y'].shape)\n"
    )
    ours = "print(MLModel(PATH).predict(X)['y'].shape, describe(PATH).opset)\n"
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        + ("import coremltools\n" if order == "before" else "")
        + "import numpy as np\nfrom runtimes.mil import MLModel\nfrom runtimes.inspect.mlpackage import describe\n"
        + f"PATH, X = {str(package)!r}, {{'x': np.ones((1, 64))}}\n"
        + ours
        + "print('coremltools' in sys.modules)\n"
        + (theirs if order != "never" else "")
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[:2] == ["(1, 32) CoreML6", str(order == "before")]
    assert lines[2:] == ([] if order == "never" else ["True", "(1, 32)"])


def test_a_call_leaves_the_process_its_threads(package: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        MLModel(package).predict(X)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
