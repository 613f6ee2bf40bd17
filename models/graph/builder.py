"""A graph being written: each operation is computed as it is added, and what reads constants alone becomes one.

So shapes and values are known while a graph is rewritten, and weight norms, windows, masks and positions, which torch
computes anew at every call, stand in the result as plain constants.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from models.layers.constants import BEYOND_AUDIO


@dataclass(frozen=True)
class Origin:
    """Where in the user's code an operation stands.

    Attributes:
        module: dotted path of the innermost module, "" for the net itself.
        kind: its class's name, if it is one of torch's own layers ("Conv1d"); else "".
        name: of the operation, as torch has it.
        line: "net.py, line 12", or "".
        kinds: paths and class names of all modules around it, outermost first.
        precise: whether it stays in float32 in fp16 artefacts.
    """

    module: str = ""
    kind: str = ""
    name: str = ""
    line: str = ""
    kinds: tuple[tuple[str, str], ...] = ()
    precise: bool = False

    def __str__(self) -> str:
        """As its author knows it: "'encoder.0' (Conv1d)", or "cat in 'block' (net.py, line 12)"."""
        if self.kind and self.module:
            return f"{self.module!r} ({self.kind})"
        place = f" ({self.line})" if self.line else ""
        return f"{self.name}{f' in {self.module!r}' if self.module else ''}{place}"


@dataclass(frozen=True, eq=False)
class Value:
    """What a graph computes, or a constant of it.

    Attributes:
        tensor: its value for the example inputs.
        node: in the graph; None for a constant.
    """

    tensor: Tensor
    node: fx.Node | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def is_constant(self) -> bool:
        return self.node is None


class Op(nn.Module):
    """One operation as a module, so that its precision can be named; its constants are its own."""

    def __init__(self, target: Any, args: Any, kwargs: Any, constants: Sequence[Tensor]) -> None:
        super().__init__()
        self.target, self.args, self.kwargs = target, args, kwargs
        for index, value in enumerate(constants):
            self.register_buffer(f"constant{index}", value)

    def forward(self, *inputs: Tensor) -> Any:
        def fill(slot: Any) -> Any:
            return getattr(self, f"constant{slot.index}") if slot.constant else inputs[slot.index]

        return self.target(*_replace(self.args, _Slot, fill), **_replace(self.kwargs, _Slot, fill))


@dataclass(frozen=True)
class _Slot:
    index: int
    constant: bool


class Builder:
    """Writes a graph.

    Attributes:
        graph, modules: what a GraphModule is made of.
        values: each node's value for the example inputs.
        origin: of the operations that are added now; `operation`: the one that is being lowered.
        fp32: names of modules that stay in float32.
        joined: a value that was assigned to in parts -> its axis and parts.

    Args:
        wraps: put operations that stay in float32 into modules, so that converters can tell them.
    """

    def __init__(self, wraps: bool = False) -> None:
        self.graph, self.modules = fx.Graph(), dict[str, Any]()
        self.values: dict[fx.Node, Any] = {}
        self.origin, self.operation = Origin(), ""
        self.fp32: list[str] = []
        self.joined: dict[fx.Node, tuple[int, list[Value]]] = {}
        self.wraps = wraps
        self._constants: dict[int, tuple[Tensor, fx.Node]] = {}
        self._last_placeholder: fx.Node | None = None

    # --- values -------------------------------------------------------------------------------------------------

    def placeholder(self, name: str, example: Tensor) -> Value:
        """An input or a state; they stand in front, in the order of the calls."""
        if self._last_placeholder is None:
            with self.graph.inserting_before(next(iter(self.graph.nodes), None)):
                node = self.graph.placeholder(name)
        else:
            with self.graph.inserting_after(self._last_placeholder):
                node = self.graph.placeholder(name)
        self._last_placeholder = node
        return self._kept(node, example)

    def constant(self, value: Tensor | float) -> Value:
        """A value that no input changes."""
        return Value(value if isinstance(value, Tensor) else torch.tensor(value))

    def node_of(self, value: Value) -> fx.Node:
        """Its node; a constant gets one."""
        if value.node is not None:
            return value.node
        known = self._constants.get(id(value.tensor))
        if known is not None:
            return known[1]
        name = self._free("constant")
        self.modules[name] = _plain(value.tensor)
        node = self.graph.get_attr(name)
        self._constants[id(value.tensor)] = (value.tensor, node)  # held, so that its id stays its own
        self.values[node] = value.tensor
        node.meta["origin"] = self.origin
        return node

    # --- operations ---------------------------------------------------------------------------------------------

    def op(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        """Add an operation of torch: a name of torch.ops.aten, or a callable.

        Args:
            target: "cat", or what is called with args and kwargs; Values stand for tensors.

        Returns:
            a Value, or a tuple of them.
        """
        if isinstance(target, str):
            target = getattr(torch.ops.aten, target)
        with torch.no_grad():
            result = target(*_tensors(args), **_tensors(kwargs))
        inputs = [value for value in flat((args, kwargs)) if isinstance(value, Value)]
        if all(value.is_constant for value in inputs):
            return _tuple(result, self.constant)
        if self.wraps and self.origin.precise:
            node = self._op_module(target, args, kwargs)
        else:
            nodes = _replace((args, kwargs), Value, self.node_of)
            node = self.graph.call_function(target, nodes[0], nodes[1])
        return self._results(node, result)

    def module(self, module: nn.Module, *inputs: Value, name: str = "", fp32: Iterable[str] = ()) -> Any:
        """Call a module of ours, which is put under a name made of `name`.

        Args:
            fp32: parts of it that stay in float32; "" for all of it.
        """
        with torch.no_grad():
            result = module(*(value.tensor for value in inputs))
        name = self._free(name or type(module).__name__.lower())
        self.modules[name] = module
        self.fp32 += [f"{name}.{part}" if part else name for part in fp32]
        return self._results(self.graph.call_module(name, tuple(map(self.node_of, inputs))), result)

    def output(self, values: Sequence[Value]) -> None:
        """What the graph returns.

        In the last form an input handed through, or one value handed out twice, is clamped far beyond any value:
        LiteRT's CompiledModel computes garbage for the first, and Core ML cannot name either.
        """
        nodes: list[fx.Node] = []
        for value in values:
            node = self.node_of(value)
            if self.wraps and (node.op == "get_attr" or node in nodes or self._is_an_input(value.tensor)):
                node = self.node_of(self.op("clamp", Value(value.tensor, node), -BEYOND_AUDIO, BEYOND_AUDIO))
            nodes.append(node)
        self.graph.output(tuple(nodes))

    def finish(self, name: str) -> fx.GraphModule:
        """The graph as a module, without what nothing reads."""
        module = fx.GraphModule(self.modules, self.graph, class_name=name).eval()
        self.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()
        used = {str(node.target) for node in self.graph.nodes if node.op == "call_module"}
        self.fp32 = [part for part in self.fp32 if part.partition(".")[0] in used]
        return module

    @contextmanager
    def at(self, origin: Origin) -> Iterator[None]:
        """Operations added meanwhile come from there."""
        before, self.origin = self.origin, origin
        try:
            yield
        finally:
            self.origin = before

    @contextmanager
    def precise(self) -> Iterator[None]:
        """Operations added meanwhile stay in float32: a rounded DFT matrix is another transform."""
        with self.at(replace(self.origin, precise=True)):
            yield

    def _is_an_input(self, value: Tensor) -> bool:
        """Whether it is what came in, if only after a way round."""
        inputs = [self.values[node] for node in self.graph.nodes if node.op == "placeholder"]
        alike = [x for x in inputs if x.numel() == value.numel()]
        return any(torch.equal(x.reshape(-1).float(), value.reshape(-1).float()) for x in alike)

    # --- parts --------------------------------------------------------------------------------------------------

    def _op_module(self, target: Any, args: Any, kwargs: Any) -> fx.Node:
        name = self._free(f"kept_{self.origin.name or 'op'}")
        self.modules[name], live = _as_module(
            target, args, kwargs, Value, lambda value: value.tensor if value.is_constant else None
        )
        self.fp32.append(name)
        return self.graph.call_module(name, tuple(map(self.node_of, live)))

    def _results(self, node: fx.Node, result: Any) -> Any:
        node.meta["origin"] = self.origin
        self.values[node] = result
        if isinstance(result, Tensor):
            return Value(result, node)
        items = []
        for index, item in enumerate(result):
            items.append(self._kept(self.graph.call_function(operator.getitem, (node, index)), item))
        return tuple(items)

    def _kept(self, node: fx.Node, value: Tensor) -> Value:
        node.meta["origin"] = self.origin
        self.values[node] = value
        return Value(value, node)

    def _free(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self.modules:
            count += 1
            name = f"{wanted}_{count}"
        return name


def target_name(target: Any) -> str:
    """What an operation is called in torch: "cat"."""
    return str(getattr(getattr(target, "overloadpacket", target), "__name__", target))


def name_of(node: fx.Node) -> str:
    """What a node's operation is called in torch; "" for what is none."""
    return target_name(node.target) if node.op == "call_function" else ""


def keep(
    module: fx.GraphModule, names: Collection[str], fp32: Collection[str]
) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """A copy of a graph of which more stays in float32.

    Args:
        module: in its last form.
        names: of nodes that are to stay in float32.
        fp32: names of its parts that do already.

    Returns:
        the copy, and names of its parts that stay in float32.
    """
    copied = copy.deepcopy(module)
    graph, precise = copied.graph, list(fp32)
    for node in [n for n in graph.nodes if n.name in names]:
        if node.op == "call_module":
            precise = [part for part in precise if not part.startswith(f"{node.target}.")] + [str(node.target)]
            continue
        args, kwargs = unfrozen(node.args), unfrozen(node.kwargs)
        one, live = _as_module(node.target, args, kwargs, fx.Node, lambda n: constant_of(copied, n))
        name = f"kept_{node.name}"
        while hasattr(copied, name):
            name += "_"
        copied.add_submodule(name, one)
        precise.append(name)
        with graph.inserting_before(node):
            new = graph.call_module(name, tuple(live))
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    copied.delete_all_unused_submodules()
    copied.recompile()
    return copied.eval(), tuple(precise)


def _as_module(
    target: Any, args: Any, kwargs: Any, kind: type, constant: Callable[[Any], Tensor | None]
) -> tuple[Op, list[Any]]:
    """One operation as a module, and what it is called with.

    Args:
        target, args, kwargs: of the operation.
        kind: what stands for tensors in args and kwargs.
        constant: its value, if one of these is a constant.
    """
    live: list[Any] = []
    constants: list[Tensor] = []

    def slot(value: Any) -> _Slot:
        own = constant(value)
        if own is not None:
            constants.append(_plain(own))
            return _Slot(len(constants) - 1, True)
        if value not in live:
            live.append(value)
        return _Slot(live.index(value), False)

    args, kwargs = _replace((args, kwargs), kind, slot)
    return Op(target, args, kwargs, constants), live


def constant_of(module: fx.GraphModule, node: fx.Node) -> Tensor | None:
    """The tensor that a get_attr node reads; None for any other node."""
    value: Tensor | None = operator.attrgetter(str(node.target))(module) if node.op == "get_attr" else None
    return value


def unfrozen(tree: Any) -> Any:
    """fx's immutable lists and dicts as ordinary ones: operations of torch want these."""
    if isinstance(tree, tuple):
        return tuple(map(unfrozen, tree))
    if isinstance(tree, list):
        return [unfrozen(item) for item in tree]
    return {key: unfrozen(item) for key, item in tree.items()} if isinstance(tree, dict) else tree


def tensors(value: Any) -> list[Tensor]:
    """All in whatever an operation returned."""
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in tensors(item)] if isinstance(value, tuple | list) else []


def _plain(value: Tensor) -> Tensor:
    """A constant as a graph has it: contiguous, float32 where it is a float."""
    value = value.detach()
    return (value.float() if value.is_floating_point() else value).contiguous().clone()


def _replace(tree: Any, kind: type, how: Any) -> Any:
    if isinstance(tree, kind):
        return how(tree)
    if isinstance(tree, tuple | list):
        return type(tree)(_replace(item, kind, how) for item in tree)
    if isinstance(tree, dict):
        return {key: _replace(item, kind, how) for key, item in tree.items()}
    return tree


def _tensors(tree: Any) -> Any:
    return _replace(tree, Value, lambda value: value.tensor)


def flat(tree: Any) -> Iterator[Any]:
    """What is not a list, a tuple or a dict, of all that these hold."""
    if isinstance(tree, tuple | list):
        for item in tree:
            yield from flat(item)
    elif isinstance(tree, dict):
        yield from flat(list(tree.values()))
    else:
        yield tree


def _tuple(result: Any, how: Any) -> Any:
    return how(result) if isinstance(result, Tensor) else tuple(map(how, result))
