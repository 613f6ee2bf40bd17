"""Packages made to hurt: nesting, sizes that ask for all the memory, shapes that lie, loops that do not end."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

from converters.coreml.convert import quiet_coremltools  # noqa: E402
from models.common.errors import HearpackError  # noqa: E402
from runtimes.inspect.mlpackage import describe  # noqa: E402
from runtimes.mil import Program  # noqa: E402
from runtimes.mil.limits import MAX_ELEMENTS, room, room_to_pad  # noqa: E402
from runtimes.mil.package import open_package  # noqa: E402

HUGE = 2_000_000_000
SHAPE = (1, 1, 4, 4)


def make(path: Path, body: Callable[[Any, Any], Any]) -> Path:
    """A package of one function of x [1, 1, 4, 4], in the opset of iOS 17."""
    with quiet_coremltools() as ct:
        from coremltools.converters.mil.mil import Builder

        opset = ct.target.iOS17
        program = Builder.program(input_specs=[Builder.TensorSpec(SHAPE)], opset_version=opset)(
            lambda x: body(Builder, x)
        )
        ct.convert(
            program, minimum_deployment_target=opset, compute_precision=ct.precision.FLOAT32, convert_to="mlprogram"
        ).save(str(path))
    return path


def edit(package: Path, change: Callable[[Any], None]) -> Path:
    opened = open_package(package)
    change(opened.spec)
    opened.model_path.write_bytes(opened.spec.SerializeToString())
    return package


def operations(spec: Any) -> Any:
    main = spec.mlProgram.functions["main"]
    return main.block_specializations[main.opset].operations


def set_integers(spec: Any, kind: str, parameter: str, values: list[int]) -> None:
    """Overwrite an integer parameter of the first operation of a kind."""
    made = {o.outputs[0].name: o for o in operations(spec)}
    operation = next(o for o in operations(spec) if o.type == kind)
    binding = operation.inputs[parameter].arguments[0]
    value = made[binding.name].attributes["val"] if binding.WhichOneof("binding") == "name" else binding.value
    field = getattr(value.immediateValue.tensor, value.immediateValue.tensor.WhichOneof("value"))
    del field.values[:]
    field.values.extend(values)


def x() -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.ones(SHAPE, np.float32)}


BOMBS: dict[str, tuple[Callable[[Any, Any], Any], str, list[int]]] = {
    "tile": (lambda mb, v: mb.tile(x=v, reps=[1, 1, 2, 3]), "reps", [1, 1, HUGE, HUGE]),
    "pad": (lambda mb, v: mb.pad(x=v, pad=[0, 0, 1, 1], mode="constant"), "pad", [0, 0, HUGE, HUGE]),
    "one_hot": (
        lambda mb, v: mb.one_hot(indices=mb.cast(x=v, dtype="int32"), one_hot_vector_size=5),
        "one_hot_vector_size",
        [HUGE],
    ),
    "upsample_nearest_neighbor": (
        lambda mb, v: mb.upsample_nearest_neighbor(x=v, scale_factor_height=2, scale_factor_width=2),
        "scale_factor_height",
        [HUGE],
    ),
    "resize_bilinear": (
        lambda mb, v: mb.resize_bilinear(x=v, target_size_height=8, target_size_width=8),
        "target_size_width",
        [HUGE],
    ),
    "random_uniform": (
        lambda mb, v: mb.add(x=v, y=mb.reduce_sum(x=mb.random_uniform(shape=[3, 3], low=0.0, high=1.0, seed=1))),
        "shape",
        [HUGE, HUGE],
    ),
    "conv": (
        lambda mb, v: mb.conv(x=v, weight=np.ones((1, 1, 3, 3), np.float32), pad_type="custom", pad=[1, 1, 1, 1]),
        "pad",
        [HUGE, HUGE, HUGE, HUGE],
    ),
    "max_pool": (
        lambda mb, v: mb.max_pool(x=v, kernel_sizes=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        "pad",
        [HUGE, HUGE, HUGE, HUGE],
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_sizes_that_would_fill_the_memory_are_refused(kind: str, tmp_path: Path) -> None:
    body, parameter, values = BOMBS[kind]
    package = make(tmp_path / "bomb.mlpackage", body)
    assert Program.load(package).run(x())
    edit(package, lambda spec: set_integers(spec, kind, parameter, values))
    with pytest.raises(HearpackError, match=rf"{kind} .*more than {MAX_ELEMENTS} elements"):
        Program.load(package).run(x())


def test_a_size_that_the_input_gives_is_limited_too(tmp_path: Path) -> None:
    package = make(
        tmp_path / "range.mlpackage",
        lambda mb, v: mb.range_1d(start=0.0, end=mb.reduce_sum(x=v, keep_dims=False), step=1.0),
    )
    assert next(iter(Program.load(package).run(x()).values())).shape == (16,)
    with pytest.raises(HearpackError, match=r"range_1d .*more than"):
        Program.load(package).run({"x": np.full(SHAPE, 1e9, np.float32)})


def test_a_declared_giant_stops_at_load(tmp_path: Path) -> None:
    package = make(tmp_path / "giant.mlpackage", lambda mb, v: mb.exp(x=mb.tile(x=v, reps=[1, 1, 2, 3])))

    def change(spec: Any) -> None:
        exp = next(o for o in operations(spec) if o.type == "exp")
        exp.outputs[0].type.tensorType.dimensions[2].constant.size = 1 << 40

    edit(package, change)
    with pytest.raises(HearpackError, match="has more than"):
        Program.load(package)


def test_many_large_values_at_a_time_stop_at_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def body(mb: Any, v: Any) -> Any:
        return mb.add(x=mb.exp(x=v), y=mb.add(x=mb.sin(x=v), y=mb.cos(x=v)))

    package = make(tmp_path / "many.mlpackage", body)
    # At most three values of 16 elements live at once: two operands and their sum.
    monkeypatch.setattr("runtimes.mil.compile.MAX_LIVING_ELEMENTS", 48)
    assert Program.load(package).calls == 5
    monkeypatch.setattr("runtimes.mil.compile.MAX_LIVING_ELEMENTS", 47)
    with pytest.raises(HearpackError, match="would live at the same time"):
        Program.load(package)


def test_a_constant_whose_declaration_lies(tmp_path: Path) -> None:
    package = make(
        tmp_path / "lie.mlpackage",
        lambda mb, v: mb.add(x=v, y=mb.reduce_sum(x=mb.random_uniform(shape=[3, 3], low=0.0, high=1.0, seed=1))),
    )

    def change(spec: Any) -> None:
        # A pure operation on a constant, put in front by hand: it runs at load.
        block = spec.mlProgram.functions["main"].block_specializations[spec.mlProgram.functions["main"].opset]
        source = next(o for o in block.operations if o.type == "random_uniform")
        source.type = "fill"
        del source.inputs["low"], source.inputs["high"], source.inputs["seed"]
        source.outputs[0].type.tensorType.dimensions[0].constant.size = 5

    edit(package, change)
    with pytest.raises(HearpackError, match="declared as fp32"):
        Program.load(package)


def looped(path: Path, step: float) -> Path:
    """Adds `step` to x until its sum is 100."""
    return make(
        path,
        lambda mb, v: mb.while_loop(
            _cond=lambda a: mb.less(x=mb.reduce_sum(x=a, keep_dims=False), y=100.0),
            _body=lambda a: mb.add(x=a, y=step),
            loop_vars=(v,),
        ),
    )


def test_a_loop_whose_values_grow_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = looped(tmp_path / "loop.mlpackage", 1.0)
    (value,) = Program.load(package).run(x()).values()
    np.testing.assert_array_equal(value, np.full(SHAPE, 7.0))
    monkeypatch.setattr("runtimes.mil.ops.control.MAX_ELEMENTS", 15)
    with pytest.raises(HearpackError, match="grow beyond 15 elements"):
        Program.load(package).run(x())


def test_a_loop_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = looped(tmp_path / "loop.mlpackage", 0.0)
    monkeypatch.setattr("runtimes.mil.ops.control.MAX_ITERATIONS", 1000)
    with pytest.raises(HearpackError, match="did not end within 1000 rounds"):
        Program.load(package).run(x())


def varint(value: int) -> bytes:
    out = b""
    while True:
        value, low = value >> 7, value & 127
        out += bytes([low | (128 if value else 0)])
        if not value:
            return out


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    return varint(number << 3 | 2) + varint(len(content)) + content


@pytest.mark.parametrize(
    ("levels", "message"), [(20, "lacks its block"), (40, "nested deeper"), (10_000, "cannot be parsed")]
)
def test_deep_nesting_is_refused(levels: int, message: str, tmp_path: Path) -> None:
    package = make(tmp_path / "deep.mlpackage", lambda mb, v: mb.exp(x=v))
    opened = open_package(package)
    from coremltools.proto import MIL_pb2, Model_pb2

    numbers = {
        f"{m.DESCRIPTOR.name}.{f.name}": int(f.number)
        for m in (MIL_pb2.Block, MIL_pb2.Operation, MIL_pb2.Program, MIL_pb2.Function, Model_pb2.Model)
        for f in m.DESCRIPTOR.fields
    }
    cond, block = MIL_pb2.Operation(type="cond"), b""
    cond.outputs.add().name = "nested"
    for _ in range(levels):
        block = field(numbers["Block.operations"], cond.SerializeToString() + field(numbers["Operation.blocks"], block))
    opset = opened.spec.mlProgram.functions["main"].opset.encode()
    function = field(numbers["Function.opset"], opset)
    function += field(numbers["Function.block_specializations"], field(1, opset) + field(2, block))
    program = field(numbers["Program.functions"], field(1, b"main") + field(2, function))
    # Appended: the parser merges it into the model, and the later "main" wins.
    with opened.model_path.open("ab") as file:
        file.write(field(numbers["Model.mlProgram"], program))
    with pytest.raises(HearpackError, match=message):
        Program.load(package)


def test_damaged_specifications_give_our_errors_only(tmp_path: Path) -> None:
    def body(mb: Any, v: Any) -> Any:
        y = mb.conv(x=v, weight=np.ones((2, 1, 3, 3), np.float32), pad_type="same")
        first, second = mb.split(x=mb.softmax(x=y, axis=1), num_splits=2, axis=1)
        wider = mb.pad(x=first, pad=[1, 1], mode="constant")
        return mb.concat(values=(wider, mb.tile(x=second, reps=[1, 1, 1, 2])), axis=3)

    package = make(tmp_path / "whole.mlpackage", body)
    rng, seen = random.Random(5), {"loaded": 0, "refused": 0}
    file = open_package(package).model_path
    whole, copy = file.read_bytes(), Path(shutil.copytree(package, tmp_path / "damaged.mlpackage"))
    target = copy / file.relative_to(package)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 6))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        target.write_bytes(bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data))))]))
        for attempt in (lambda: Program.load(copy).run(x()), lambda: describe(copy)):
            try:
                attempt()
                seen["loaded"] += 1
            except HearpackError:
                seen["refused"] += 1
    assert min(seen.values()) > 20, seen


def test_the_limits() -> None:
    room([MAX_ELEMENTS >> 10, 1 << 10])
    room_to_pad((None, 3), [1, 1])
    with pytest.raises(ValueError, match="more than"):
        room([1 << 15, 1 << 16])
    with pytest.raises(ValueError, match="more than"):
        room_to_pad((1, 1 << 20), [0, 1 << 11, 0, 0])
    assert math.log2(MAX_ELEMENTS) == 27


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kinds", [("float32", "int32"), ("int32", "float32"), ("int32", "int32")])
def test_products_of_mixed_types(kinds: tuple[str, str], transposed: bool, tmp_path: Path) -> None:
    # From iOS 17 on the constant operand may be of another type than x; the result is of x's.
    rng = np.random.default_rng(4)
    y = rng.integers(-5, 6, (3, 4) if transposed else (4, 3)).astype(kinds[1])

    def body(mb: Any, v: Any) -> Any:
        a = mb.cast(x=v, dtype={"float32": "fp32", "int32": "int32"}[kinds[0]])
        return mb.cast(x=mb.matmul(x=a, y=y, transpose_y=transposed), dtype="fp32", name="out")

    package = make(tmp_path / "mixed.mlpackage", body)
    value = rng.integers(-9, 10, SHAPE).astype(np.float32)
    (got,) = Program.load(package).run({"x": value}).values()
    np.testing.assert_array_equal(got, value @ (y.T if transposed else y).astype(np.float32))


@pytest.mark.parametrize(
    "name", ["@model_path/weights/we\0ight.bin", "@model_path/" + "a" * 5000, "@model_path/a/../../../../etc/passwd"]
)
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    def body(mb: Any, v: Any) -> Any:
        return mb.add(x=v, y=np.arange(16, dtype=np.float32).reshape(SHAPE))

    def change(spec: Any) -> None:
        value = next(o for o in operations(spec) if o.type == "const" and o.attributes["val"].type.tensorType.rank == 4)
        value.attributes["val"].blobFileValue.fileName = name
        value.attributes["val"].blobFileValue.offset = 64

    package = edit(make(tmp_path / "net.mlpackage", body), change)
    with pytest.raises(HearpackError, match="weights file") as caught:
        Program.load(package)
    assert len(str(caught.value)) < 500
