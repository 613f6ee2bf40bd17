"""A Python loop over frames, found again in the graph that it left: a row of equal bodies whose results are joined.

A graph has the loop's body once for every frame, each reading its own frame and what the one before it left. The bodies
are found backwards from where their results are stacked; in the stream the body is written once for each frame of a
call, and what it hands on is state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, fx

from models.common.errors import ConversionError
from models.custom.causal.offline import Recording
from models.graph.builder import name_of

_JOINS = ("stack", "cat")
_LEAST = 4  # results that are joined: fewer are no loop over a recording


@dataclass(frozen=True)
class Loop:
    """A loop over frames.

    Attributes:
        body: the nodes of its last iteration, in order.
        result: which of them is joined.
        picks: nodes of the body that read a frame -> what they read it of.
        carried: nodes of iterations before that the body reads -> (how many iterations before, place in the body).
        nodes: every node of every iteration, and constants that they alone read.
        begins_with_zeros: whether the first iterations are the body with zeros handed on.
    """

    body: tuple[fx.Node, ...]
    result: int
    picks: dict[fx.Node, fx.Node]
    carried: dict[fx.Node, tuple[int, int]]
    nodes: frozenset[fx.Node]
    begins_with_zeros: bool = False

    @property
    def kept(self) -> dict[tuple[int, int], fx.Node]:
        """What is handed on: (how many iterations before, place in the body) -> that node of the body."""
        most: dict[int, int] = {}
        for back, place in self.carried.values():
            most[place] = max(back, most.get(place, 0))
        return {(back, place): self.body[place] for place, last in most.items() for back in range(1, last + 1)}


def find_loops(recording: Recording) -> list[Loop]:
    """Loops over frames in a graph, in its order."""
    return list(_found(recording).values())


def _found(recording: Recording) -> dict[fx.Node, Loop]:
    nodes = recording.nodes
    picked = {node for node in nodes if _frame(recording, node) is not None}
    order = {node: place for place, node in enumerate(nodes)}
    found = {node: _loop(recording, node, picked, order) for node in nodes if name_of(node) in _JOINS}
    return {node: loop for node, loop in found.items() if loop is not None}


@dataclass(frozen=True)
class Outline:
    """A graph without what stands for its loops: the same for recordings of any length.

    Attributes:
        loops: by the node that joins what they give.
        skipped: nodes that stand for loops.
        nodes: all others; `places`: where they stand in the whole graph.
    """

    loops: dict[fx.Node, Loop]
    skipped: frozenset[fx.Node]
    nodes: list[fx.Node]
    places: list[int]


def outline(recording: Recording) -> Outline:
    """Find the loops of a graph."""
    loops = _found(recording)
    inside = {node for loop in loops.values() for node in loop.nodes}
    inside |= {source for node in inside for source in node.all_input_nodes if name_of(source) in ("unbind", "split")}
    kept = [(place, node) for place, node in enumerate(recording.nodes) if node not in inside]
    return Outline(loops, frozenset(inside), [node for _, node in kept], [place for place, _ in kept])


def aligned(short: Outline, long: Outline) -> dict[fx.Node, fx.Node]:
    """Node of the short graph -> the same one of the long graph.

    Raises:
        ConversionError: they are not the same graph, naming the first operation that differs.
    """
    for a, b in zip(short.nodes, long.nodes, strict=False):
        same = (a in short.loops and b in long.loops) or len(a.all_input_nodes) == len(b.all_input_nodes)
        if (a.op, _target(a)) != (b.op, _target(b)) or not same:
            raise ConversionError(
                f"{a.meta.get('origin', 'the net')}: what is computed depends on how long the recording is (a loop "
                "over frames that is no recurrence, or a branch on the length); net.form = 'step' takes a loop's body"
            )
    one, two = short.nodes, long.nodes
    if len(one) != len(two):
        longer = (one if len(one) > len(two) else two)[min(len(one), len(two)) - 1]
        raise ConversionError(
            f"{longer.meta.get('origin', 'the net')}: the graph grows with the recording: a loop over frames that is "
            "no recurrence; net.form = 'step' takes a loop's body"
        )
    return dict(zip(one, two, strict=True))


def _target(node: fx.Node) -> str:
    return "" if node.op in ("get_attr", "placeholder", "output") else str(node.target)


def _loop(recording: Recording, join: fx.Node, picked: set[fx.Node], order: Mapping[fx.Node, int]) -> Loop | None:
    items = cast("Sequence[fx.Node]", join.args[0])
    if len(items) < _LEAST or len(set(items)) < len(items):
        return None
    moving, reading = _moving(recording, join, items, picked)
    bodies = _bodies(items, moving, order)
    known = {node: (t, place) for t, body in enumerate(bodies) for place, node in enumerate(body)}
    last = bodies[-1]
    alike = [_alike(recording, known, reading, body, last) for body in bodies]
    first = next((t for t in range(len(bodies)) if all(alike[t:])), len(bodies))
    if not last or first > len(bodies) // 2:
        return None
    picks = {node: cast(fx.Node, _frame(recording, node)) for node in last if node in reading}
    if any(_index(node) != t for t, body in enumerate(bodies[first:], first) for node in body if node in reading):
        return None
    carried = {
        node: (len(bodies) - 1 - known[node][0], known[node][1])
        for reader in last for node in reader.all_input_nodes if node in moving and node not in last
    }  # fmt: skip
    constants = {n for node in moving for n in node.all_input_nodes if n.op == "get_attr"}
    nodes = frozenset(moving | {n for n in constants if all(user in moving for user in n.users)})
    loop = Loop(tuple(last), last.index(items[-1]), picks, carried, nodes)
    return replace(loop, begins_with_zeros=_begins_with_zeros(recording, loop, bodies, first))


def _moving(
    recording: Recording, join: fx.Node, items: Sequence[fx.Node], picked: set[fx.Node]
) -> tuple[set[fx.Node], set[fx.Node]]:
    """Nodes of all iterations, and those that read the frames that iterations go through.

    They are frames of what the last iteration reads and one long before it read, one after another.
    """
    inside, half = _ancestors(join), _ancestors(items[len(items) // 2])
    newest = (_ancestors(items[-1]) | {items[-1]}) - _ancestors(items[-2]) - {items[-2]}
    read: dict[tuple[fx.Node | None, int], set[fx.Node]] = {}
    for node in picked & inside:
        read.setdefault((_frame(recording, node), pick_axis(node)), set()).add(node)
    picks = {
        source: nodes for (source, _), nodes in read.items()
        if source in half and nodes & newest and len(nodes) > len(items) // 2
    }  # fmt: skip
    outside = {node for source in picks if source is not None for node in (source, *_ancestors(source))}
    reading = {node for nodes in picks.values() for node in nodes} - outside
    return _descendants(reading, inside) - outside, reading


def _bodies(items: Sequence[fx.Node], moving: set[fx.Node], order: Mapping[fx.Node, int]) -> list[list[fx.Node]]:
    """What each result needs beyond those before it."""
    bodies: list[list[fx.Node]] = []
    before: set[fx.Node] = set()
    for item in items:
        own, left = [], [item]
        while left:
            node = left.pop()
            if node in moving and node not in before:
                before.add(node)
                own.append(node)
                left += node.all_input_nodes
        bodies.append(sorted(own, key=order.__getitem__))
    return bodies


def _frame(recording: Recording, node: fx.Node) -> fx.Node | None:
    """What a node reads one frame of: x[..., t], x[..., t:t + 1], or an item of x.unbind()."""
    name = name_of(node)
    if name == "getitem":
        source = cast(fx.Node, node.args[0])
        if name_of(source) not in ("unbind", "split"):
            return None
        one = name_of(source) == "unbind" or _width(recording, node) == 1
        return cast(fx.Node, source.args[0]) if one else None
    if name == "select" and isinstance(node.args[2], int):
        return cast(fx.Node, node.args[0])
    if name == "slice" and len(node.args) == 4 and isinstance(node.args[2], int):
        return cast(fx.Node, node.args[0]) if _width(recording, node) == 1 else None
    return None


def _width(recording: Recording, node: fx.Node) -> int:
    """Frames that a slice reads: the end that it was given may lie behind the last."""
    return int(recording.values[node].shape[pick_axis(node)])


def _index(node: fx.Node) -> int:
    """Which frame a pick reads."""
    place = 1 if name_of(node) == "getitem" else 2
    return cast(int, node.args[place])


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    left = [node]
    while left:
        for n in left.pop().all_input_nodes:
            if n not in found:
                found.add(n)
                left.append(n)
    return found


def _descendants(roots: set[fx.Node], within: set[fx.Node]) -> set[fx.Node]:
    found, left = set(roots), list(roots)
    while left:
        for n in left.pop().users:
            if n in within and n not in found:
                found.add(n)
                left.append(n)
    return found


def _alike(
    recording: Recording,
    known: Mapping[fx.Node, tuple[int, int]],
    reading: set[fx.Node],
    one: Sequence[fx.Node],
    two: Sequence[fx.Node],
) -> bool:
    """Whether two iterations are the same operations on each other's values, and on the same ones besides."""
    if len(one) != len(two) or not one:
        return False
    first, second = known[one[0]][0], known[two[0]][0]

    def same(x: Any, y: Any) -> bool:
        if isinstance(x, fx.Node) and isinstance(y, fx.Node):
            if x in known and y in known:
                return (first - known[x][0], known[x][1]) == (second - known[y][0], known[y][1])
            return x is y or (
                x.op == y.op == "get_attr"
                and torch.equal(cast(Tensor, recording.values[x]), cast(Tensor, recording.values[y]))
            )
        if isinstance(x, tuple | list) and isinstance(y, tuple | list):
            return len(x) == len(y) and all(map(same, x, y))
        return type(x) is type(y) and bool(x == y)

    return all(
        a.target == b.target
        and same(_arguments(a, reading), _arguments(b, reading))
        and same(sorted(a.kwargs), sorted(b.kwargs))
        and all(same(a.kwargs[key], b.kwargs[key]) for key in a.kwargs)
        for a, b in zip(one, two, strict=True)
    )


def _arguments(node: fx.Node, reading: set[fx.Node]) -> tuple[Any, ...]:
    """Of an operation; which frame is read is no part of them."""
    return (node.args[0], pick_axis(node)) if node in reading else node.args


def _begins_with_zeros(recording: Recording, loop: Loop, bodies: list[list[fx.Node]], first: int) -> bool:
    """Run the body from zeros over the first iterations: what it hands on must be what they hand on."""
    if not loop.carried:
        return True
    values = recording.values
    handed: dict[tuple[int, int], Any] = {key: torch.zeros_like(values[node]) for key, node in loop.kept.items()}
    last = first + max(back for back, _ in handed) - 1
    for t in range(last + 1):
        handed = after(handed, run(loop, handed, t, lambda node: values[node]))
    return all(
        torch.allclose(value, cast(Tensor, values[bodies[last + 1 - back][place]]), rtol=1e-4, atol=1e-6)
        for (back, place), value in handed.items()
    )


def after(handed: Mapping[tuple[int, int], Any], made: Sequence[Any]) -> dict[tuple[int, int], Any]:
    """What is handed on behind an iteration."""
    return {(back, place): made[place] if back == 1 else handed[back - 1, place] for back, place in handed}


def run(loop: Loop, handed: Mapping[tuple[int, int], Any], frame: int, outside: Any, call: Any = None) -> list[Any]:
    """One iteration.

    Args:
        loop: whose body.
        handed: (how many iterations before, place in the body) -> what was left there.
        frame: which one the picks read.
        outside: gives the value of a node that is not in the loop.
        call: how an operation is computed; torch's own by default.

    Returns:
        the value of every node of the body.
    """
    made: dict[fx.Node, Any] = {}

    def value(node: fx.Node) -> Any:
        if node in made:
            return made[node]
        return handed[loop.carried[node]] if node in loop.carried else outside(node)

    for node in loop.body:
        if node in loop.picks:
            args: tuple[Any, ...] = (outside(loop.picks[node]), *_pick(node, frame))
            target: Any = torch.ops.aten.select.int if len(args) == 3 else torch.ops.aten.slice.Tensor
            kwargs: dict[str, Any] = {}
        else:
            target, (args, kwargs) = node.target, cast(Any, fx.map_arg((node.args, node.kwargs), value))
        made[node] = target(*args, **kwargs) if call is None else call(node, target, args, kwargs)
    return [made[node] for node in loop.body]


def _pick(node: fx.Node, frame: int) -> tuple[int, ...]:
    """The arguments of a pick of another frame: (axis, frame), or (axis, first, last)."""
    if name_of(node) == "getitem":
        source = cast(fx.Node, node.args[0])
        if name_of(source) == "unbind":
            return (cast(int, source.args[1]) if len(source.args) > 1 else 0, frame)
        return (cast(int, source.args[2]) if len(source.args) > 2 else 0, frame, frame + 1)
    axis = cast(int, node.args[1])
    return (axis, frame) if name_of(node) == "select" else (axis, frame, frame + 1)


def pick_axis(node: fx.Node) -> int:
    """The axis along which a pick reads."""
    return _pick(node, 0)[0]
