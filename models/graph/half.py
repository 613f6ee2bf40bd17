"""A graph in half precision, operation by operation, as fp16 artefacts compute; and what each operation loses.

An operation in half reads halves, constants among them, and gives halves; inside it computes in float32, but for those
that are several operations once converted. What an operation does to the output is, to first order, its own rounding
error times the output's derivative by its result: one run backwards gives the derivatives for all of them.
"""

from __future__ import annotations

import copy
import math
import operator
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from models.graph.builder import Origin

Key = tuple[str, str]

# They only put values elsewhere: in front of an operation in float32 they are in float32 too.
_MOVES = {
    "reshape",
    "view",
    "slice",
    "unsqueeze",
    "squeeze",
    "permute",
    "transpose",
    "cat",
    "select",
    "split",
    "getitem",
}
_DIRECTIONS = 4
_LEAST, _FEW = 2.0**-24, 400


def rounded(value: Any) -> Any:
    """Tensors to the nearest half, infinity beyond 65,504; lists and tuples by their parts."""
    if isinstance(value, Tensor):
        return value.half().float() if value.is_floating_point() else value
    return type(value)(map(rounded, value)) if isinstance(value, tuple | list) else value


def rounded_constant(value: Tensor) -> Tensor:
    """A constant as coremltools stores it in half: what would become zero becomes the smallest half."""
    half = value.half().float()
    if value.numel() < _FEW:
        half = torch.where((half == 0.0) & (value != 0.0), torch.copysign(torch.tensor(_LEAST), value), half)
    return half


def _beyond(value: Tensor) -> bool:
    """Whether a constant keeps its operation in float32: coremltools leaves it so if half cannot hold its size."""
    size = value.abs()
    return bool(((size > 65504.0) & (size < 1e38)).any())


@dataclass(frozen=True)
class Stretches:
    """Pieces of a stream, side by side: n stretches of c calls.

    Attributes:
        audio: [c, n, 1, samples of a call].
        states: each [n, *shape], in front of the first call.
    """

    audio: Tensor
    states: tuple[Tensor, ...]


class HalfGraph:
    """A graph whose operations can each be computed in half.

    Args:
        module: the graph that is exported; takes audio and states, gives outputs and new states.
        fp32: its parts that stay in float32 anyway.
        least: None for half arithmetic; a number for half weights alone, of so many elements at least.
    """

    def __init__(self, module: fx.GraphModule, fp32: Collection[str], least: int | None = None) -> None:
        self.nodes = list(module.graph.nodes)
        self.least = least
        self._sizes: list[float] | None = None
        self._constants = {
            node: cast(Tensor, operator.attrgetter(str(node.target))(module))
            for node in self.nodes
            if node.op == "get_attr"
        }
        self._half_constants = {id(v): rounded_constant(v) for v in self._constants.values() if v.is_floating_point()}
        called = [node for node in self.nodes if node.op == "call_module"]
        self._modules = {node: module.get_submodule(str(node.target)) for node in called}
        self._halves = {node: _half_module(part, str(node.target), fp32, least) for node, part in self._modules.items()}
        self._fixed = {node for node in called if str(node.target) in fp32}
        if least is None:
            self._fixed |= {node for node in self.nodes if any(map(_beyond, self._constants_of(node)))}
        self.candidates = [
            node
            for node in self.nodes
            if (node.op == "call_module" or (node.op == "call_function" and node.target is not operator.getitem))
            and node not in self._fixed
        ]

    def outputs(self, material: Stretches, kept: Collection[fx.Node] | None) -> Tensor:
        """What comes out: [c, n, *shape]; of several outputs, [c, n, values], each output to its own size.

        Args:
            material: what goes in.
            kept: operations in float32, beside those that always are; None: all.
        """
        halves = frozenset[fx.Node]() if kept is None else self._in_half(kept)

        def how(node: fx.Node, args: Any, kwargs: Any) -> Any:
            return (self._half if node in halves else self._exact)(node, args, kwargs)

        with torch.no_grad():
            outputs = _stream(lambda *inputs: self._evaluate(inputs, how), material)
        if len(outputs) > 1 and self._sizes is None:
            sizes = [float(out.square().mean().sqrt()) for out in outputs]
            self._sizes = [size if math.isfinite(size) and size > 0.0 else 1.0 for size in sizes]
        return self._together(outputs)

    def _together(self, outputs: Sequence[Tensor]) -> Tensor:
        if len(outputs) == 1:
            return outputs[0]
        sizes = self._sizes or [1.0] * len(outputs)
        return torch.cat([out.flatten(2) / size for out, size in zip(outputs, sizes, strict=True)], 2)

    def losses(self, material: Stretches) -> dict[fx.Node, float]:
        """What each operation's rounding does to the output: energy; infinite where half cannot hold its values."""
        deltas, zeros, flat = list[tuple[Any, ...]](), self._zeros(material), list[Tensor]()

        def call(*inputs: Tensor) -> tuple[Any, ...]:
            given, shifts = inputs[: -len(flat)], iter(inputs[-len(flat) :])
            errors: list[Tensor] = []

            def how(node: fx.Node, args: Any, kwargs: Any) -> Any:
                value = self._exact(node, args, kwargs)
                if node not in zeros:
                    return value
                with torch.no_grad():
                    half = self._half(node, _detached(args), _detached(kwargs))
                parts = []
                for exact, other in zip(_several(value), _several(half), strict=True):
                    if exact.is_floating_point():
                        errors.append(other - exact.detach())
                        exact = exact + next(shifts)
                    parts.append(exact)
                return parts[0] if isinstance(value, Tensor) else tuple(parts)

            return self._evaluate(given, how), tuple(errors)

        states: tuple[Tensor, ...] = material.states
        outputs: list[tuple[Tensor, ...]] = []
        shifted: list[list[Tensor]] = []
        with torch.enable_grad():
            for audio in material.audio:
                flat = [z.clone().requires_grad_() for node in zeros for z in zeros[node]]
                results, errors = _batched(call, (audio, *states, *flat))
                outputs.append(results[: len(results) - len(states)])
                states = tuple(results[len(results) - len(states) :])
                deltas.append(errors)
                shifted.append(flat)
            total = self._together([torch.stack(calls) for calls in zip(*outputs, strict=True)])
            generator = torch.Generator().manual_seed(0)
            energies = [torch.zeros(total.shape[1]) for _ in flat]
            for _ in range(_DIRECTIONS):
                signs = torch.randint(0, 2, total.shape, generator=generator) * 2.0 - 1.0
                grads = torch.autograd.grad(
                    (total * signs).sum(), [s for call_ in shifted for s in call_], allow_unused=True, retain_graph=True
                )
                for index in range(len(flat)):
                    moved = torch.zeros(total.shape[1])
                    for at, errors in enumerate(deltas):
                        grad = grads[at * len(flat) + index]
                        if grad is not None:
                            moved += (
                                (torch.nan_to_num(grad, 0.0, 0.0, 0.0) * torch.nan_to_num(errors[index], 0.0, 0.0, 0.0))
                                .flatten(1)
                                .sum(1)
                            )
                    energies[index] += moved.square() / _DIRECTIONS
        losses: dict[fx.Node, float] = {}
        index = 0
        for node, parts in zeros.items():
            rows = range(index, index + len(parts))
            index += len(parts)
            broken = any(not bool(torch.isfinite(errors[row]).all()) for errors in deltas for row in rows)
            losses[node] = float("inf") if broken else sum(float(energies[row].sum()) for row in rows)
        return losses

    def constant(self, node: fx.Node) -> Tensor:
        """What a node of constants reads."""
        return self._constants[node]

    def elements(self, inputs: Sequence[Tensor]) -> int:
        """Of all values of a call.

        Args:
            inputs: of one call, without an axis of stretches.
        """
        return sum(v.numel() for node in self._shapes(inputs).values() for v in node)

    # --- parts --------------------------------------------------------------------------------------------------

    def _constants_of(self, node: fx.Node) -> list[Tensor]:
        """Numbers and tensors that an operation has by itself."""
        found = [self._constants[n] for n in node.all_input_nodes if n in self._constants]
        numbers = [x for x in (*node.args, *node.kwargs.values()) if isinstance(x, float)]
        return [v for v in (*found, *map(torch.tensor, numbers)) if v.is_floating_point()]

    def _rounded(self, tree: Any) -> Any:
        """What an operation in half reads."""
        if isinstance(tree, dict):
            return {key: self._rounded(value) for key, value in tree.items()}
        if isinstance(tree, tuple | list):
            return type(tree)(map(self._rounded, tree))
        if isinstance(tree, float):
            return float(rounded_constant(torch.tensor(tree)))
        return self._half_constants.get(id(tree), rounded(tree))

    def _in_half(self, kept: Collection[fx.Node]) -> frozenset[fx.Node]:
        """Operations in half: not those kept, nor what only moves values to them."""
        precise = {*self._fixed, *kept}
        if self.least is None:
            for node in reversed(self.nodes):
                if _name(node) in _MOVES and any(user in precise for user in node.users):
                    precise.add(node)
        return frozenset(node for node in self.candidates if node not in precise)

    def _shapes(self, inputs: Sequence[Tensor]) -> dict[fx.Node, list[Tensor]]:
        seen: dict[fx.Node, list[Tensor]] = {}

        def how(node: fx.Node, args: Any, kwargs: Any) -> Any:
            value = self._exact(node, args, kwargs)
            seen[node] = [v for v in _several(value) if v.is_floating_point()]
            return value

        with torch.no_grad():
            self._evaluate(inputs, how)
        return seen

    def _zeros(self, material: Stretches) -> dict[fx.Node, list[Tensor]]:
        """A zero for each result of each candidate, for all stretches."""
        count = material.audio.shape[1]
        shapes = self._shapes((material.audio[0, 0], *(s[0] for s in material.states)))
        return {node: [torch.zeros(count, *v.shape) for v in shapes[node]] for node in self.candidates}

    def _evaluate(self, inputs: Sequence[Tensor], how: Callable[[fx.Node, Any, Any], Any]) -> tuple[Tensor, ...]:
        values: dict[fx.Node, Any] = {}
        given = iter(inputs)
        for node in self.nodes:
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "get_attr":
                values[node] = self._constants[node]
            else:
                args, kwargs = (fx.map_arg(part, lambda n: values[n]) for part in (node.args, node.kwargs))
                if node.op == "output":
                    return tuple(args[0])
                values[node] = args[0][args[1]] if node.target is operator.getitem else how(node, args, kwargs)
        raise AssertionError("a graph without an output")

    def _exact(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        return cast(Any, self._modules.get(node, node.target))(*args, **kwargs)

    def _half(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if self.least is not None:
            given = list(args)
            for index, arg in enumerate(node.args):
                if isinstance(arg, fx.Node) and arg in self._constants and self._constants[arg].numel() >= self.least:
                    given[index] = rounded(given[index])
            return cast(Any, self._halves.get(node, node.target))(*given, **kwargs)
        args, kwargs = self._rounded(tuple(args)), self._rounded(kwargs)
        parts = _PARTS.get(_name(node))
        return rounded((parts or cast(Any, self._halves.get(node, node.target)))(*args, **kwargs))


def group_of(node: fx.Node) -> Key:
    """What is kept together: a layer of torch's, or an operation at one line of the user's code, wherever called."""
    origin: Origin = node.meta.get("origin", Origin())
    if origin.kind or not origin.line:
        return ("", origin.module or node.name)
    return (origin.line, origin.name)


# --- operations that are several once converted -------------------------------------------------------------


def _moments(x: Tensor, dim: Any, correction: float, keepdim: bool) -> tuple[Tensor, Tensor]:
    axes = list(range(x.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    mean = rounded(x.mean(axes, True))
    away = rounded(x - mean)
    variance: Tensor = rounded(away * away).mean(axes, keepdim)
    variance = rounded(rounded(variance) * (count / max(count - correction, 1e-9)))
    return variance, mean if keepdim else mean.reshape(variance.shape)


def _var(x: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Tensor:
    correction = (1.0 if unbiased in (None, True) else 0.0) if correction is None else float(correction)
    return _moments(x, dim, correction, keepdim)[0]


def _std(*args: Any, **kwargs: Any) -> Tensor:
    return _var(*args, **kwargs).sqrt()


def _var_mean(x: Tensor, dim: Any = None, *, correction: Any = 1.0, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return _moments(x, dim, 1.0 if correction is None else float(correction), keepdim)


def _group_norm(x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any) -> Tensor:
    grid = x.reshape(x.shape[0], groups, -1)
    variance, mean = _moments(grid, 2, 0.0, True)
    y: Tensor = rounded(rounded(grid - mean) / rounded(rounded(variance + eps).sqrt())).reshape(x.shape)
    rows = [1, x.shape[1], *[1] * (x.dim() - 2)]
    y = y if weight is None else rounded(y * weight.reshape(rows))
    return y if bias is None else y + bias.reshape(rows)


_PARTS: Mapping[str, Callable[..., Any]] = {
    "var": _var,
    "std": _std,
    "var_mean": _var_mean,
    "group_norm": _group_norm,
}


# --- helpers ------------------------------------------------------------------------------------------------


def _name(node: fx.Node) -> str:
    if node.op == "call_module":
        return ""
    return str(getattr(getattr(node.target, "overloadpacket", node.target), "__name__", node.target))


def _half_module(part: nn.Module, name: str, fp32: Collection[str], least: int | None) -> nn.Module:
    """A module of ours with half weights, but for its parts in float32."""
    half = copy.deepcopy(part)
    with torch.no_grad():
        for path, value in (*half.named_parameters(), *half.named_buffers()):
            full = f"{name}.{path}"
            inside = any(full == kept or full.startswith(f"{kept}.") for kept in fp32)
            if value.is_floating_point() and not inside and value.numel() >= (least or 0):
                value.copy_(rounded(value))
    return half


def _several(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _detached(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach()
    if isinstance(tree, dict):
        return {key: _detached(value) for key, value in tree.items()}
    return type(tree)(map(_detached, tree)) if isinstance(tree, tuple | list) else tree


def _batched(call: Callable[..., Any], inputs: Sequence[Tensor]) -> Any:
    """A call for all stretches at once, or one after another where an operation cannot do that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operations that are slow for all at once
        try:
            return torch.vmap(call)(*inputs)
        except RuntimeError:
            parts = [call(*(value[index] for value in inputs)) for index in range(len(inputs[0]))]
            return tree_map(lambda *values: torch.stack(values), *parts)


def _stream(call: Callable[..., tuple[Tensor, ...]], material: Stretches) -> list[Tensor]:
    states, outputs = material.states, list[tuple[Tensor, ...]]()
    for audio in material.audio:
        results = _batched(call, (audio, *states))
        outputs.append(results[: len(results) - len(states)])
        states = tuple(results[len(results) - len(states) :])
    return [torch.stack(calls) for calls in zip(*outputs, strict=True)]
