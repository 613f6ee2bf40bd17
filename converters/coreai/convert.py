"""A step graph as a Core AI asset: torch.export, Apple's converter, then the same bytes every time.

No operation of the catalogue needs a rewrite. What Apple's converter lacks and hearpack's own front end leaves is
decomposed exactly here (`_decompositions`); the rest is refused by name.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.checks import example_inputs, refuse_mutation
from converters.coreai.bytecode import make_reproducible
from converters.spec import facts_of
from models.common.errors import ConversionError, UsageError, first_line
from models.common.files import atomic_folder
from models.geometry import GraphSignature, StreamGeometry
from runtimes import trial
from runtimes.coreai.asset import SUFFIX, open_asset
from runtimes.coreai.deps import require_coreai
from runtimes.native_output import quiet

if TYPE_CHECKING:
    import torch

MINIMUM_IOS = "27.0"
_PURPOSE = "exporting to Core AI"
_UNSUPPORTED = re.compile(r"aten\.(\w+)")


def convert(
    graph: torch.nn.Module,
    signature: GraphSignature,
    destination: Path,
    geometry: StreamGeometry,
    texts: dict[str, str],
    labels: tuple[str, ...] = (),
) -> None:
    """Convert a graph module to an .aimodel in float32, whole or not at all.

    Args:
        graph: takes the signature's inputs and states, returns its outputs and new states; in eval mode.
        signature: names and fixed shapes.
        destination: the asset to make, NAME.aimodel; replaced if it exists.
        geometry: rates, hops and delay, for the metadata.
        texts: author, license and description, for the metadata.
        labels: of a classifier, index = position.

    Raises:
        ConversionError: the graph cannot be expressed, or mutates a buffer.
        ArtefactError: there are no such packages for this machine.
        MissingDependencyError: coreai-torch is not installed.
        OutputError: `destination` cannot be written.
    """
    if destination.suffix != SUFFIX:
        raise UsageError(f"{destination}: expected a name ending in {SUFFIX}")
    library = require_coreai("coreai_torch", _PURPOSE)
    refuse_mutation(graph, signature)
    program = _program(library, graph, signature)
    facts = {
        **facts_of(geometry, signature),
        "states": {s.name: s.out_name for s in signature.states},
        **({"labels": list(labels)} if labels else {}),
    }
    with atomic_folder(destination) as folder:
        asset = folder / destination.name  # it wants this name
        with quiet():
            program.save_asset(asset)
        make_reproducible(asset, {**texts, "creatorDefinedMetadata": {"hearpack": facts}})
        for file in asset.iterdir():
            file.rename(folder / file.name)
        asset.rmdir()
    trial.remember(open_asset(destination).key)


def _program(library: Any, graph: torch.nn.Module, signature: GraphSignature) -> Any:
    """Apple's program of a graph, its names those of the signature."""
    import torch

    try:
        with torch.no_grad(), quiet(), contextlib.redirect_stdout(io.StringIO()):
            exported = torch.export.export(_named(graph), example_inputs(signature), strict=False)
            exported = exported.run_decompositions({**library.get_decomp_table(), **_decompositions()})
            # DEBUG, the default, writes paths of the sources into the file.
            converter = library.TorchConverter(mode=library.TorchConverter.Mode.RELEASE)
            converter.add_exported_program(
                exported, input_names=list(signature.input_names), output_names=list(signature.output_names)
            )
            return converter.to_coreai()
    except Exception as exc:  # both libraries raise every built-in kind
        raise ConversionError(_explain(exc, graph)) from exc


def _named(graph: torch.nn.Module) -> torch.nn.Module:
    """The graph as a child `net`: a child of the root called `graph` would break torch's decompositions."""
    import torch

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = graph

        def forward(self, *inputs: torch.Tensor) -> Any:
            return self.net(*inputs)

    return Named().eval()


def _decompositions() -> dict[Any, Any]:
    """What Apple's converter lacks, in operations that it has."""
    import torch

    aten: Any = torch.ops.aten

    def elu(x: torch.Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> torch.Tensor:
        return torch.where(x > 0, x * scale, torch.expm1(x.clamp(max=0.0) * input_scale) * (alpha * scale))

    def var(
        x: torch.Tensor, dim: list[int] | None = None, *, correction: float | None = None, keepdim: bool = False
    ) -> torch.Tensor:
        axes = [axis % x.dim() for axis in dim or range(x.dim())]
        count = math.prod(x.shape[axis] for axis in axes)
        centred = x - x.mean(axes, keepdim=True)
        return (centred * centred).sum(axes, keepdim=keepdim) / (count - (1.0 if correction is None else correction))

    return {aten.elu.default: elu, aten.var.correction: var}


def _explain(exc: Exception, graph: torch.nn.Module) -> str:
    if "unsupported ATen ops" not in str(exc):
        return f"coreai-torch cannot convert {type(graph).__name__}: {first_line(exc)}"
    names = ", ".join(dict.fromkeys(_UNSUPPORTED.findall(str(exc))))
    return (
        f"Core AI has no operation for torch's {names}; write it with others (matmul, conv, slices, elementwise), or "
        f"export to litert and coreml alone"
    )
