"""models.custom.causal.walk: what is known of a value in time, names of states, and names of what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from models.common.errors import ConversionError
from models.custom.causal.offline import recording
from models.custom.causal.walk import Positions, Timing, Walk, first_tensor
from models.graph.builder import Value, tensors
from models.graph.capture import line_of
from tests.models.custom.causal.nets import HOP, Do, Wrapped, entry_for


def walk_of(body: nn.Module, hops: int = 2) -> Walk:
    """A walk at its beginning, with the offline values of a body."""
    entry = entry_for(Wrapped(body))
    return Walk(recording(entry, 12), recording(entry, 17), hops)


def node_of(walk: Walk, start: str) -> fx.Node:
    return next(node for node in walk.short.nodes if node.name.startswith(start))


def begun(body: nn.Module, hops: int = 2) -> Walk:
    walk = walk_of(body, hops)
    walk.audio(node_of(walk, "audio"), HOP)
    return walk


def test_time_is_the_axis_that_grows_and_the_rate_its_frames_a_hop() -> None:
    walk = walk_of(
        Do(lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest").transpose(1, 2)[:, ::2].transpose(1, 2))
    )
    assert walk.time_of(node_of(walk, "audio")) == (1, HOP)
    assert walk.time_of(node_of(walk, "conv1d")) == (2, 1)
    assert walk.time_of(node_of(walk, "upsample")) == (2, 2)
    assert walk.time_of(node_of(walk, "transpose")) == (1, 2)
    assert walk.time_of(node_of(walk, "conv_transpose1d")) == (2, HOP)


def test_what_does_not_grow_has_no_time() -> None:
    walk = walk_of(Do(lambda x: x - x.mean(2, keepdim=True)))
    assert walk.time_of(node_of(walk, "mean")) is None


def test_frames_beyond_the_recordings_are_a_surplus() -> None:
    walk = walk_of(Do(lambda x: F.pad(x, (3, 1))[..., 3:-1]))
    assert walk.surplus(node_of(walk, "constant_pad_nd"), 2, 1) == 4
    assert walk.surplus(node_of(walk, "conv1d"), 2, 1) == 0


@pytest.mark.parametrize(
    ("body", "node", "message"),
    [
        (
            lambda x: ((x.transpose(1, 2) @ x) @ x.transpose(1, 2)).transpose(1, 2),
            "matmul",
            r"matmul in 'body' \(test_walk.py, line \d+\): gives \[1, 12, 12\], which grows along 2 axes",
        ),
        (
            lambda x: F.interpolate(x[..., ::2], size=x.shape[2]),
            "slice",
            r"slice in 'body'.*: gives 0.6 frames per hop: geometry.hop_samples is not a multiple",
        ),
    ],
    ids=["two axes", "part of a frame"],
)
def test_what_grows_in_another_way_is_refused(body: Callable[[Tensor], Tensor], node: str, message: str) -> None:
    walk = walk_of(Do(body))
    with pytest.raises(ConversionError, match=message):
        walk.time_of(node_of(walk, node))


def test_a_rank_that_changes_with_the_length_is_refused() -> None:
    walk = walk_of(nn.ReLU())
    node = node_of(walk, "relu")
    walk.long.values[walk.same[node]] = torch.zeros(1, 8)
    with pytest.raises(ConversionError, match=r"'body' \(ReLU\): its rank changes .*: 3 and 2 axes"):
        walk.time_of(node)


def test_audio_is_a_call_long() -> None:
    walk = begun(nn.ReLU())
    audio = node_of(walk, "audio")
    assert walk.timings[audio] == Timing(1, HOP)
    assert walk.value(audio).shape == (1, 2 * HOP)


def test_graphs_that_are_not_the_same_at_both_lengths_are_refused_at_their_line() -> None:
    def over_all_frames(x: Tensor) -> Tensor:
        return torch.stack([x[..., i] * (i + 1.0) for i in range(x.shape[2])], 2)

    with pytest.raises(ConversionError, match=r"in 'body' \(test_walk.py, line \d+\): .*loop over frames"):
        walk_of(Do(over_all_frames))

    def another_way(x: Tensor) -> Tensor:
        return torch.tanh(x) if x.shape[2] > 14 else torch.sigmoid(x)

    with pytest.raises(ConversionError, match=r"'body' .*: what is computed depends on how long the recording is"):
        walk_of(Do(another_way))


def test_numbers_of_the_offline_graph_are_those_of_a_call() -> None:
    walk = walk_of(nn.ReLU(), hops=3)
    node = node_of(walk, "relu")
    assert walk.number(node, 7, 7) == 7
    assert walk.number(node, 12, 17) == 3
    assert walk.number(node, 12 * HOP + 5, 17 * HOP + 5) == 3 * HOP + 5
    assert walk.numbers(node, (node, [8, -1, 24], 1.5, True), (node, [8, -1, 34], 1.5, True)) == [
        node,
        [8, -1, 6],
        1.5,
        True,
    ]
    with pytest.raises(ConversionError, match=r"counts 12 and 15 for 12 and 17 hops of audio"):
        walk.number(node, 12, 15)


def test_names_of_states_are_identifiers_and_never_twice_the_same() -> None:
    walk = begun(nn.Sequential(nn.ReLU(), nn.ReLU()))
    node, other = node_of(walk, "relu"), node_of(walk, "conv1d")
    for shape in ((1, 8, 2), (1, 3)):
        state = walk.add_state(node, "past", shape)
        assert state.shape == shape
        assert not state.tensor.any()
    walk.add_state(other, "past", (1,))
    assert [(s.name, s.shape) for s in walk.states] == [
        ("body_0_past", (1, 8, 2)),
        ("body_0_1_past", (1, 3)),
        ("encoder_past", (1,)),
    ]
    taken = {name for s in walk.states for name in (s.name, s.out_name)} | {"audio", "scores", "enhanced"}
    assert len(taken) == 9
    placeholders = [n.name for n in walk.builder.graph.nodes if n.op == "placeholder"]
    assert placeholders == ["audio", *(s.name for s in walk.states)]


def test_a_name_that_begins_with_a_digit_gets_a_letter() -> None:
    walk = begun(nn.ReLU())
    node = node_of(walk, "relu")
    node.meta["origin"] = replace(walk.origin(node), module="3.conv")
    walk.add_state(node, "h", (1,))
    assert walk.states[0].name == "s_3_conv_h"


def test_states_stand_behind_the_audio_in_the_order_in_which_they_were_added() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return x + one, one + 1.0, two + 2.0

    walk = begun(nn.ReLU())
    first, node, audio = (node_of(walk, name) for name in ("conv1d", "relu", "audio"))
    states = {"one": (1, 1), "two": (1, 2)}
    between = walk.stateful(first, Two(), (walk.value(audio),), states)
    walk.keep(node, walk.stateful(node, Two(), (between,), states, ("",)), Timing(1, HOP))
    walk.builder.output([walk.value(node), *walk.state_results])
    graph = walk.builder.finish("Two")
    x = torch.rand(1, 2 * HOP)
    out, *new = graph(x, torch.full((1, 1), 5.0), torch.zeros(1, 2), torch.full((1, 1), 7.0), torch.ones(1, 2))
    assert torch.equal(out, x + 5.0 + 7.0)
    assert [state.tolist() for state in new] == [[[6.0]], [[2.0, 2.0]], [[8.0]], [[3.0, 3.0]]]
    assert [s.name for s in walk.states] == ["encoder_one", "encoder_two", "body_one", "body_two"]
    assert walk.builder.fp32 == ["body"]
    assert walk.pairs[node] == (walk.value(node).node.name, Timing(1, HOP))  # type: ignore[union-attr]


def positions(walk: Walk, name: str, value: Callable[[int], Tensor]) -> Value:
    """A constant as long as the recording, for a call."""
    known = Positions(value(12), value(17), 0, 1)
    return walk.positions(node_of(walk, name), known, Timing(2, 1), 0)


def test_a_constant_as_long_as_the_recording_for_a_call() -> None:
    walk = begun(nn.ReLU(), hops=2)
    alike = positions(walk, "relu", lambda n: torch.ones(n) * 3.0)
    assert alike.is_constant
    assert alike.tensor.tolist() == [3.0, 3.0]
    counted = positions(walk, "relu", lambda n: torch.arange(n) * 2.0 + 1.0)
    again = positions(walk, "relu", lambda n: torch.arange(n) * 5.0)
    assert counted.tensor.tolist() == [1.0, 3.0]
    assert again.tensor.tolist() == [0.0, 5.0]
    assert [s.name for s in walk.states] == ["body_count"]  # one for both
    positions(walk, "relu", lambda n: torch.clamp(torch.arange(n), max=3) * 1.0)
    assert [(s.name, s.shape) for s in walk.states][1:] == [("body_calls", (2,))]
    with pytest.raises(ConversionError, match="in a way that goes on for ever"):
        positions(walk, "relu", lambda n: torch.arange(n) ** 2.0)
    with pytest.raises(ConversionError, match="take fewer hops a call"):
        positions(begun(nn.ReLU(), hops=8), "relu", lambda n: torch.arange(n) * 1.0)


def test_the_last_line_of_the_users_own_is_found_in_a_traceback() -> None:
    def fails(x: Tensor) -> Tensor:
        return x.reshape(3, 5)

    line = sys._getframe().f_lineno - 2
    with pytest.raises(RuntimeError) as caught:
        F.relu(fails(torch.zeros(2)))
    assert line_of(caught.value.__traceback__) == f" (test_walk.py, line {line})"
    assert line_of(None) == ""


def test_tensors_are_found_in_whatever_a_layer_returns() -> None:
    one, two = torch.zeros(1), torch.ones(2)
    assert [t.shape[0] for t in tensors((one, [two, (one, 3)], "text"))] == [1, 2, 1]
    assert first_tensor(("text", [two])) is two
    assert tensors({"a": one}) == []
    assert first_tensor(7) is None
