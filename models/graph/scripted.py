"""TorchScript inside a net: each scripted module gives way to its reader while the net is captured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models.common.errors import ConversionError, first_line
from models.graph.builder import tensors
from models.graph.script_reader import ScriptReader


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
