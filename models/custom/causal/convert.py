"""State taken out of an offline net that looks at no later sample: from [1, n] -> [1, n] to a step with named states.

The net is captured (models/graph) at two lengths: the axis of a value that grows is its time, and how much it grows
gives its frames per hop. Then the graph is written anew, node by node, for the frames of a call: what looks back
(padding in front, convolutions, recurrences, cumulative sums) is replaced by its form with the past as a value
(models/custom/causal/layers.py); everything else must work on frames alone. models/custom/causal/proof.py then compares
every value of the stream with the offline net's. What cannot be done is refused with the layer's name and the
reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from torch import fx

from models.common.errors import ConversionError
from models.custom.causal import rules
from models.custom.causal.offline import LONG_HOPS, SHORT_HOPS, recording
from models.custom.causal.walk import Timing, Walk
from models.custom.entry import CustomEntry
from models.custom.kept import kept_with_net
from models.geometry import StateSpec, TensorSpec
from models.graph.builder import Builder, Value
from models.graph.lower import finish


@dataclass(frozen=True)
class ExternalStateGraph:
    """A net with its state outside.

    Attributes:
        graph: (audio [1, hops x hop], states...) to (outputs..., new states...), in operations that both converters
            take.
        stream: the same before its last lowerings, value for value the offline net's.
        states: their names and shapes, in order.
        fp32_modules: what stays in float32 in fp16 artefacts: front end, cells, sums over time, what the user named.
        hops: of a call.
        pairs: for the proof: node of the offline graph, by its place in the outline -> (name of the stream's node, its
            timing).
        lookahead_samples: that the stream is behind the offline net, which looks ahead by as many.
    """

    graph: fx.GraphModule
    stream: fx.GraphModule
    states: tuple[StateSpec, ...]
    fp32_modules: tuple[str, ...]
    hops: int
    pairs: Mapping[int, tuple[str, Timing]] = field(default_factory=dict)
    lookahead_samples: int = 0


@kept_with_net
def to_external_state(entry: CustomEntry, hops: int) -> ExternalStateGraph:
    """Take the state out of a causal net; made once for each number of hops.

    Args:
        entry: of form "causal", its net loaded.
        hops: hops a call of the result takes.

    Raises:
        ConversionError: naming the layer and the reason.
    """
    if entry.lookahead == "delay":
        return _written(entry, hops, True)
    try:
        return _written(entry, hops, False)
    except ConversionError as refusal:
        # Frames cut off in front and padded there again look ahead inside the net, and not from outside.
        with contextlib.suppress(ConversionError):
            return _written(entry, hops, True)
        raise refusal


def _written(entry: CustomEntry, hops: int, lookahead: bool) -> ExternalStateGraph:
    short = recording(entry, SHORT_HOPS)
    long = recording(entry, max(LONG_HOPS, 5 * hops + 1))
    walk = Walk(short, long, hops, lookahead=lookahead, outputs=entry.signature(hops).output_names)
    hop = entry.geometry.hop_samples
    for node in short.nodes:
        if node.op == "placeholder":
            walk.audio(node, hop)
        elif node.op == "output":
            sources = cast("list[fx.Node]", node.args[0])
            specs = entry.signature(hops).outputs
            own = len(specs) - len(entry.extras)
            outs = [
                _finish(walk, entry, source, spec, extra=place >= own)
                for place, (source, spec) in enumerate(zip(sources, specs, strict=True))
            ]
            walk.builder.output([*outs, *walk.state_results])
        else:
            rules.step(walk, node)
    stream = walk.builder.finish("Stream")
    _check_names(walk, entry)
    left = {node.name for node in stream.graph.nodes}
    places = {node: place for place, node in enumerate(walk.outline.nodes)}
    pairs = {places[node]: pair for node, pair in walk.pairs.items() if pair[0] in left}
    examples = {str(n.target): walk.builder.values[n] for n in stream.graph.nodes if n.op == "placeholder"}
    last = Builder(wraps=True)
    last.output(finish(stream, walk.builder.fp32, last, examples))
    graph = last.finish("StepGraph")
    output, *others = (walk.timings[source] for source in cast("list[fx.Node]", short.nodes[-1].args[0]))
    ahead = output.delay * hop // output.rate
    if entry.lookahead != "delay" and any(timing.delay for timing in (output, *others)):
        raise ConversionError(f"{entry.original.factory}: looks {ahead} samples ahead; net.lookahead says how")
    if any(other.delay * hop // other.rate != ahead for other in others[: len(others) - len(entry.extras)]):
        raise ConversionError(f"{entry.original.factory}: its sources look ahead by different numbers of frames")
    return ExternalStateGraph(graph, stream, tuple(walk.states), tuple(last.fp32), hops, pairs, ahead)


def _finish(walk: Walk, entry: CustomEntry, source: fx.Node, spec: TensorSpec, extra: bool) -> Value:
    """An output, in the shape that the signature has."""
    timing = walk.timings.get(source)
    shape = walk.shape(source)
    if timing is None:
        name = f" {spec.name!r}" if extra else ""
        raise ConversionError(f"{entry.original.factory}: the output{name} {shape} does not grow with the audio")
    hop, hops = entry.geometry.hop_samples, walk.hops
    *expected, wanted = entry.offline_shape(1)
    if entry.output_kind == "scores":
        expected, wanted = [wanted], 1
    others = [n for axis, n in enumerate(shape) if axis != timing.axis and n != 1]
    if not extra and (timing.rate != wanted or others != [n for n in expected if n != 1]):
        samples = SHORT_HOPS * hop
        raise ConversionError(
            f"{entry.original.factory}: for audio [1, {samples}], {SHORT_HOPS} hops of {hop}, forward returned "
            f"{shape}, expected {list(entry.offline_shape(SHORT_HOPS))}"
        )
    if entry.geometry.channels > 1 and not extra and wanted > 1 and any(n > 1 for n in shape[timing.axis + 1 :]):
        raise ConversionError(f"{entry.original.factory}: forward returned {shape}, expected [1, channels, samples]")
    if timing.trailing < 0:
        raise ConversionError(
            f"{entry.original.factory}: forward returned {-timing.trailing} frames fewer than the recording has"
        )
    b = walk.builder
    out = walk.masked(source, walk.value(source), timing)
    last = entry.output_kind == "scores" and not extra  # the scores of a call's last hop
    first = timing.rate * (hops - 1) if last else 0
    out = b.op("narrow", out, timing.axis, first, timing.rate * hops - first)
    return cast(Value, b.op("reshape", out, list(spec.shape)))


def _check_names(walk: Walk, entry: CustomEntry) -> None:
    """Every module that the user wants in float32 must be one that forward calls."""
    origins = [walk.origin(node) for node in walk.short.nodes if node.op == "call_function"]
    called = {path for origin in origins for path, _ in origin.kinds if path}
    for wanted in entry.fp32_named:
        if not any(path == wanted or path.startswith(f"{wanted}.") for path in called):
            raise ConversionError(
                f"{entry.name}: fp32_modules names {wanted!r}, which forward does not call; it calls: "
                f"{', '.join(sorted(called)) or 'none'}"
            )
