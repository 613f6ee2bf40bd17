"""Names of our classes inside .tflite files, which do not change when our code moves.

litert-torch names a tensor after the classes of the modules around it, with their Python path. Names are bytes, and the
same net must give the same bytes in every version, so the path is a recorded one: that of the first export. A net's
classes are called after its folder and file; of the others, each has a line below. A class that moves gets a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# models.nets.NET.FILE: "models.NET" and this.
_NET_FILES = {"net": "", "step": "_graph", "layers": "_layers"}
_MODULES = {
    "models.layers.convolution": "models.gtcrn_layers",
    "models.layers.dft": "models.dft_graph",
    "models.layers.front_end": "models.front_end",
    "models.layers.recurrent": "models.gru_graph",
    "models.custom.causal.layers": "models.causal_layers",
    "models.custom.forms": "models.own_graph",
}
_CLASSES = {
    "models.layers.recurrent.Lstm": "models.dtln_graph.Lstm",
    "models.layers.recurrent.LstmCell": "models.dtln_graph.LstmCell",
    "models.custom.adapters.ActivationLayer": "models.own_graph.Head",
}


def recorded_name(kind: type) -> tuple[str, str]:
    """Module and name under which a class occurs in .tflite files."""
    module, name = kind.__module__, kind.__qualname__
    if f"{module}.{name}" in _CLASSES:
        module, _, name = _CLASSES[f"{module}.{name}"].rpartition(".")
    elif module.startswith("models.nets."):
        _, _, net, file = module.split(".")
        module = f"models.{net}{_NET_FILES.get(file, f'_{file}')}"
    return _MODULES.get(module, module), name


@contextmanager
def recorded_names(graph: torch.nn.Module) -> Iterator[None]:
    """While a graph is lowered, its modules' classes go by their recorded names."""
    here = {kind: (kind.__module__, kind.__qualname__) for kind in map(type, graph.modules())}
    before = {kind: name for kind, name in here.items() if recorded_name(kind) != name}
    try:
        for kind in before:
            kind.__module__, kind.__qualname__ = recorded_name(kind)
        yield
    finally:
        for kind, (module, name) in before.items():
            kind.__module__, kind.__qualname__ = module, name
