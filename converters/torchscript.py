"""A net in TorchScript: from an archive (model.pt) or a factory that gives one, to a torch graph that can be converted.

An archive has no Python in it, and neither converter takes a ScriptModule. torch follows its program for the fixed
shapes of a window; the result computes the same. For streams a net has to be followed by its layers, which are gone.
"""

from __future__ import annotations

import dataclasses
import logging
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.checks import example_inputs
from models.common.errors import ConversionError, UsageError
from models.common.hashing import sha256_file
from models.custom.entry import CustomEntry
from models.custom.loading import Loaded, Target

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_archive(target: Target) -> Loaded:
    """A TorchScript archive in place of what a factory returns.

    Raises:
        UsageError: it is none; a checkpoint most likely.
    """
    import torch

    file = Path(target.module).resolve()
    load: Any = torch.jit.load  # untyped in torch
    try:
        net = load(str(file), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as exc:
        raise UsageError(
            f"{file.name}: holds no TorchScript; if it holds weights, give the code, path/net.py:build, and this file "
            f"with --weights"
        ) from exc
    return Loaded(types.ModuleType(file.stem), net, ((file.name, sha256_file(file)),), "")


def as_graph(net: nn.Module, entry: CustomEntry) -> nn.Module:
    """The net itself, or what its TorchScript computes for the entry's window, as a graph.

    Raises:
        ConversionError: it is for streams, or torch cannot follow it.
    """
    import torch

    if not isinstance(net, torch.jit.ScriptModule):
        return net
    who = entry.original.factory or entry.name
    if entry.form != "window":
        raise ConversionError(
            f"{who}: TorchScript has no layers that could be followed, so only net.form = 'window' can be made of it, "
            f"got {entry.form}; give the Python code, path/net.py:build"
        )
    from torch._export.converter import TS2EPConverter

    example = _input_of(net.eval(), entry)
    converter: Any = TS2EPConverter
    logging.disable(logging.WARNING)  # torch's words on shapes that are fixed on purpose
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            followed = converter(net, (example,)).convert().module()
    except Exception as exc:  # torch raises anything
        first = str(exc).strip().splitlines() or [type(exc).__name__]
        raise ConversionError(
            f"{who}: its TorchScript cannot be followed ({first[0][:120]}); give the Python code, path/net.py:build"
        ) from exc
    finally:
        logging.disable(logging.NOTSET)
    return torch.fx.GraphModule(followed, followed.graph)


def _input_of(net: nn.Module, entry: CustomEntry) -> Tensor:
    """What the graph of an entry hands to its net: audio in its layout, or features."""
    import torch

    from models.custom.forms import graph

    class Listener(torch.nn.Module):
        heard: list[Tensor] = []  # noqa: RUF012  of this call alone

        def forward(self, x: Tensor) -> Tensor:
            self.heard.append(x.clone())
            out: Tensor = net(x)
            return out

    listener = Listener()
    with torch.no_grad():
        graph(dataclasses.replace(entry, net=listener), 1)(*example_inputs(entry.signature(1)))
    return listener.heard[0]
