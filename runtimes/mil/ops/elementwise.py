"""Elementwise arithmetic, comparison, logic and casts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from runtimes.mil.ops.table import TORCH_DTYPES, Kernel, Node, broadcasting, op, simple

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
}
UNARY_EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    "round": torch.round,
    "sign": torch.sign,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "mul": torch.mul,
    "pow": torch.pow,
    "sub": torch.sub,
}
BINARY_EXACT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "equal": torch.eq,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "not_equal": torch.ne,
}

# Smallest and largest value of the types that a cast can go to; int64 is held as int32.
INTEGERS: dict[str, tuple[int, int]] = {
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**31), 2**31 - 1),
    "uint64": (0, 2**53),
}

for _name, _unary in UNARY.items():
    simple(_name, _unary, "x")
for _name, _unary in UNARY_EXACT.items():
    simple(_name, _unary, "x", rounds=False)
for _name, _binary in BINARY.items():
    simple(_name, _binary, "x", "y")
for _name, _binary in BINARY_EXACT.items():
    simple(_name, _binary, "x", "y", rounds=False)


@op("real_div")
def real_div(node: Node) -> Kernel:
    """x / y; between integers the quotient is cut towards zero, as ML Programs do."""
    if node.is_float():
        return broadcasting(node, torch.div, "x", "y")
    return broadcasting(node, lambda x, y: torch.div(x, y, rounding_mode="trunc"), "x", "y")


def _epsilon(node: Node, default: float) -> float:
    # The default 1e-45 of log and 1e-12 of rsqrt are given in x's own type: zero in half.
    if node.type().dtype == "fp16" and default < 2.0**-25:
        default = 0.0
    return node.number("epsilon", default)


@op("log")
def log(node: Node) -> Kernel:
    """ln(x + epsilon)."""
    epsilon = _epsilon(node, 1e-45)
    if epsilon == 0.0:
        return Kernel(torch.log, ("x",))
    return Kernel(lambda x: torch.log(x + epsilon), ("x",))


@op("rsqrt")
def rsqrt(node: Node) -> Kernel:
    """1 / sqrt(x + epsilon)."""
    epsilon = _epsilon(node, 1e-12)
    if epsilon == 0.0:
        return Kernel(torch.rsqrt, ("x",))
    return Kernel(lambda x: torch.rsqrt(x + epsilon), ("x",))


@op("inverse")
def inverse(node: Node) -> Kernel:
    """1 / (x + epsilon)."""
    epsilon = _epsilon(node, 1e-4)
    return Kernel(lambda x: torch.reciprocal(x + epsilon), ("x",))


@op("clip", rounds=False)
def clip(node: Node) -> Kernel:
    """x limited to [alpha, beta]."""
    low, high = float(node.need("alpha")), float(node.need("beta"))
    return Kernel(lambda x: torch.clamp(x, low, high), ("x",))


@op("threshold", rounds=False)
def threshold(node: Node) -> Kernel:
    """max(x, alpha)."""
    low = float(node.need("alpha"))
    return Kernel(lambda x: torch.clamp_min(x, low), ("x",))


@op("select", rounds=False)
def select(node: Node) -> Kernel:
    """a where cond, else b."""
    if node.type("cond").dtype == "bool":
        return broadcasting(node, torch.where, "cond", "a", "b")
    return broadcasting(node, lambda c, a, b: torch.where(c != 0, a, b), "cond", "a", "b")


@op("identity", rounds=False)
def identity(_node: Node) -> Kernel:
    """x."""
    return Kernel(None, ("x",))


def _whole(node: Node, x: Tensor, low: int, high: int) -> Tensor:
    """Floats cut towards zero, as float64 inside [low, high]."""
    cut = x.double().trunc()
    if not bool(((cut >= low) & (cut <= high)).all()):
        node.undefined(f"a float outside [{low}, {high}] is cast to an integer")
        cut = torch.nan_to_num(cut, nan=0.0).clamp(low, high)
    return cut


@op("cast")
def cast(node: Node) -> Kernel:
    """x in another type; floats are cut towards zero on the way to integers.

    Core ML does not define what a float beyond the integers' range becomes, and processors differ; here it becomes the
    nearest integer of the type, NaN 0, as an ARM processor converts. Integers that do not fit keep their low bits.
    """
    source, target = node.type().dtype, node.out_type.dtype
    if target not in TORCH_DTYPES or source not in TORCH_DTYPES:
        raise node.refuse(f"a cast from {source} to {target} is not supported")
    dtype = TORCH_DTYPES[target]
    if source.startswith("fp") and target in INTEGERS:
        return Kernel(lambda x: _whole(node, x, *INTEGERS[target]).to(dtype), ("x",))
    if target == "uint16" and source != "uint16":
        return Kernel(lambda x: x.to(torch.int64).bitwise_and(0xFFFF).to(dtype), ("x",))
    if TORCH_DTYPES[source] == dtype:
        return Kernel(None, ("x",))
    return Kernel(lambda x: x.to(dtype), ("x",))
