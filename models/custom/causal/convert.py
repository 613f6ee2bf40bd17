"""State taken out of an offline net that looks at no later sample: from [1, n] -> [1, n] to a step with named states.

The net is traced (torch.fx) and run offline at two lengths: the axis of a value that grows is its time, and how much it
grows gives its frames per hop. Then the graph is written anew, node by node, for the frames of a call: what looks back
(padding in front, convolutions, recurrences, cumulative sums) is replaced by its form with the past as a value
(models/custom/causal/layers.py); everything else must work on frames alone. models/custom/causal/proof.py then compares
every value of the stream with the offline net's. What cannot be done is refused with the layer's name and the
reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from models.common.errors import ConversionError
from models.custom.adapters import ActivationLayer, OfflineNet
from models.custom.causal import rules as causal_rules
from models.custom.causal.layers import CumulativeNorm
from models.custom.causal.walk import Timing, Walk, line_of, where
from models.custom.entry import CustomEntry
from models.geometry import StateSpec
from models.layers.front_end import CausalFeatures

# Two lengths in hops at which the net is looked at; their difference is what a value's time axis grows by.
SHORT_HOPS, LONG_HOPS = 12, 17
_FACTORIES = ("arange", "zeros", "ones", "full")


@dataclass(frozen=True)
class ExternalStateGraph:
    """A net with its state outside.

    Attributes:
        graph: (audio [1, hops x hop], states...) to (out, new states...).
        states: their names and shapes, in order.
        fp32_modules: what stays in float32 in fp16 artefacts: front end, cells, sums over time, what the user named.
        offline: the traced offline net.
        hops: of a call.
        pairs: offline node -> (name of the stream's node, its timing), for the proof.
    """

    graph: fx.GraphModule
    states: tuple[StateSpec, ...]
    fp32_modules: tuple[str, ...]
    offline: fx.GraphModule
    hops: int
    pairs: Mapping[fx.Node, tuple[str, Timing]] = field(default_factory=dict)


class _Tracer(fx.Tracer):
    record_stack_traces = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = isinstance(m, CausalFeatures | CumulativeNorm | ActivationLayer)
        return leaf or super().is_leaf_module(m, module_qualified_name)


@contextmanager
def _traceable_factories(tracer: _Tracer) -> Iterator[None]:
    """torch.arange(1, x.shape[1] + 1) and its kind take part in the trace."""
    originals = {name: getattr(torch, name) for name in _FACTORIES}

    def traced(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            flat = [*args, *kwargs.values()]
            flat += [item for value in flat if isinstance(value, tuple | list) for item in value]
            if any(isinstance(value, fx.Proxy) for value in flat):
                return tracer.create_proxy("call_function", original, args, kwargs)
            return original(*args, **kwargs)

        return call

    for name, original in originals.items():
        setattr(torch, name, traced(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(torch, name, original)


def trace(entry: CustomEntry) -> fx.GraphModule:
    """The offline net as a graph.

    Raises:
        ConversionError: forward branches on its input, or otherwise cannot be traced.
    """
    root, tracer = OfflineNet(entry).eval(), _Tracer()
    try:
        with _traceable_factories(tracer):
            graph = tracer.trace(root)
    except Exception as exc:  # a user's forward may raise anything
        place, first = line_of(exc.__traceback__), (str(exc).splitlines() or [repr(exc)])[0]
        raise ConversionError(
            f"{entry.original.factory}: forward cannot be followed{place}: {first}; "
            "it must not branch, assert or compute with numpy on its input"
        ) from exc
    return fx.GraphModule(root, graph).eval()


def record(module: fx.GraphModule, *inputs: Tensor) -> dict[fx.Node, Any]:
    """Every node's value for some inputs.

    Raises:
        ConversionError: the net does not run.
    """
    values: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n] = super().run_node(n)
            return values[n]

    try:
        with torch.no_grad():
            Recorder(module, garbage_collect_values=False).run(*inputs)
    except Exception as exc:  # a user's forward may raise anything
        done = [n for n in module.graph.nodes if n not in values]
        place = where(module, done[0]) if done else "the net"
        first = str(exc).strip().splitlines()[0] if str(exc).strip() else repr(exc)
        raise ConversionError(f"{place} does not run on audio {list(inputs[0].shape)}: {first}") from exc
    return values


def noise(samples: int, seed: int) -> Tensor:
    """[1, samples] at -20 dBFS, the same each time."""
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def to_external_state(entry: CustomEntry, hops: int) -> ExternalStateGraph:
    """Take the state out of a causal net.

    Args:
        entry: of form "causal", its net loaded.
        hops: hops a call of the result takes.

    Raises:
        ConversionError: naming the layer and the reason.
    """
    module = trace(entry)
    hop = entry.geometry.hop_samples
    short = record(module, noise(SHORT_HOPS * hop, 0))
    walk = Walk(
        module=module,
        hops=hops,
        short=short,
        long=record(module, noise(LONG_HOPS * hop, 0)),
        other=record(module, noise(SHORT_HOPS * hop, 1)),
        lengths=(SHORT_HOPS, LONG_HOPS),
    )
    for node in module.graph.nodes:
        if node.op == "placeholder":
            walk.audio(node, hop)
        elif node.op == "output":
            _finish(walk, entry, node)
        else:
            causal_rules.step(walk, node)
    graph = fx.GraphModule(walk.modules, walk.graph, class_name="StepGraph").eval()
    return ExternalStateGraph(
        graph, tuple(walk.states), _fp32_modules(walk, entry), offline=module, hops=hops, pairs=walk.pairs
    )


def _finish(walk: Walk, entry: CustomEntry, node: fx.Node) -> None:
    """The output, in the shape that the signature has."""
    source = cast(fx.Node, node.args[0])
    if not isinstance(source, fx.Node):
        raise ConversionError(
            f"{entry.original.factory}: forward returned {type(source).__name__}, expected one tensor"
        )
    timing = walk.timings.get(source)
    shape = list(walk.short[source].shape)
    if timing is None:
        raise ConversionError(f"{entry.original.factory}: the output {shape} does not grow with the audio")
    hop, hops = entry.geometry.hop_samples, walk.hops
    _, wanted, *expected = entry.offline_shape(1)
    others = [n for axis, n in enumerate(shape) if axis != timing.axis and n != 1]
    if timing.rate != wanted or others != [n for n in expected if n != 1]:
        samples = SHORT_HOPS * hop
        raise ConversionError(
            f"{entry.original.factory}: for audio [1, {samples}], {SHORT_HOPS} hops of {hop}, forward returned "
            f"{shape}, expected {list(entry.offline_shape(SHORT_HOPS))}"
        )
    out = walk.graph.call_method("narrow", (walk.new[source], timing.axis, 0, timing.rate * hops))
    out = walk.graph.call_method("reshape", (out, entry.signature(hops).outputs[0].shape))
    walk.graph.output((out, *walk.state_results))


def _fp32_modules(walk: Walk, entry: CustomEntry) -> tuple[str, ...]:
    """Flat names in the graph: those the rules ask for, and the leaves of what the user named."""
    named: list[str] = []
    known = {n: target for n, target in walk.origins.items() if target.startswith("net.")}
    for wanted in entry.fp32_named:
        prefix = f"net.{wanted}"
        hits = [n for n, target in known.items() if target == prefix or target.startswith(f"{prefix}.")]
        if not hits:
            offers = ", ".join(sorted({t.removeprefix("net.") for t in known.values()})) or "none"
            raise ConversionError(
                f"{entry.name}: fp32_modules names {wanted!r}, which forward does not call; it calls: {offers}"
            )
        named += hits
    return tuple(dict.fromkeys([*walk.fp32, *named]))
