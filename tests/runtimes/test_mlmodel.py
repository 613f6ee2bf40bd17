"""The drop-in for coremltools' MLModel: the same keys, types and errors, on packages made here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from converters.coreml.convert import quiet_coremltools  # noqa: E402
from models.common.errors import ArtefactError, MissingDependencyError, UsageError  # noqa: E402
from runtimes.mil import MLModel  # noqa: E402
from runtimes.mil.package import open_package  # noqa: E402

Folder = dict[str, Path]
ROOT = Path(__file__).resolve().parents[2]


class Pictures(torch.nn.Module):
    """One linear map of the pixels; its input comes in every colour layout."""

    def forward(self, x: Any) -> Any:
        return x * 0.5 + 10.0


class Classes(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.softmax(x, 1)


class Counter(torch.nn.Module):
    """Adds what it hears to a buffer: Core ML's own state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4))

    def forward(self, x: Any) -> Any:
        self.total.add_(x)
        return self.total * 2.0


class Sum(torch.nn.Module):
    def forward(self, x: Any, k: Any) -> Any:
        return (x + k).sum(), x.shape[-1] * torch.ones(1, dtype=torch.int32)


def _convert(path: Path, net: Any, example: Any, target: str, **options: Any) -> None:
    with quiet_coremltools() as ct:
        model = ct.convert(
            torch.jit.trace(net.eval(), example),
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision=ct.precision.FLOAT32,
            **options,
        )
        model.author, model.license, model.version = "Ada", "MIT", "1.2"
        model.short_description = "a test"
        model.user_defined_metadata["kind"] = "toy"
        model.input_description["x"] = "what comes"
        model.save(str(path))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = tmp_path_factory.mktemp("mlmodel")
    paths = {n: folder / f"{n}.mlpackage" for n in ("RGB", "BGR", "GRAYSCALE", "text", "number", "state", "two", "sum")}
    with quiet_coremltools() as ct:
        for space in ("RGB", "BGR", "GRAYSCALE"):
            shape, layout = (1, 1 if space == "GRAYSCALE" else 3, 6, 8), getattr(ct.colorlayout, space)
            _convert(
                paths[space], Pictures(), torch.zeros(shape), "iOS16",
                inputs=[ct.ImageType("x", shape, color_layout=layout)],
                outputs=[ct.ImageType("y", color_layout=layout)],
            )  # fmt: skip
        for name, labels in (("text", ["cat", "dog", "owl"]), ("number", [7, 8, 9])):
            _convert(
                paths[name], Classes(), torch.zeros(1, 3), "iOS16",
                inputs=[ct.TensorType("x", (1, 3))], classifier_config=ct.ClassifierConfig(labels),
            )  # fmt: skip
        _convert(
            paths["state"], Counter(), torch.zeros(1, 4), "iOS18",
            inputs=[ct.TensorType("x", (1, 4))], outputs=[ct.TensorType("y")],
            states=[ct.StateType(ct.TensorType(shape=(1, 4), dtype=np.float16), name="total")],
        )  # fmt: skip
        sizes = ct.Shape((1, ct.RangeDim(2, 5, default=2)))
        _convert(
            paths["sum"], Sum(), (torch.zeros(1, 2), torch.zeros(1, dtype=torch.int32)), "iOS16",
            inputs=[ct.TensorType("x", sizes, dtype=np.float16), ct.TensorType("k", (1,), dtype=np.int32)],
            outputs=[ct.TensorType("total", dtype=np.float16), ct.TensorType("n")],
        )  # fmt: skip
        both = ct.utils.MultiFunctionDescriptor()
        both.add_function(str(paths["state"]).replace("state", "text"), "main", "animals")
        both.add_function(str(paths["number"]), "main", "digits")
        both.default_function_name = "digits"
        ct.utils.save_multifunction(both, str(paths["two"]))
    return paths


def test_descriptions_and_metadata(packages: Folder) -> None:
    model = MLModel(str(packages["text"]), compute_units="ignored", skip_model_load=True)
    assert (model.author, model.license, model.version, model.short_description) == ("Ada", "MIT", "1.2", "a test")
    assert model.user_defined_metadata["kind"] == "toy"
    assert list(model.input_description) == ["x"]
    assert model.input_description["x"] == "what comes"
    assert "classLabel" in model.output_description
    assert len(model.output_description) == 2
    assert model.get_spec().specificationVersion == 7
    assert "x" in repr(model)
    with pytest.raises(KeyError, match="no feature 'nothing'"):
        model.output_description["nothing"]
    with pytest.raises(ArtefactError, match="skip_model_load"):
        model.predict({"x": np.zeros((1, 3))})


@pytest.mark.parametrize("name", ["text", "number"])
def test_a_classifier_gives_a_label_and_a_dict(name: str, packages: Folder) -> None:
    labels: list[Any] = ["cat", "dog", "owl"] if name == "text" else [7, 8, 9]
    x = np.array([[0.1, 2.0, -1.0]])
    result = MLModel(packages[name]).predict({"x": x})
    assert result["classLabel"] == labels[1]
    (probabilities,) = (v for k, v in result.items() if k != "classLabel")
    assert list(probabilities) == labels
    np.testing.assert_allclose(list(probabilities.values()), (np.exp(x) / np.exp(x).sum())[0], atol=1e-6)
    assert all(type(v) is float for v in probabilities.values())


@pytest.mark.parametrize("space", ["RGB", "BGR", "GRAYSCALE"])
def test_images_go_in_and_come_out(space: str, packages: Folder) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8) if space == "GRAYSCALE" else (6, 8, 3), dtype=np.uint8)
    model = MLModel(packages[space])
    picture = model.predict({"x": Image.fromarray(pixels)})["y"]
    got = np.asarray(picture)
    assert picture.mode == ("L" if space == "GRAYSCALE" else "RGBA")
    np.testing.assert_array_equal(got if space == "GRAYSCALE" else got[..., :3], np.rint(pixels * 0.5 + 10))
    for wrong, error in (
        (pixels, TypeError),
        (Image.fromarray(pixels).convert("RGBA"), TypeError),
        (Image.fromarray(pixels).resize((6, 6)), ValueError),
    ):
        with pytest.raises(ArtefactError, match="image input 'x'") as caught:
            model.predict({"x": wrong})
        assert isinstance(caught.value, error)


def test_an_image_that_the_program_takes_as_bytes(tmp_path: Path) -> None:
    with quiet_coremltools() as ct:
        kind = ct.ImageType("x", (1, 1, 6, 8), color_layout=ct.colorlayout.GRAYSCALE, grayscale_use_uint8=True)
        _convert(tmp_path / "bytes.mlpackage", Pictures(), torch.zeros(1, 1, 6, 8), "iOS17", inputs=[kind])
    model = MLModel(tmp_path / "bytes.mlpackage")
    assert model._loaded().inputs[0].dtype == "uint8"
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8), dtype=np.uint8)
    (values,) = model.predict({"x": Image.fromarray(pixels)}).values()
    np.testing.assert_allclose(values[0, 0], pixels * 0.5 + 10)


def test_channels_arrive_in_the_order_of_the_layout(packages: Folder) -> None:
    red = Image.new("RGB", (8, 6), (255, 0, 0))
    for space, channel in (("RGB", 0), ("BGR", 2)):
        model = MLModel(packages[space])
        feature = model.input_features[0]
        from runtimes.mil.features import image_in

        array = image_in(model._loaded().inputs[0], feature, red)
        assert array.shape == (1, 3, 6, 8)
        assert [float(array[0, c].max()) for c in range(3)] == [255.0 * (c == channel) for c in range(3)]


def test_types_and_shapes_are_coremltools(packages: Folder) -> None:
    model = MLModel(packages["sum"])
    x = np.array([[1.5, 2.25, 3.0]])
    for given in (x, x.astype(np.float16), x.tolist(), torch.from_numpy(x)):
        result = model.predict({"x": given, "k": np.array([2], np.int64)})
        assert result["total"].dtype == np.float32  # coremltools' binding turns halves into float32
        assert result["total"].shape == (1,)  # and knows no rank 0
        assert result["total"][0] == 12.75
        assert result["n"].dtype == np.int32
        assert result["n"][0] == 3
    many = model.predict([{"x": np.ones((1, n)), "k": 1} for n in (2, 5)])
    assert [float(m["total"][0]) for m in many] == [4.0, 10.0]


def test_half_mode_rounds(packages: Folder) -> None:
    data = {"x": np.full((1, 2), 0.1), "k": 0}
    exact, half = (MLModel(packages["sum"], mode=m).predict(data)["total"][0] for m in ("fp32", "fp16"))
    assert exact == np.float32(0.1) + np.float32(0.1)
    assert half == np.float16(0.1) + np.float16(0.1)
    assert half != exact
    with pytest.raises(UsageError, match="fp8"):
        MLModel(packages["sum"], mode="fp8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"x": np.zeros((1, 2))}, KeyError, "input 'k' is missing"),
        ({"x": np.zeros((1, 2)), "k": 1, "z": 1}, KeyError, "no input 'z'"),
        ({"x": np.zeros((2, 2)), "k": 1}, ValueError, r"expected shape \[1, \?\], got \[2, 2\]"),
        (
            {"x": np.zeros((1, 6)), "k": 1},
            ValueError,
            r"Size \(6\) of dimension \(1\) is not in allowed range \(2\.\.5\)",
        ),
        ({"x": np.array([["a", "b"]]), "k": 1}, TypeError, "expected numbers"),
        ({"x": [[1.0], [1.0, 2.0]], "k": 1}, TypeError, "input 'x'"),
        ({"x": np.zeros((1, 2)), "k": 1.5}, TypeError, "takes integers"),
        ({"x": np.zeros((1, 2)), "k": 2**40}, ValueError, "does not fit into int32"),
        ({"x": np.array([[0.0, np.nan]]), "k": 1}, ValueError, "holds NaN"),
        (5, TypeError, "expected a dict"),
    ],
)
def test_wrong_data_gives_a_clear_error(data: Any, error: type[Exception], message: str, packages: Folder) -> None:
    with pytest.raises(ArtefactError, match=message) as caught:
        MLModel(packages["sum"]).predict(data)
    assert isinstance(caught.value, error)


def test_nan_passes_when_asked_for(packages: Folder) -> None:
    model = MLModel(packages["sum"], allow_nan=True)
    assert np.isnan(model.predict({"x": np.array([[0.0, np.nan]]), "k": 1})["total"][0])


def test_states_are_of_their_stream(packages: Folder) -> None:
    model = MLModel(packages["state"])
    one, other = model.make_state(), model.make_state()
    x = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    for step in range(1, 4):
        np.testing.assert_array_equal(model.predict({"x": x}, state=one)["y"], 2 * step * x)
    np.testing.assert_array_equal(model.predict({"x": -x}, state=other)["y"], -2 * x)
    np.testing.assert_array_equal(one.read_state("total"), 3 * x)
    one.write_state("total", np.full((1, 4), 10.0))
    np.testing.assert_array_equal(model.predict({"x": x}, state=one)["y"], 2 * (10 + x))
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: model.predict({"x": x}), "stateful"),
        (lambda: model.predict([{"x": x}], state=one), "not with a list"),
        (lambda: MLModel(packages["state"]).predict({"x": x}, state=one), "another model"),
        (lambda: one.read_state("none"), "no state 'none'"),
        (lambda: one.write_state("total", np.zeros(3)), "total"),
        (lambda: MLModel(packages["text"]).make_state(), "keeps no state"),
    ]
    for call, message in calls:
        with pytest.raises(ArtefactError, match=message):
            call()


def test_functions_are_chosen_by_name(packages: Folder) -> None:
    x = {"x": np.array([[0.0, 0.0, 5.0]])}
    assert MLModel(packages["two"]).predict(x)["classLabel"] == 9
    assert MLModel(packages["two"], function_name="animals").predict(x)["classLabel"] == "owl"
    with pytest.raises(ValueError, match="animals, digits"):
        MLModel(packages["two"], function_name="plants")


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="does not exist"):
        MLModel(tmp_path / "no.mlpackage")
    with pytest.raises(TypeError, match="a specification or an MLModel, got object"):
        MLModel(object())  # type: ignore[arg-type]


OTHER_EXTRAS = ("ai_edge_litert", "ai_edge_quantizer", "librosa", "litert_torch", "matplotlib", "onnx", "onnxruntime",
                "pydantic", "rich", "soundfile", "soxr", "tensorflow", "typer")  # fmt: skip


def test_coremltools_and_torch_are_all_it_needs(packages: Folder) -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({OTHER_EXTRAS!r}))
from runtimes.mil import MLModel
print(MLModel({str(packages["text"])!r}).predict({{"x": [[0.0, 1.0, 0.0]]}})["classLabel"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "dog", done.stderr


@pytest.mark.parametrize("missing", ["coremltools", "torch"])
def test_what_is_missing_is_named(missing: str, packages: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingDependencyError, match=f"'{missing}'.*pip install") as caught:
        MLModel(packages["text"])
    assert caught.value.package == missing


class Twice(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        y = x * 2.0
        return y, y


def test_one_value_given_twice_is_one_output(tmp_path: Path) -> None:
    package = tmp_path / "twice.mlpackage"
    ct = pytest.importorskip("coremltools")
    _convert(package, Twice(), torch.rand(2, 3), "iOS17", inputs=[ct.TensorType("x", (2, 3))])
    model = MLModel(package)
    (only,) = model.predict({"x": np.ones((2, 3))}).values()
    assert only.tolist() == [[2.0] * 3] * 2
    assert len(list(model.output_description)) == 1


def test_errors_are_of_coremltools_types_too(packages: Folder) -> None:
    model = MLModel(packages["sum"])
    for shape in ((1, 9), (1, 2, 1)):
        with pytest.raises(RuntimeError) as caught:
            model.predict({"x": np.ones(shape), "k": np.ones(1)})
        assert isinstance(caught.value, ArtefactError)
    state = MLModel(packages["state"]).make_state()
    with pytest.raises(RuntimeError, match="state 'total'"):
        state.write_state("total", np.zeros(3, np.float32))
    with pytest.raises(RuntimeError, match="keeps no state"):
        model.predict({"x": np.ones((1, 2)), "k": np.ones(1)}, state=state)


def test_a_description_of_unknown_types_is_refused(packages: Folder, tmp_path: Path) -> None:
    for change in (
        lambda d: setattr(d.input[0].type.multiArrayType, "dataType", 77),
        lambda d: setattr(d.output[0].type.multiArrayType, "dataType", 1),
    ):
        package = tmp_path / "odd.mlpackage"
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(packages["sum"], package)
        opened = open_package(package)
        change(opened.spec.description)
        opened.model_path.write_bytes(opened.spec.SerializeToString())
        with pytest.raises(ArtefactError, match="unknown ArrayDataType"):
            MLModel(package)
