"""What Core ML does not define: one documented behaviour and a warning, or, asked to be strict, a stop."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from models.common.errors import ArtefactError
from runtimes.mil import Program, UndefinedWarning
from tests.runtimes.mil_programs import const, kind, ones, op, program

I1 = kind(1, dtype="int32")
X = np.float32([10, 20, 30])


def picked(what: str, opset: str, strict: bool = False, **more: Any) -> Program:
    indices = {"gather_nd": kind(1, 1, dtype="int32"), "scatter_nd": kind(1, 1, dtype="int32")}.get(what, I1)
    if what.startswith("gather"):
        operation = op(what, kind(1), {"x": "x", "indices": "i", **more})
    else:
        operation = op(
            what, kind(3), {"data": "x", "indices": "i", "updates": const(ones(1)), "mode": const("update"), **more}
        )
    return program({"x": kind(3), "i": indices}, operation, opset=opset, strict=strict)


def call(made: Program, index: int) -> list[float]:
    shape = next(p.shape for p in made.inputs if p.name == "i")
    result: list[float] = made.run({"x": X, "i": np.full([n or 1 for n in shape], index, np.int32)})["y"].tolist()
    return result


GATHERS = ("gather", "gather_nd", "gather_along_axis")
SCATTERS = ("scatter", "scatter_nd", "scatter_along_axis")


@pytest.mark.parametrize("what", [*GATHERS, *SCATTERS])
def test_a_negative_index_counts_from_the_end_until_ios_16_without_a_word(what: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(picked(what, "CoreML6"), -1) == ([30.0] if what in GATHERS else [10.0, 20.0, 1.0])


@pytest.mark.parametrize("opset", ["CoreML7", "CoreML8", "CoreML9"])
@pytest.mark.parametrize("what", [*GATHERS, *SCATTERS])
def test_since_ios_17_a_negative_index_is_warned_of_once(what: str, opset: str) -> None:
    made = picked(what, opset)
    with pytest.warns(UndefinedWarning, match=rf"{what} \(output 'y'\): undefined in Core ML.*negative index"):
        first = call(made, -1)
    left_out = what == "scatter" and opset == "CoreML7"
    assert first == ([30.0] if what in GATHERS else [10.0, 20.0, 30.0 if left_out else 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(made, -1) == first
        assert call(made, 0) == ([10.0] if what in GATHERS else [1.0, 20.0, 30.0])


@pytest.mark.parametrize("what", [*GATHERS, *SCATTERS])
def test_a_strict_program_stops(what: str) -> None:
    with pytest.raises(ArtefactError, match="undefined in Core ML: a negative index"):
        call(picked(what, "CoreML7", strict=True), -1)


def test_an_index_too_large_stops_all_but_scatter() -> None:
    for what in (*GATHERS, "scatter_nd", "scatter_along_axis"):
        with pytest.raises(ArtefactError, match=what):
            call(picked(what, "CoreML7"), 3)
    with pytest.warns(UndefinedWarning, match="outside an axis of size 3"):
        assert call(picked("scatter", "CoreML8"), 3) == X.tolist()
    with pytest.raises(ArtefactError, match="undefined in Core ML"):
        call(picked("scatter", "CoreML8", strict=True), 3)


def test_validated_indices_stop_in_any_case() -> None:
    for index in (-1, 3):
        with pytest.raises(ArtefactError, match="asks for validated indices"):
            call(picked("gather", "CoreML7", validate_indices=const(True)), index)


def test_a_constant_negative_index_is_seen_at_load() -> None:
    operation = op("gather", kind(1), {"x": "x", "indices": const(np.int32([-1]))})
    with pytest.warns(UndefinedWarning, match="negative"):
        program({"x": kind(3)}, operation)
    with pytest.raises(ArtefactError, match="undefined in Core ML"):
        program({"x": kind(3)}, operation, strict=True)


@pytest.mark.parametrize("mode", ["add", "sub", "mul", "div", "max", "min", "update"])
@pytest.mark.parametrize("opset", ["CoreML5", "CoreML7", "CoreML8"])
def test_a_scatter_of_nothing_changes_nothing(mode: str, opset: str) -> None:
    # `x[mask] = v` with an empty mask.
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    none = {"mode": const(mode), "data": "x"}
    cases = {
        "scatter": {"indices": np.zeros(0, np.int32), "updates": ones(0, 3)},
        "scatter_nd": {"indices": np.zeros((0, 1), np.int32), "updates": ones(0, 3)},
        "scatter_along_axis": {"indices": np.zeros((0, 3), np.int32), "updates": ones(0, 3)},
    }
    for what, values in cases.items():
        operation = op(what, kind(2, 3), none | {k: const(v) for k, v in values.items()})
        assert program({"x": kind(2, 3)}, operation, opset=opset).run({"x": data})["y"].tolist() == data.tolist()
    # Rows of no elements, and data of none.
    hollow = op("scatter", kind(2, 0), none | {"indices": const(np.int32([1])), "updates": const(ones(1, 0))})
    assert program({"x": kind(2, 0)}, hollow, opset=opset).run({"x": ones(2, 0)})["y"].shape == (2, 0)
    deep = op(
        "scatter_nd", kind(2, 3), none | {"indices": const(np.zeros((0, 2), np.int32)), "updates": const(ones(0))}
    )
    assert program({"x": kind(2, 3)}, deep, opset=opset).run({"x": data})["y"].tolist() == data.tolist()


def test_a_gather_of_nothing_gives_nothing() -> None:
    for what, indices, shape in (
        ("gather", np.zeros((0, 2), np.int32), (0, 2, 3)),
        ("gather_nd", np.zeros((0, 1), np.int32), (0, 3)),
        ("gather_along_axis", np.zeros((0, 3), np.int32), (0, 3)),
    ):
        operation = op(what, kind(*shape), {"x": "x", "indices": "i"})
        made = program({"x": kind(2, 3), "i": kind(*indices.shape, dtype="int32")}, operation)
        assert made.run({"x": ones(2, 3), "i": indices})["y"].shape == shape
    batches = op("gather", kind(0, 2), {"x": "x", "indices": "i", "axis": const(1), "batch_dims": const(1)})
    made = program({"x": kind(0, 3), "i": kind(0, 2, dtype="int32")}, batches)
    assert made.run({"x": ones(0, 3), "i": np.zeros((0, 2), np.int32)})["y"].shape == (0, 2)


def cast(target: str, source: str = "fp32", strict: bool = False) -> Program:
    operation = op("cast", kind(None, dtype=target), {"x": "x", "dtype": const(target)})
    return program({"x": kind(None, dtype=source)}, operation, strict=strict)


@pytest.mark.parametrize(
    ("target", "given", "wanted"),
    [
        ("int32", [3e9, -3e9, np.inf, -np.inf, np.nan], [2**31 - 1, -(2**31), 2**31 - 1, -(2**31), 0]),
        ("uint8", [-1.9, 256.5, 1e20], [0, 255, 255]),
        ("int8", [127.9, 128.0, -129.0], [127, 127, -128]),
        ("uint16", [-1.0, 70_000.0], [0, 65_535]),
        ("int16", [4e4, -4e4], [32_767, -32_768]),
    ],
)
def test_a_cast_out_of_range_saturates_on_every_machine(target: str, given: list[float], wanted: list[int]) -> None:
    made = cast(target)
    with pytest.warns(UndefinedWarning, match="cast to an integer"):
        assert made.run({"x": np.float32(given)})["y"].tolist() == wanted
    with pytest.raises(ArtefactError, match="undefined in Core ML"):
        cast(target, strict=True).run({"x": np.float32(given)})


def test_a_cast_in_range_is_silent_and_cuts_towards_zero() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given = np.float32([-0.9, 1.9, 254.99, 0])
        assert cast("uint8").run({"x": given})["y"].tolist() == [0, 1, 254, 0]
        assert cast("int32").run({"x": np.float32([2**31 - 129, -(2**31)])})["y"].tolist() == [2**31 - 128, -(2**31)]
        # Between integers the low bits stay: coremltools' passes count on it.
        assert cast("uint16", "int32").run({"x": np.int32([-1])})["y"].tolist() == [65_535]


def stacked(strict: bool, *types: Any) -> Program:
    names = [f"v{i}" for i in range(len(types))]
    operation = op("stack", kind(2, None), {"values": tuple(names), "axis": const(0)})
    return program(dict(zip(names, types, strict=True)), operation, strict=strict)


def test_a_stack_whose_shapes_may_differ() -> None:
    given = {"v0": ones(4), "v1": ones(4)}
    with pytest.warns(UndefinedWarning, match="are stacked"):
        assert stacked(False, kind(4), kind(None)).run(given)["y"].shape == (2, 4)
    with pytest.raises(ArtefactError, match="undefined in Core ML"):
        stacked(True, kind(4), kind(None)).run(given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stacked(True, kind(None), kind(None)).run(given)["y"].shape == (2, 4)
