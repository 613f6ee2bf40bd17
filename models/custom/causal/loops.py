"""A Python loop over frames, found again in the graph that it left: a row of equal bodies whose results are joined.

A graph has the loop's body once for every frame, each reading its own frame and what the one before it left. The bodies
are found backwards from where their results are stacked; in the stream the body is written once for each frame of a
call, and what it hands on is state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
        join: stacks its results.
        body: the nodes of its last iteration, in order; `previous`: those of the one before it.
        result: of the body.
        picks: nodes of the body that read a frame -> what they read it of.
        carried: nodes of `previous` that `body` reads -> their places in the body.
        nodes: every node of every iteration.
        begins_with_zeros: whether the first iterations are the body with zeros handed on.
    """

    join: fx.Node
    body: tuple[fx.Node, ...]
    previous: tuple[fx.Node, ...]
    result: fx.Node
    picks: dict[fx.Node, fx.Node]
    carried: dict[fx.Node, int]
    nodes: frozenset[fx.Node]
    begins_with_zeros: bool


def find_loops(recording: Recording) -> list[Loop]:
    """Loops over frames in a graph, in its order."""
    found = (_loop(recording, node) for node in recording.nodes if name_of(node) in _JOINS)
    return [loop for loop in found if loop is not None]


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
    loops = {loop.join: loop for loop in find_loops(recording)}
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


def _loop(recording: Recording, join: fx.Node) -> Loop | None:
    items = cast("Sequence[fx.Node]", join.args[0])
    if len(items) < _LEAST or len(set(items)) < len(items):
        return None
    picked = {n for n in recording.nodes if _frame(n) is not None}
    inside = _ancestors(items[-1]) | {items[-1]}
    moving = _descendants(picked & inside, inside)
    order = {node: place for place, node in enumerate(recording.nodes)}
    bodies: list[list[fx.Node]] = []
    before: set[fx.Node] = set()
    for item in items:
        own = (_ancestors(item) | {item}) & moving
        bodies.append(sorted(own - before, key=order.__getitem__))
        before |= own
    last, previous = bodies[-1], bodies[-2]
    first = next((i for i in range(len(bodies) - 1) if all(_alike(b, last) for b in bodies[i:])), None)
    if first is None or first > 2 or not last:
        return None
    places = {node: place for place, node in enumerate(last)}
    carried = (
        {n: previous.index(n) for node in last for n in node.all_input_nodes if n in moving and n not in places}
        if all(n in previous or n in places or n not in moving for node in last for n in node.all_input_nodes)
        else None
    )
    if carried is None:
        return None
    picks = {node: cast(fx.Node, _frame(node)) for node in last if _frame(node) is not None}
    if not _counts(bodies[first:], first):
        return None
    loop = Loop(join, tuple(last), tuple(previous), items[-1], picks, carried, frozenset(moving), False)
    zeros = _begins_with_zeros(recording, loop, bodies, first)
    return Loop(**{**vars(loop), "begins_with_zeros": zeros})


def _frame(node: fx.Node) -> fx.Node | None:
    """What a node reads one frame of: x[..., t], x[..., t:t + 1], or an item of x.unbind()."""
    name = name_of(node)
    if name == "getitem":
        source = cast(fx.Node, node.args[0])
        return cast(fx.Node, source.args[0]) if name_of(source) in ("unbind", "split") else None
    if name == "select" and isinstance(node.args[2], int):
        return cast(fx.Node, node.args[0])
    if name == "slice" and len(node.args) >= 4 and isinstance(node.args[3], int) and isinstance(node.args[2], int):
        return cast(fx.Node, node.args[0]) if node.args[3] - node.args[2] == 1 else None
    return None


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


def _alike(one: Sequence[fx.Node], two: Sequence[fx.Node]) -> bool:
    """Whether two iterations are the same operations on each other's values."""
    if len(one) != len(two):
        return False
    first, second = ({n: place for place, n in enumerate(body)} for body in (one, two))
    for a, b in zip(one, two, strict=True):
        if str(a.target) != str(b.target) or len(a.all_input_nodes) != len(b.all_input_nodes):
            return False
        for x, y in zip(a.all_input_nodes, b.all_input_nodes, strict=True):
            if first.get(x) != second.get(y):
                return False
    return True


def _counts(bodies: list[list[fx.Node]], first: int) -> bool:
    """Whether the picks of iteration t read frame t."""
    return all(_index(node) == first + t for t, body in enumerate(bodies) for node in body if _frame(node) is not None)


def _begins_with_zeros(recording: Recording, loop: Loop, bodies: list[list[fx.Node]], first: int) -> bool:
    """Run the body from zeros over the first iterations: what it hands on must be what they hand on."""
    if not loop.carried:
        return True
    values = recording.values
    handed = {place: torch.zeros_like(cast(Tensor, values[node])) for node, place in loop.carried.items()}
    for t in range(len(bodies)):
        if t == first + 1:
            break
        made = run(loop, handed, t, lambda node: values[node])
        handed = {place: made[place] for place in handed}
    body = bodies[first]
    return all(
        torch.allclose(handed[place], cast(Tensor, values[body[place]]), rtol=1e-4, atol=1e-6) for place in handed
    )


def run(loop: Loop, handed: dict[int, Any], frame: int, outside: Any, call: Any = None) -> list[Any]:
    """One iteration.

    Args:
        loop: whose body.
        handed: place in the body -> what the iteration before left there.
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
