"""Each operation against coremltools' own `value_inference`, on random shapes, values and attributes.

coremltools computes an operation in numpy when all its inputs are constants. Here the same operation object is read
into our graph, once with its data as inputs of the call and once as constants, and both answers must equal theirs.
Nothing is converted, so an example takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ct = pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402, N813  its name everywhere
from coremltools.converters.mil.mil import Function as MilFunction  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402

from runtimes.mil.compile import compile_function  # noqa: E402
from runtimes.mil.graph import Block, Function, Literal, Named, Operation, ValueType  # noqa: E402

OPSETS = {
    ct.target.iOS15: "CoreML5",
    ct.target.iOS16: "CoreML6",
    ct.target.iOS17: "CoreML7",
    ct.target.iOS18: "CoreML8",
}
Draw = Callable[[st.SearchStrategy[Any]], Any]
# Not shrunk: building a program costs too much, and the examples are small.
PHASES = (Phase.explicit, Phase.generate)
EXAMPLES = settings(
    max_examples=12, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=list(HealthCheck)
)


def _literal(var: Any) -> Literal:
    value = var.val
    if isinstance(value, str):
        return Literal(ValueType("tensor", "string"), lambda: value)
    array = np.asarray(value)
    return Literal(ValueType("tensor", types.builtin_to_string(var.dtype), array.shape), lambda: array)


def _is_data(operation: Any, parameter: str) -> bool:
    return not operation.input_spec.input_types[parameter].const


def evaluate(operation: Any, opset: str, fold: bool) -> list[Any]:
    """Our answer for one of coremltools' operation objects."""
    arguments: list[Any] = []
    named: list[Named] = []
    inputs: dict[str, tuple[str | Literal, ...]] = {}
    for parameter, bound in operation.inputs.items():
        bindings: list[str | Literal] = []
        for var in bound if isinstance(bound, (list, tuple)) else [bound]:
            if var is None:
                continue
            literal = _literal(var)
            if fold or literal.type.dtype == "string" or not _is_data(operation, parameter):
                bindings.append(literal)
                continue
            name = f"in{len(arguments)}"
            array = np.asarray(var.val)
            arguments.append(torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array.copy()))
            named.append(Named(name, literal.type))
            bindings.append(name)
        if bindings:
            inputs[parameter] = tuple(bindings)
    outputs = tuple(
        Named(f"out{i}", ValueType("tensor", types.builtin_to_string(v.dtype), tuple(v.shape)))
        for i, v in enumerate(operation.outputs)
    )
    ours = Operation(operation.op_type, inputs, outputs, ())
    block = Block(tuple(named), (ours,), tuple(o.name for o in outputs))
    with torch.inference_mode():
        return [r.numpy() for r in compile_function(Function("main", opset, block), "fp32")(*arguments)]


def check(target: Any, build: Callable[[], Any]) -> None:
    """Build an operation on constants; our answers must be theirs."""
    with MilFunction({"unused": mb.placeholder(shape=(1,))}, opset_version=target):
        built = build()
        results = list(built) if isinstance(built, (list, tuple)) else [built]
        operation = results[0].op
        assert all(v.val is not None for v in results), f"{operation.op_type} has no value inference here"
        expected = [np.asarray(v.val) for v in results]
        for fold in (False, True):
            for want, got in zip(expected, evaluate(operation, OPSETS[target], fold), strict=True):
                assert got.shape == want.shape, (operation.op_type, got.shape, want.shape)
                assert (got.dtype.kind == "f") == (want.dtype.kind == "f"), (operation.op_type, got.dtype, want.dtype)
                np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6, err_msg=operation.op_type)


SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
TARGETS = st.sampled_from(list(OPSETS))


def _values(draw: Draw, shape: Sequence[int], low: float = -3.0, high: float = 3.0) -> Any:
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    # Half-integers are among the values: rounding and comparing must agree on ties.
    values = rng.uniform(low, high, tuple(shape))
    ties = np.clip(np.round(values * 2) / 2, low, high)
    return np.where(rng.random(tuple(shape)) < 0.3, ties, values).astype(np.float32)


def _integers(draw: Draw, shape: Sequence[int], low: int, high: int) -> Any:
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return rng.integers(low, high + 1, tuple(shape)).astype(np.int32)


def _axis(draw: Draw, rank: int) -> np.int32:
    return np.int32(draw(st.integers(-rank, rank - 1)))


UNARY = {
    name: (low, high)
    for low, high, names in (
        (
            -3.0,
            3.0,
            "abs atan ceil cos exp exp2 floor round sign sin sinh square tanh relu sigmoid softplus softsign relu6",
        ),
        (-0.9, 0.9, "acos asin atanh tan cosh erf"),
        (0.2, 4.0, "sqrt log rsqrt inverse"),
    )
    for name in names.split()
}


@pytest.mark.parametrize("name", sorted(UNARY))
@EXAMPLES
@given(data=st.data())
def test_unary(name: str, data: st.DataObject) -> None:
    low, high = UNARY[name]
    x = _values(data.draw, data.draw(SHAPES), low, high)
    if name in ("log", "rsqrt", "inverse"):
        epsilon = np.float32(data.draw(st.sampled_from([1e-12, 1e-4, 0.1])))
        check(data.draw(TARGETS), lambda: getattr(mb, name)(x=x, epsilon=epsilon))
    else:
        check(data.draw(TARGETS), lambda: getattr(mb, name)(x=x))


def test_activations_with_parameters() -> None:
    x = np.linspace(-4, 4, 24, dtype=np.float32).reshape(1, 3, 2, 4)
    per_channel = np.array([0.1, 1.0, 2.5], np.float32)
    a, b = np.float32(0.3), np.float32(1.2)
    builds: dict[str, Callable[[], Any]] = {
        "leaky_relu": lambda: mb.leaky_relu(x=x, alpha=a),
        "elu": lambda: mb.elu(x=x, alpha=a),
        "prelu": lambda: mb.prelu(x=x, alpha=per_channel),
        "clamped_relu": lambda: mb.clamped_relu(x=x, alpha=a, beta=b),
        "thresholded_relu": lambda: mb.thresholded_relu(x=x, alpha=a),
        "linear_activation": lambda: mb.linear_activation(x=x, alpha=a, beta=b),
        "sigmoid_hard": lambda: mb.sigmoid_hard(x=x, alpha=a, beta=b),
        "scaled_tanh": lambda: mb.scaled_tanh(x=x, alpha=a, beta=b),
        "softplus_parametric": lambda: mb.softplus_parametric(x=x, alpha=per_channel, beta=per_channel),
        "clip": lambda: mb.clip(x=x, alpha=a, beta=b),
        "threshold": lambda: mb.threshold(x=x, alpha=a),
        "gelu": lambda: mb.gelu(x=x, mode="EXACT"),
        "gelu tanh": lambda: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        "gelu sigmoid": lambda: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
    }
    for build in builds.values():
        check(ct.target.iOS17, build)


ARITHMETIC = ("add", "sub", "mul", "real_div", "floor_div", "mod", "maximum", "minimum")
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


@pytest.mark.parametrize("name", [*ARITHMETIC, *COMPARISONS, "pow"])
@EXAMPLES
@given(data=st.data())
def test_binary(name: str, data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    other = [n if data.draw(st.booleans()) else 1 for n in shape][data.draw(st.integers(0, len(shape) - 1)) :]
    if data.draw(st.booleans()) and name not in ("real_div", "pow"):
        x, y = _integers(data.draw, shape, -5, 5), _integers(data.draw, other, 1, 4)
        y = y * np.int32(data.draw(st.sampled_from([1, -1])))
    else:
        x = _values(data.draw, shape, 0.2 if name == "pow" else -3.0)
        y = _values(data.draw, other, 0.5, 3.0) * np.float32(data.draw(st.sampled_from([1, -1])))
    check(data.draw(TARGETS), lambda: getattr(mb, name)(x=x, y=y))


@pytest.mark.parametrize("name", ["logical_and", "logical_not", "logical_or", "logical_xor"])
@EXAMPLES
@given(data=st.data())
def test_logical(name: str, data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    x, y = (_integers(data.draw, shape, 0, 1).astype(bool) for _ in range(2))
    check(data.draw(TARGETS), lambda: mb.logical_not(x=x) if name == "logical_not" else getattr(mb, name)(x=x, y=y))


NORMS = ("l1_norm", "l2_norm", "log_sum", "log_sum_exp", "sum_square")
REDUCTIONS = ("argmax", "argmin", "max", "mean", "min", "prod", "sum", *NORMS)


@pytest.mark.parametrize("name", REDUCTIONS)
@EXAMPLES
@given(data=st.data())
def test_reductions(name: str, data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    x = _values(data.draw, shape, 0.1, 3.0)
    keep = data.draw(st.booleans())
    if name.startswith("arg"):
        x = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(x.size).reshape(shape).astype(np.float32)
        axis = _axis(data.draw, len(shape))
        check(data.draw(TARGETS), lambda: getattr(mb, f"reduce_{name}")(x=x, axis=axis, keep_dims=keep))
        return
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))), np.int32)
    check(data.draw(TARGETS), lambda: getattr(mb, f"reduce_{name}")(x=x, axes=chosen, keep_dims=keep))


@EXAMPLES
@given(data=st.data())
def test_shaping(data: st.DataObject) -> None:
    shape, target = data.draw(SHAPES), data.draw(TARGETS)
    x, rank = _values(data.draw, shape), len(shape)
    perm = np.array(data.draw(st.permutations(range(rank))), np.int32)
    check(target, lambda: mb.transpose(x=x, perm=perm))
    check(target, lambda: mb.reshape(x=x, shape=np.array([-1], np.int32)))
    check(target, lambda: mb.expand_dims(x=x, axes=np.array([0, -1], np.int32)))
    check(target, lambda: mb.squeeze(x=x[None], axes=np.array([0], np.int32)))
    check(target, lambda: mb.reverse(x=x, axes=np.array([rank - 1], np.int32)))
    check(target, lambda: mb.tile(x=x, reps=_integers(data.draw, (rank,), 1, 3)))
    check(target, lambda: mb.shape(x=x))
    if rank >= 2:
        axis = np.int32(data.draw(st.integers(1, rank - 1)))
        check(target, lambda: mb.flatten2d(x=x, axis=axis))
    check(target, lambda: mb.identity(x=x))


@EXAMPLES
@given(data=st.data())
def test_joining_and_splitting(data: st.DataObject) -> None:
    shape, target = data.draw(SHAPES), data.draw(TARGETS)
    values = [_values(data.draw, shape) for _ in range(data.draw(st.integers(2, 3)))]
    axis = _axis(data.draw, len(shape))
    check(target, lambda: mb.concat(values=values, axis=axis))
    check(target, lambda: mb.stack(values=values, axis=axis))
    joined = np.concatenate(values, axis)
    check(target, lambda: mb.split(x=joined, num_splits=np.int32(len(values)), axis=axis))
    sizes = np.array([shape[axis]] * len(values), np.int32)
    check(target, lambda: mb.split(x=joined, split_sizes=sizes, axis=axis))


@EXAMPLES
@given(data=st.data())
def test_slicing(data: st.DataObject) -> None:
    shape, target = tuple(data.draw(st.lists(st.integers(2, 6), min_size=1, max_size=3))), data.draw(TARGETS)
    x = _values(data.draw, shape)
    begin, end, stride = [], [], []
    for n in shape:
        first = data.draw(st.integers(0, n - 1))
        last = data.draw(st.integers(first + 1, n))
        begin.append(first - n if data.draw(st.booleans()) else first)
        end.append(last - n if last < n and data.draw(st.booleans()) else last)
        stride.append(data.draw(st.integers(1, 3)))
    masks = {m: [data.draw(st.booleans()) for _ in shape] for m in ("begin_mask", "end_mask")}
    squeeze = [data.draw(st.booleans()) and i > 0 for i in range(len(shape))]
    as_int = {k: np.array(v, np.int32) for k, v in (("begin", begin), ("end", end), ("stride", stride))}
    check(target, lambda: mb.slice_by_index(x=x, **as_int, **masks, squeeze_mask=squeeze))
    low = [data.draw(st.integers(0, n - 1)) for n in shape]
    size = [data.draw(st.sampled_from([-1, n - b])) for n, b in zip(shape, low, strict=True)]
    check(target, lambda: mb.slice_by_size(x=x, begin=np.array(low, np.int32), size=np.array(size, np.int32)))


@pytest.mark.filterwarnings("ignore::runtimes.mil.graph.UndefinedWarning")  # what counts from the end, since iOS 17
@EXAMPLES
@given(data=st.data())
def test_gathering(data: st.DataObject) -> None:
    shape, target = data.draw(SHAPES), data.draw(TARGETS)
    x, axis = _values(data.draw, shape), int(_axis(data.draw, len(shape)))
    n = shape[axis]
    indices = _integers(data.draw, data.draw(st.sampled_from([(2,), (2, 3)])), -n, n - 1)
    check(target, lambda: mb.gather(x=x, indices=indices, axis=np.int32(axis)))
    along = _integers(data.draw, shape, -n, n - 1)
    check(target, lambda: mb.gather_along_axis(x=x, indices=along, axis=np.int32(axis)))


@EXAMPLES
@given(data=st.data())
def test_tensor_operations(data: st.DataObject) -> None:
    shape, target = data.draw(SHAPES), data.draw(TARGETS)
    x, axis, rank = _values(data.draw, shape), _axis(data.draw, len(shape)), len(shape)
    reverse = data.draw(st.booleans())
    # coremltools 9 fails on exclusive=True itself.
    check(target, lambda: mb.cumsum(x=x, axis=axis, exclusive=False, reverse=reverse))
    distinct = np.random.default_rng(3).permutation(x.size).reshape(shape).astype(np.float32)
    check(target, lambda: mb.argsort(x=distinct, axis=axis, ascending=reverse))
    k = np.int32(data.draw(st.integers(1, shape[axis])))
    check(target, lambda: mb.topk(x=distinct, k=k, axis=axis, ascending=reverse))
    check(target, lambda: mb.softmax(x=x, axis=axis))
    check(target, lambda: mb.fill(shape=np.array(shape, np.int32), value=np.float32(1.5)))
    start, step = np.float32(data.draw(st.integers(-3, 3))), np.float32(data.draw(st.sampled_from([0.5, 1, 2])))
    check(target, lambda: mb.range_1d(start=start, end=np.float32(start + 4), step=step))
    cond = _integers(data.draw, shape, 0, 1).astype(bool)
    check(target, lambda: mb.select(cond=cond, a=x, b=distinct))
    check(target, lambda: mb.non_zero(x=np.where(cond, x, 0).astype(np.float32)))
    if rank >= 2:
        lower, upper = (np.int32(data.draw(st.integers(-1, 3))) for _ in range(2))
        check(target, lambda: mb.band_part(x=x, lower=lower, upper=upper))
    pad = _integers(data.draw, (2 * rank,), 0, 2)
    check(target, lambda: mb.pad(x=x, pad=pad, mode="constant", constant_val=np.float32(0.5)))


@EXAMPLES
@given(data=st.data())
def test_linear_algebra(data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(1, 5)) for _ in range(3))
    batch, target = data.draw(st.sampled_from([(), (2,), (2, 3)])), data.draw(TARGETS)
    tx, ty = data.draw(st.booleans()), data.draw(st.booleans())
    x = _values(data.draw, (*batch, k, m) if tx else (*batch, m, k))
    y = _values(data.draw, (*batch, n, k) if ty else (*batch, k, n))
    check(target, lambda: mb.matmul(x=x, y=y, transpose_x=tx, transpose_y=ty))
    w, b = _values(data.draw, (n, k)), _values(data.draw, (n,))
    flat = _values(data.draw, (m, k))
    check(target, lambda: mb.linear(x=flat, weight=w, bias=b))


@EXAMPLES
@given(data=st.data())
def test_cast(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    x = _values(data.draw, shape) if data.draw(st.booleans()) else _integers(data.draw, shape, -9, 9)
    to = data.draw(st.sampled_from(["int32", "fp32", "bool"]))
    check(data.draw(TARGETS), lambda: mb.cast(x=x, dtype=to))
