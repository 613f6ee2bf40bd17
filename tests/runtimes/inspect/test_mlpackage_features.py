"""What inspect says of images, allowed shapes, defaults and class labels, read from a description made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.protobuf")

from models.common.errors import ArtefactError, MissingDependencyError
from runtimes.inspect.inspect import inspect
from runtimes.inspect.mlpackage import MlPackageReport, describe
from runtimes.mil.deps import require_model_proto

try:
    PROTO = require_model_proto()
except MissingDependencyError:
    pytest.skip("coremltools is not installed", allow_module_level=True)

FP32, INT64, TEXT = 11, 24, 2


def _tensor_type(value: Any, dtype: int, shape: tuple[int | None, ...]) -> None:
    value.tensorType.dataType, value.tensorType.rank = dtype, len(shape)
    for n in shape:
        dimension = value.tensorType.dimensions.add()
        if n is None:
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = n


class Made:
    """A specification of one function that gives back its inputs, or classifies the first."""

    def __init__(self) -> None:
        self.spec = PROTO.Model()
        self.spec.specificationVersion = 7
        self.spec.description.defaultFunctionName = ""
        self.function = self.spec.mlProgram.functions["main"]
        self.function.opset = "CoreML6"
        self.body = self.function.block_specializations["CoreML6"]

    def input(self, name: str, *shape: int | None) -> Any:
        entry = self.function.inputs.add()
        entry.name = name
        _tensor_type(entry.type, FP32, shape)
        self.body.outputs.append(name)
        for features in (self.spec.description.input, self.spec.description.output):
            feature = features.add()
            feature.name = name
        return self.spec.description.input[-1].type

    def classify(self, labels: list[str]) -> None:
        const = self.body.operations.add()
        const.type = "const"
        output = const.outputs.add()
        output.name = "classes"
        value = const.attributes["val"]
        for t in (output.type, value.type):
            t.listType.type.tensorType.dataType = TEXT
        for label in labels:
            value.immediateValue.list.values.add().immediateValue.tensor.strings.values.append(label)
        operation = self.body.operations.add()
        operation.type = "classify"
        operation.inputs["classes"].arguments.add().name = "classes"
        for name, dtype in (("classLabel", TEXT), ("probabilities", INT64)):
            made = operation.outputs.add()
            made.name = name
            _tensor_type(made.type, dtype, (1,))

    def save(self, folder: Path) -> Path:
        package = folder / "net.mlpackage"
        data = package / "Data" / "com.apple.CoreML"
        data.mkdir(parents=True)
        entry = {"path": "com.apple.CoreML/model.mlmodel"}
        (package / "Manifest.json").write_text(
            json.dumps({"itemInfoEntries": {"a": entry}, "rootModelIdentifier": "a"})
        )
        (data / "model.mlmodel").write_bytes(self.spec.SerializeToString())
        return package


def report(made: Made, folder: Path) -> MlPackageReport:
    return describe(made.save(folder))


def test_images_with_their_colour_and_sizes(tmp_path: Path) -> None:
    made = Made()
    fixed = made.input("fixed", 1, 3, 8, 6).imageType
    fixed.width, fixed.height, fixed.colorSpace = 6, 8, 30
    ranged = made.input("ranged", 1, 1, None, None).imageType
    ranged.width, ranged.height, ranged.colorSpace = 6, 8, 10
    ranged.imageSizeRange.widthRange.lowerBound, ranged.imageSizeRange.widthRange.upperBound = 4, -1
    ranged.imageSizeRange.heightRange.lowerBound, ranged.imageSizeRange.heightRange.upperBound = 2, 99
    listed = made.input("listed", 1, 3, None, None).imageType
    listed.width, listed.height, listed.colorSpace = 6, 8, 20
    for width, height in ((6, 8), (12, 16)):
        size = listed.enumeratedSizes.sizes.add()
        size.width, size.height = width, height
    first, second, third = (t.image for t in report(made, tmp_path).inputs)
    assert first is not None
    assert (first.colour, first.width, first.height, first.sizes) == ("BGR", 6, 8, ())
    assert second is not None
    assert (second.colour, second.widths, second.heights) == ("GRAYSCALE", (4, None), (2, 99))
    assert third is not None
    assert (third.colour, third.sizes) == ("RGB", ((6, 8), (12, 16)))


def test_shapes_bounds_and_defaults(tmp_path: Path) -> None:
    made = Made()
    ranged = made.input("ranged", 1, None).multiArrayType
    ranged.shape.extend([1, 5])
    for low, high in ((1, 1), (2, -1)):
        size = ranged.shapeRange.sizeRanges.add()
        size.lowerBound, size.upperBound = low, high
    listed = made.input("listed", 1, None).multiArrayType
    listed.shape.extend([1, 4])
    for shape in ((1, 4), (1, 8)):
        listed.enumeratedShapes.shapes.add().shape.extend(shape)
    optional = made.input("optional", 2)
    optional.isOptional, optional.multiArrayType.floatDefaultValue = True, 0.5
    made.spec.description.input[2].shortDescription = "how loud"
    found = report(made, tmp_path)
    one, two, three = found.inputs
    assert (one.bounds, one.usual_shape, one.shapes) == (((1, 1), (2, None)), (1, 5), ())
    assert (two.shapes, two.usual_shape, two.bounds) == (((1, 4), (1, 8)), (1, 4), ())
    assert (three.optional, three.default, three.description) == (True, 0.5, "how loud")
    assert (one.optional, one.default) == (None, None)
    (lint,) = (lint for lint in found.lints if lint.rule == "flexible-shape")
    assert lint.message.endswith(": ranged")


def test_class_labels_and_no_lint_for_naming_them(tmp_path: Path) -> None:
    made = Made()
    made.input("x", 1, 3).multiArrayType.shape.extend([1, 3])
    made.classify(["cat", "dog", "owl"])
    found = report(made, tmp_path)
    assert found.labels == ("cat", "dog", "owl")
    assert not [lint for lint in found.lints if lint.rule == "integer-operations"]


def test_advice_names_what_the_file_is(tmp_path: Path) -> None:
    compiled = tmp_path / "net.mlmodelc"
    compiled.mkdir()
    (compiled / "coremldata.bin").write_bytes(b"")
    (compiled / "model.mil").write_text("program(1.0)")
    renamed = tmp_path / "net"
    compiled.rename(renamed)
    compiled.mkdir()
    for path in (compiled, renamed):
        with pytest.raises(ArtefactError, match=r"a compiled model .*open the \.mlpackage that it was compiled from"):
            inspect(path)
    with pytest.raises(ArtefactError, match=r"the text of a program \(\.mil\)"):
        inspect(renamed / "model.mil")
    made = Made()
    pipeline = PROTO.Model()
    pipeline.specificationVersion = 7
    for _ in range(2):
        pipeline.pipeline.models.add().CopyFrom(made.spec)
    made.spec = pipeline
    with pytest.raises(ArtefactError, match=r"a pipeline of 2 models \(mlProgram, mlProgram\).*save each with"):
        inspect(made.save(tmp_path))
