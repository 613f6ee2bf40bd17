"""The offline net as a lowered graph, at any length of recording; the same graph, but for the sizes in it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from models.common.errors import ConversionError, first_line
from models.custom.adapters import OfflineNet, as_tensor
from models.custom.entry import CustomEntry
from models.custom.kept import kept_with_net
from models.custom.precise import precise_modules
from models.graph.builder import Builder, Value, constant_of, name_of
from models.graph.capture import capture, line_of
from models.graph.lower import lower

# Two lengths in hops at which the net is looked at; their difference is what a value's time axis grows by.
SHORT_HOPS, LONG_HOPS = 12, 17
# Operations that forward may take for a recording: a second or two to capture each thousand, on a quiet machine.
MOST_OPERATIONS = 20_000
_ASKED = ("__get__", "size", "dim", "__len__")  # say something about a tensor
_READS = ("select", "slice", "unbind", "split", "getitem")


@dataclass(frozen=True)
class Recording:
    """The offline net's graph for one length of audio.

    Attributes:
        hops: of the audio.
        module: audio [1, hops x hop] -> (output, extra outputs...).
        values: every node's value for noise.
    """

    hops: int
    module: fx.GraphModule
    values: dict[fx.Node, Any]

    @property
    def nodes(self) -> list[fx.Node]:
        return list(self.module.graph.nodes)


def noise(samples: int, seed: int, lead: tuple[int, ...] = ()) -> Tensor:
    """[1, samples], or [1, channels, samples], at -20 dBFS, the same each time."""
    return 0.1 * torch.randn(1, *lead, samples, generator=torch.Generator().manual_seed(seed))


@kept_with_net
def recording(entry: CustomEntry, hops: int) -> Recording:
    """The offline net for `hops` hops of audio; made once for each length.

    Raises:
        ConversionError: forward cannot be followed, or does not run on audio.
    """
    audio = noise(hops * entry.geometry.hop_samples, 0, entry.geometry.lead)
    who = entry.original.factory
    net = OfflineNet(entry).eval()
    _try(entry, net, hops)
    captured = capture(net, (audio,), who)
    builder = Builder()
    with torch.no_grad():
        results = lower(captured, {"audio": audio}, builder, precise_modules(entry))
    if not all(isinstance(value, Value) for value in results):
        as_tensor(tuple(results), who)
    builder.output(cast("list[Value]", results))
    module = _read_once(builder.finish("Offline"))
    return Recording(hops, module, record(module, audio))


def _read_once(module: fx.GraphModule) -> fx.GraphModule:
    """Rows and frames that are read twice, read once: a loop over frames is told by which it reads."""
    known: dict[Any, fx.Node] = {}
    for node in list(module.graph.nodes):
        if name_of(node) in _READS and not node.kwargs:
            first = known.setdefault((node.target, str(node.args)), node)  # names are given once
            if first is not node:
                node.replace_all_uses_with(first)
                module.graph.erase_node(node)
    module.recompile()
    return module


class _Counted(TorchFunctionMode):
    """Stops a forward whose graph would grow without bound."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += getattr(func, "__name__", "") not in _ASKED
        if self.count > MOST_OPERATIONS:
            raise _TooMany
        return func(*args, **(kwargs or {}))


class _TooMany(Exception):  # noqa: N818 it is how a count ends, and never leaves this module
    """More operations than a graph may have."""


def _try(entry: CustomEntry, net: nn.Module, hops: int) -> None:
    """Run the net as it is; one that takes only multiples of a longer hop is told from one that does not run."""

    hop, who = entry.geometry.hop_samples, entry.original.factory

    def fails(samples: int) -> Exception | None:
        try:
            with torch.no_grad(), _Counted(), warnings.catch_warnings():
                # torch's advice on a layer would come from the line that counts, not from the user's.
                warnings.filterwarnings("ignore", category=UserWarning, module=re.escape(__name__))
                net(noise(samples, 0, entry.geometry.lead))
        except ConversionError:
            raise
        except _TooMany as exc:
            raise ConversionError(
                f"{who}: forward takes more than {MOST_OPERATIONS} operations for {samples // hop} hops of audio"
                f"{line_of(exc.__traceback__)}: the graph grows with the recording, by a loop over frames or samples; "
                "operations on whole tensors do not grow, and net.form = 'step' takes a loop's body"
            ) from None
        except Exception as exc:  # a user's forward may raise anything
            return exc
        return None

    fault = fails(hops * hop)
    if fault is None:
        return
    first = first_line(fault)
    place = line_of(fault.__traceback__)
    for times in range(2, 9):
        if all(fails(length * times * hop) is None for length in (SHORT_HOPS, LONG_HOPS)):
            raise ConversionError(
                f"{who}: forward takes whole multiples of {times * hop} samples, not {hops} hops of {hop}{place}: set "
                f"geometry.hop_samples to {times * hop} ({first})"
            ) from fault
    raise ConversionError(
        f"{who}: forward does not run on audio {list(noise(hops * hop, 0, entry.geometry.lead).shape)}{place}: {first}"
    ) from fault


def record(module: fx.GraphModule, *inputs: Tensor) -> dict[fx.Node, Any]:
    """Every node's value for some inputs.

    Raises:
        ConversionError: the graph does not run.
    """
    values: dict[fx.Node, Any] = {}
    given = iter(inputs)
    node: fx.Node | None = None
    try:
        with torch.no_grad():
            for node in module.graph.nodes:  # fx.Interpreter costs more than small operations do
                values[node] = _value(module, node, values, given)
    except Exception as exc:  # an operation of torch may raise anything
        place = "the net" if node is None else node.meta.get("origin", "the net")
        raise ConversionError(f"{place} does not run on audio {list(inputs[0].shape)}: {first_line(exc)}") from exc
    return values


def _value(module: fx.GraphModule, node: fx.Node, values: Mapping[fx.Node, Any], inputs: Iterator[Tensor]) -> Any:
    if node.op == "placeholder":
        return next(inputs)
    if node.op == "get_attr":
        return constant_of(module, node)
    args, kwargs = cast(Any, fx.map_arg((node.args, node.kwargs), values.__getitem__))
    if node.op == "output":
        return args[0]
    target: Any = module.get_submodule(str(node.target)) if node.op == "call_module" else node.target
    return target(*args, **kwargs)
