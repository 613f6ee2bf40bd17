"""A function captured, lowered to its last form and compared with torch, for the tests of this folder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import Phase
from torch import Tensor, fx, nn

from models.graph.builder import Op
from models.graph.lower import lowered

# Of the value's size, computed in float64: constants such as DFT matrices are float32, everything else is exact.
ROUNDED, EXACT = 3e-7, 1e-12
# Of hypothesis: a case that fails costs a capture each time that it is made smaller.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


class Bodies(nn.Module):
    """Functions of the same tensors, with layers that they may use, as one net: a capture costs half a second."""

    def __init__(self, bodies: Sequence[Callable[..., Any]], layers: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.bodies, self.layers = bodies, nn.ModuleList(layers)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        results: list[Tensor] = []
        for body in self.bodies:
            result = body(*inputs, *self.layers)
            results += [result] if isinstance(result, Tensor) else list(result)
        return tuple(results)


def values(*shape: int, seed: int = 0) -> Tensor:
    """Noise, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def drawn(layer: nn.Module) -> nn.Module:
    """With weights (and running means) that are not the ones it begins with, the same each time."""
    generator = torch.Generator().manual_seed(1)
    for name, value in (*layer.named_parameters(), *layer.named_buffers()):
        if value.is_floating_point():
            value.data = 0.5 * torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.data = value.data.abs() + 0.3
    return layer.eval()


def graph_of(
    bodies: Sequence[Callable[..., Any]], inputs: Sequence[Tensor], layers: Sequence[nn.Module] = ()
) -> tuple[Bodies, fx.GraphModule, tuple[str, ...]]:
    """The net of some bodies, its graph, and what of that stays in float32."""
    net = Bodies(bodies, layers).eval()
    named = {f"x{index}": value for index, value in enumerate(inputs)}
    graph, fp32 = lowered(net, named, "net.py:build", lambda origin: False)
    return net, graph, fp32


def compared(
    bodies: Sequence[Callable[..., Any]],
    inputs: Sequence[Tensor],
    layers: Sequence[nn.Module] = (),
    limit: float = EXACT,
) -> set[str]:
    """Lower bodies and compare every output with torch's own, in float64.

    Returns:
        names of the operations in the graph.
    """
    net, graph, _ = graph_of(bodies, inputs, layers)
    wide = [value.double() if value.is_floating_point() else value for value in inputs]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            truth = copy.deepcopy(net).double()(*wide)
            came = copy.deepcopy(graph).double()(*wide)
    finally:
        torch.set_default_dtype(before)
    assert len(truth) == len(came)
    for index, (one, two) in enumerate(zip(truth, came, strict=True)):
        assert one.shape == two.shape, f"output {index}: {tuple(two.shape)}, torch has {tuple(one.shape)}"
        assert one.dtype == two.dtype or one.is_floating_point() == two.is_floating_point()
        one, two = one.double(), two.double()
        assert float(one.std() if one.numel() > 1 else one.abs().max()) > 1e-3, f"output {index} hardly has values"
        error = float((one - two).abs().max() / one.abs().max())
        assert error <= limit, f"output {index} differs by {error:.2g} of its size"
    return operations(graph)


def operations(graph: fx.GraphModule) -> set[str]:
    """Names of all operations, those in modules of one operation too."""
    names = set()
    for node in graph.graph.nodes:
        if node.op == "call_function":
            names.add(_name(node.target))
        elif node.op == "call_module":
            module = graph.get_submodule(str(node.target))
            names.add(_name(module.target) if isinstance(module, Op) else type(module).__name__)
    return names


def _name(target: Any) -> str:
    return str(getattr(getattr(target, "overloadpacket", target), "__name__", target))
