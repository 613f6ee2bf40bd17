"""What of a user's net must stay in float32 for its fp16 artefacts to pass: found by computing it in half, in torch.

Each operation's rounding has an effect on the output (models/graph/half.py). Operations of one line of the user's code
go together, wherever it is called; the smallest number of groups that helps is found by bisection, the worst first, and
then each is tried without, as long as the work allows. Whether the artefact passes is for the golden vectors to say: if
it does not, more is kept.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converters.bundle.test_audio import golden_input
from converters.tolerances import tolerance
from models.custom.entry import CustomEntry
from models.custom.forms import exported
from runtimes.bundle import Format

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

    from models.graph.half import HalfGraph, Key, Stretches

ATTEMPTS = 3
_EXTRAS_DB = 55.0  # wanted of scores that other outputs are beside: as of audio
# How far below its limit the first attempt is to stay, and by how much further each next one.
_ROOM, _NEXT = 0.7, 0.25
_STRETCHES, _CALLS = 32, 8
# Operations that a search computes: it counts them, not seconds, so that what is kept is the same on each machine.
_MOST_WORK, _LEAST_TRIALS = 200_000, 16
# Values that all operations may have together; a float32 each, three times over.
_MOST_ELEMENTS = 1 << 25


@dataclass(frozen=True)
class Parts:
    """A graph of which more stays in float32.

    Attributes:
        graph: that graph.
        fp32_modules: its parts that stay in float32, those that always do among them.
        what: operations and layers that were added, with their lines, in words.
        modules: paths of the user's modules that hold them.
        kept, operations: how many operations were added, of how many there are.
    """

    graph: nn.Module
    fp32_modules: tuple[str, ...]
    what: str
    modules: tuple[str, ...]
    kept: int
    operations: int

    def __str__(self) -> str:
        named = ", ".join(f'"{path}"' for path in self.modules)
        advice = f"; net.fp32_modules = [{named}] keeps these modules whole" if 0 < len(self.modules) <= 6 else ""
        return f"kept in float32, {self.kept} of {self.operations} operations: {self.what}{advice}"


def parts_for(
    entry: CustomEntry, hops: int, artefact_format: Format, heard: Callable[[float], None] = lambda _fraction: None
) -> Iterator[Parts]:
    """Proposals for an fp16 artefact that is past its limit, each keeping more than the one before it.

    Args:
        entry: a net that is no Keras file.
        hops: per call.
        artefact_format: "coreml", whose arithmetic is in half, or "litert", where only weights are.
        heard: called meanwhile with how much of the search for the next proposal is done, at most.
    """
    from converters.litert.tflite_edit import MIN_HALF_ELEMENTS
    from models.graph.builder import keep
    from models.graph.half import HalfGraph

    if entry.far_inputs:  # its stretches hold one input
        return
    form = exported(entry, hops)
    module: Any = form.graph
    half = HalfGraph(module, form.fp32_modules, MIN_HALF_ELEMENTS if artefact_format == "litert" else None)
    with _one_thread():
        search = _Search(entry, half, _material(entry, hops, module, half), heard)
        wanted = min(_ROOM, search.fraction(()) / 2.0)
    before: frozenset[Key] = frozenset()
    for _ in range(ATTEMPTS):
        with _one_thread():
            groups = search.smallest(wanted)
        if groups != before:
            nodes = search.nodes(groups)
            graph, fp32 = keep(module, {node.name for node in nodes}, form.fp32_modules)
            paths = sorted({node.meta["origin"].module for node in nodes if "origin" in node.meta} - {""})
            yield Parts(graph, fp32, search.words(nodes), tuple(paths), len(nodes), len(half.candidates))
        before, wanted = groups, wanted * _NEXT


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The order of additions, and so what is found, is the machine's otherwise; and small operations gain nothing."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Search:
    """Which groups of operations stay in float32."""

    def __init__(
        self, entry: CustomEntry, half: HalfGraph, material: Stretches, heard: Callable[[float], None]
    ) -> None:
        from models.graph.half import group_of

        self.half, self.material, self.heard = half, material, heard
        work = max(len(half.candidates) * len(material.audio), 1)
        self.trials = self.left = max(_MOST_WORK // work // ATTEMPTS, _LEAST_TRIALS)
        self.kind = entry.output_kind
        limits = {t.metric: t.limit for t in tolerance(self.kind, "fp16")}
        by_value = {"scores": "score_max_abs_error", "embedding": "embedding_max_error"}
        several = bool(entry.extras or entry.sources)  # then of unlike size: by energy, each to its own
        self.absolute = not several and self.kind in by_value
        self.limit = limits[by_value[self.kind]] if self.absolute else limits.get("snr_db", _EXTRAS_DB)
        self.truth = half.outputs(material, None)
        self.node_losses = half.losses(material)
        self.groups: dict[Key, list[fx.Node]] = {}
        for node in half.candidates:
            self.groups.setdefault(group_of(node), []).append(node)
        self.losses = {key: sum(self.node_losses[node] for node in nodes) for key, nodes in self.groups.items()}
        self.order = sorted(self.groups, key=lambda key: -self.losses[key])
        self._known: dict[frozenset[Key], float] = {}

    def nodes(self, groups: Collection[Key]) -> set[fx.Node]:
        """Of some groups, and operations between them alone: two casts cost more."""
        kept = {node for key in groups for node in self.groups[key]}
        for node in self.half.candidates:
            near = [*node.users, *(n for n in node.all_input_nodes if n.op not in ("get_attr", "placeholder"))]
            if node not in kept and near and all(other in kept for other in near):
                kept.add(node)
        return kept

    def fraction(self, groups: Collection[Key]) -> float:
        """The error, of what it may be, with these groups in float32."""
        key = frozenset(groups)
        if key not in self._known:
            self.left -= 1
            self.heard(1.0 - max(self.left, 0) / self.trials)
            came = self.half.outputs(self.material, self.nodes(key))
            self._known[key] = self._error(came)
        return self._known[key]

    def smallest(self, wanted: float) -> frozenset[Key]:
        """Few groups that bring the error to this fraction of its limit; in a large net not the fewest."""
        self.left = self.trials
        low, high = 0, len(self.order)
        while low < high:
            middle = (low + high) // 2
            if self.fraction(self.order[:middle]) <= wanted:
                high = middle
            else:
                low = middle + 1
        chosen = self.order[:high]
        for key in sorted(chosen, key=lambda key: (-self._elements(key), self.losses[key])):
            without = [k for k in chosen if k != key]
            if self.left <= 0:
                break
            if self.fraction(without) <= wanted:
                chosen = without
        return frozenset(chosen)

    def words(self, nodes: Collection[fx.Node]) -> str:
        """Operations by line of the user's code, layers by name."""
        from models.graph.half import group_of

        lines: dict[str, dict[str, list[fx.Node]]] = {}
        for node in self.half.candidates:
            if node in nodes:
                line, name = group_of(node)
                name = name if line else str(node.meta.get("origin") or "") or name
                lines.setdefault(line, {}).setdefault(name, []).append(node)
        said = list(lines.pop("", {}))
        for line, names in lines.items():
            times = max(map(len, names.values()))
            beyond = any(math.isinf(self.node_losses[node]) for found in names.values() for node in found)
            said.append(
                f"{', '.join(names)} ({line}{f', {times} times' if times > 1 else ''}"
                f"{': values that half cannot hold' if beyond else ''})"
            )
        return "; ".join(said[:8]) + (f"; {len(said) - 8} more" if len(said) > 8 else "")

    def _elements(self, key: Key) -> int:
        """Of its weights, which would be stored in twice the bytes."""
        constants = {n for node in self.groups[key] for n in node.all_input_nodes if n.op == "get_attr"}
        return sum(self.half.constant(n).numel() for n in constants)

    def _error(self, came: torch.Tensor) -> float:
        error = (came - self.truth).double()
        if not bool(error.isfinite().all()):
            return math.inf
        if self.kind == "embedding" and self.absolute:
            return float(error.norm(dim=-1).max()) / self.limit
        if self.absolute:
            return float(error.abs().max()) / self.limit
        signal, noise = float(self.truth.double().square().sum()), float(error.square().sum())
        return math.sqrt(noise / max(signal, 1e-30)) * math.pow(10.0, self.limit / 20.0)


def _material(entry: CustomEntry, hops: int, module: fx.GraphModule, half: HalfGraph) -> Stretches:
    """Stretches of the golden input, with the states that a stream has in front of each."""
    import torch

    from models.graph.half import Stretches

    geometry, signature = entry.geometry, entry.signature(hops)
    audio = torch.from_numpy(golden_input(entry, geometry.sample_rate_hz))
    if entry.buffer_kind == "window":
        blocks, calls = audio.unfold(-1, geometry.window_samples, geometry.hop_samples), 1
    else:
        blocks, calls = audio.unfold(-1, signature.inputs[0].shape[-1], signature.inputs[0].shape[-1]), _CALLS
    blocks = blocks.movedim(-2, 0).reshape(-1, *signature.inputs[0].shape)
    states = [torch.zeros(s.shape) for s in signature.states]
    calls = min(calls, len(blocks))
    room = _MOST_ELEMENTS // max(half.elements((blocks[0], *states)) * calls, 1)
    count = max(1, min(_STRETCHES, room, len(blocks) // calls))
    starts = [round(i * (len(blocks) - calls) / max(count - 1, 1)) for i in range(count)]
    seen = _states_at(module, blocks, states, starts) if states else [()] * count
    return Stretches(
        torch.stack([torch.stack([blocks[start + call] for start in starts]) for call in range(calls)]),
        tuple(torch.stack(rows) for rows in zip(*seen, strict=True)),
    )


def _states_at(
    module: nn.Module, blocks: torch.Tensor, states: Sequence[torch.Tensor], calls: Collection[int]
) -> list[Sequence[torch.Tensor]]:
    """The states of a stream in front of some calls, in float32."""
    import torch

    seen: dict[int, Sequence[torch.Tensor]] = {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of shapes, which are fixed
        trace: Any = torch.jit.trace  # untyped in torch; a third of the time
        traced = trace(module, (blocks[0], *states), check_trace=False)
        for call in range(max(calls) + 1):
            if call in calls:
                seen[call] = states
            results = traced(blocks[call], *states)
            states = results[len(results) - len(states) :]
    return [seen[call] for call in calls]
