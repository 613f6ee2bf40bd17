"""TorchScript inside a net: while the net is captured, each scripted module's graph is run node by node by Python.

So torch.export follows it as it follows any forward. A branch on a shape, on whether an option is None or on the length
of a list is decided while the graph runs; one on values of the audio is refused as in the user's own code.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.common.errors import ConversionError, first_line
from models.graph.builder import tensors

_script: Any = torch._C  # its schemas are untyped

# What TorchScript has for lists, numbers and texts; with a tensor among its inputs it is torch's own.
_PLAIN: dict[str, Callable[..., Any]] = {
    "aten::__not__": operator.not_,
    "aten::__and__": operator.and_,
    "aten::__or__": operator.or_,
    "aten::__contains__": operator.contains,
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
    "aten::lt": operator.lt,
    "aten::le": operator.le,
    "aten::gt": operator.gt,
    "aten::ge": operator.ge,
    "aten::add": operator.add,
    "aten::sub": operator.sub,
    "aten::mul": operator.mul,
    "aten::div": operator.truediv,
    "aten::floordiv": operator.floordiv,
    "aten::remainder": operator.mod,
    "aten::neg": operator.neg,
    "aten::str": str,
    "aten::format": lambda text, *values: text.format(*values),
    "aten::warn": lambda *_: None,
}
# The same of lists, which may hold tensors, and of what is asked of one.
_LISTS: dict[str, Callable[..., Any]] = {
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::Int": int,
    "aten::Float": float,
    "aten::Bool": bool,
    "aten::len": len,
    "aten::__getitem__": operator.getitem,
    "aten::append": lambda values, value: (values.append(value), values)[1],
    "aten::list": list,
    "prim::ListConstruct": lambda *values: list(values),
    "prim::TupleConstruct": lambda *values: tuple(values),
    "prim::TupleIndex": operator.getitem,
    "prim::unchecked_cast": lambda value: value,
    "aten::_unwrap_optional": lambda value: value,
    "prim::device": lambda value: value.device,
    "prim::dtype": lambda value: value.dtype,
    "prim::data": lambda value: value.detach(),
    "prim::is_cuda": lambda _: False,
    "prim::Uninitialized": lambda: None,
    "prim::NumToTensor": torch.tensor,
    "prim::Print": lambda *_: None,
    "prim::min": min,
    "prim::max": max,
}


@dataclass(frozen=True)
class _Place:
    """A module inside the scripted one."""

    path: str
    module: Any


class ScriptReader(nn.Module):
    """A scripted module, its graph run by Python.

    Args:
        scripted: the module, in eval mode.
        where: "net.py:build: 'vad' (TorchScript)", for messages.
    """

    def __init__(self, scripted: torch.jit.ScriptModule, where: str) -> None:
        super().__init__()
        self.scripted, self.where = [scripted], where  # in a list: no submodule, whose tensors are the graph's own
        self.graph: Any = scripted.inlined_graph
        for path, value in (*scripted.named_parameters(), *scripted.named_buffers()):
            self.register_buffer(path.replace(".", "__"), value.detach())

    def forward(self, *inputs: Any) -> Any:
        """What the scripted module gives.

        Raises:
            ConversionError: it keeps state, or has a node that is no function of its inputs.
        """
        names = [value.debugName() for value in self.graph.inputs()]
        known: dict[str, Any] = dict(zip(names, (_Place("", self.scripted[0]), *inputs), strict=False))
        for value in list(self.graph.inputs())[1 + len(inputs) :]:
            known[value.debugName()] = None
        for (argument, name), given in zip(self._defaults(), names[1:], strict=False):
            known[given] = argument if known[given] is None and name else known[given]
        self._run(self.graph, known)
        results = [known[value.debugName()] for value in self.graph.outputs()]
        return results[0] if len(results) == 1 else tuple(results)

    def _defaults(self) -> list[tuple[Any, bool]]:
        """Of forward's arguments: the default, and whether there is one."""
        forward: Any = self.scripted[0].forward
        arguments: Any = forward.schema.arguments[1:]
        return [(a.default_value, a.has_default_value()) for a in arguments]

    def _run(self, block: Any, known: dict[str, Any]) -> None:
        for node in block.nodes():
            values = [known[value.debugName()] for value in node.inputs()]
            results = self._step(node, node.kind(), values, known)
            for value, result in zip(node.outputs(), results, strict=True):
                known[value.debugName()] = result

    def _step(self, node: Any, kind: str, values: list[Any], known: dict[str, Any]) -> list[Any]:
        """One node's results."""
        if kind == "prim::Constant":
            return [node.output().toIValue()]
        if kind == "prim::GetAttr":
            return [self._attribute(values[0], node.s("name"))]
        if kind == "prim::If":
            branch = list(node.blocks())[0 if values[0] else 1]
            self._run(branch, known)
            return [known[value.debugName()] for value in branch.outputs()]
        if kind == "prim::Loop":
            return self._loop(node, values, known)
        if kind in ("prim::ListUnpack", "prim::TupleUnpack"):
            return list(values[0])
        if kind == "prim::RaiseException":
            raise ConversionError(f"{self.where}: raises {values[0]!r} for these shapes")
        if kind == "prim::SetAttr":
            raise ConversionError(
                f"{self.where}: changes {node.s('name')!r}: a converted model would lose the change without a word; "
                "take the inner module that has its state as an input and an output"
            )
        function = _LISTS.get(kind)
        if function is None and not any(isinstance(value, Tensor) for value in values):
            function = _PLAIN.get(kind)
        result = function(*values) if function is not None else self._operation(node, kind, values)
        count = node.outputsSize()
        return [result] if count == 1 else list(result) if count else []

    def _attribute(self, owner: Any, name: str) -> Any:
        """A tensor of the module, which is a buffer here; a number, or a module inside."""
        path = f"{owner.path}.{name}".lstrip(".")
        value = getattr(owner.module, name)
        if isinstance(value, Tensor):
            return getattr(self, path.replace(".", "__"))
        return _Place(path, value) if isinstance(value, nn.Module) else value

    def _loop(self, node: Any, values: list[Any], known: dict[str, Any]) -> list[Any]:
        most, going, *carried = values
        body = next(iter(node.blocks()))
        count, *inner = (value.debugName() for value in body.inputs())
        turn = 0
        while turn < most and going:
            known[count] = turn
            known.update(zip(inner, carried, strict=True))
            self._run(body, known)
            going, *carried = (known[value.debugName()] for value in body.outputs())
            turn += 1
        return carried

    def _operation(self, node: Any, kind: str, values: list[Any]) -> Any:
        """One of torch's own."""
        namespace, _, name = kind.partition("::")
        if namespace != "aten" or node.schema() == "(no schema)":
            raise ConversionError(f"{self.where}: has a node {kind}, which has no form outside of TorchScript")
        schema = _script.parse_schema(node.schema())
        overload = getattr(getattr(torch.ops.aten, name), schema.overload_name or "default")
        pairs = list(zip(schema.arguments, values, strict=True))
        named = {a.name: value for a, value in pairs if a.kwarg_only}
        return overload(*(value for a, value in pairs if not a.kwarg_only), **named)


class _Listening(nn.Module):
    """A scripted module that remembers what it was called with."""

    def __init__(self, scripted: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.scripted = [scripted]  # in a list: no submodule, so that it is found once
        self.inputs: tuple[Any, ...] = ()

    def forward(self, *inputs: Any) -> Any:
        self.inputs = inputs
        return self.scripted[0](*inputs)


@contextmanager
def unscripted(module: nn.Module, inputs: Sequence[Tensor], who: str) -> Iterator[None]:
    """A module whose TorchScript can be captured meanwhile.

    Args:
        module: takes `inputs`.
        who: whose net it is, for messages.

    Raises:
        ConversionError: a scripted module cannot be read.
    """
    places = list(_scripted(module, ""))
    if not places:
        yield
        return
    listening = [_Listening(scripted) for _, _, _, scripted in places]
    try:
        for (parent, name, _, _), listener in zip(places, listening, strict=True):
            parent._modules[name] = listener
        with torch.no_grad():
            module(*inputs)
        for (parent, name, path, scripted), listener in zip(places, listening, strict=True):
            if listener.inputs:
                parent._modules[name] = _read(scripted, listener.inputs, f"{who}: {path!r} (TorchScript)")
        yield
    finally:
        for parent, name, _, scripted in places:
            parent._modules[name] = scripted


def _scripted(module: nn.Module, path: str) -> Iterator[tuple[nn.Module, str, str, torch.jit.ScriptModule]]:
    """The outermost scripted modules: parent, name, path, module."""
    for name, child in module.named_children():
        inner = f"{path}.{name}".lstrip(".")
        if isinstance(child, torch.jit.ScriptModule):
            yield module, name, inner.removeprefix("net.") if inner != "net" else "net", child
        else:
            yield from _scripted(child, inner)


def _read(scripted: torch.jit.ScriptModule, inputs: tuple[Any, ...], where: str) -> nn.Module:
    """The module as its reader, which must give the same.

    Raises:
        ConversionError: it has no form outside of TorchScript.
    """
    reader = ScriptReader(scripted, where)
    try:
        with torch.no_grad():
            one, two = scripted(*inputs), reader(*inputs)
    except ConversionError:
        raise
    except Exception as exc:  # an operation of torch may raise anything
        said = first_line(exc)[:200]
        raise ConversionError(f"{where}: cannot be read ({said}); export its Python source") from exc
    for a, b in zip(tensors(one), tensors(two), strict=True):
        if a.shape != b.shape or not torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True):
            raise ConversionError(f"{where}: is read as another net; export its Python source")
    return reader
