"""models.custom.causal.walk: what is known of a value in time, names of states, and names of what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from models.common.errors import ConversionError
from models.custom.causal.convert import noise, record, trace
from models.custom.causal.walk import Timing, Walk, first_tensor, line_of, tensors, where
from tests.models.custom.causal.nets import HOP, Do, Wrapped, entry_for


def walk_of(body: nn.Module, hops: int = 2) -> Walk:
    """A walk at its beginning, with the offline values of a body."""
    module = trace(entry_for(Wrapped(body)))
    values = [record(module, noise(length * HOP, seed)) for length, seed in ((12, 0), (17, 0), (12, 1))]
    return Walk(module, hops, *values, lengths=(12, 17))


def node_of(walk: Walk, start: str) -> fx.Node:
    return next(node for node in walk.module.graph.nodes if node.name.startswith(start))


def begun(body: nn.Module, hops: int = 2) -> Walk:
    walk = walk_of(body, hops)
    walk.audio(node_of(walk, "audio"), HOP)
    return walk


def test_time_is_the_axis_that_grows_and_the_rate_its_frames_a_hop() -> None:
    walk = walk_of(
        Do(lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest").transpose(1, 2)[:, ::2].transpose(1, 2))
    )
    assert walk.time_of(node_of(walk, "audio")) == (1, HOP)
    assert walk.time_of(node_of(walk, "net_encoder")) == (2, 1)
    assert walk.time_of(node_of(walk, "interpolate")) == (2, 2)
    assert walk.time_of(node_of(walk, "transpose")) == (1, 2)
    assert walk.time_of(node_of(walk, "net_decoder")) == (2, HOP)


def test_what_does_not_grow_has_no_time() -> None:
    walk = walk_of(Do(lambda x: x + torch.ones(8, 1) * x.shape[1]))
    assert walk.time_of(node_of(walk, "getattr")) is None  # a number
    walk = walk_of(Do(lambda x: x - x.mean(2, keepdim=True)))
    assert walk.time_of(node_of(walk, "mean")) is None


def test_frames_beyond_the_recordings_are_a_surplus() -> None:
    walk = walk_of(Do(lambda x: F.pad(x, (3, 1))[..., 3:-1]))
    pad = node_of(walk, "pad")
    assert walk.surplus(pad, 2, 1) == 4
    assert walk.surplus(node_of(walk, "net_encoder"), 2, 1) == 0


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
            "getitem",
            r"getitem in 'body'.*: gives 0.6 frames per hop: geometry.hop_samples is not a multiple",
        ),
    ],
    ids=["two axes", "part of a frame"],
)
def test_what_grows_in_another_way_is_refused(body: Callable[[Tensor], Tensor], node: str, message: str) -> None:
    walk = walk_of(Do(body))
    with pytest.raises(ConversionError, match=message):
        walk.time_of(node_of(walk, node))


def test_a_rank_that_changes_with_the_length_is_refused() -> None:
    walk = walk_of(nn.Identity())
    node = node_of(walk, "net_body")
    walk.long = {**walk.long, node: torch.zeros(1, 8)}
    with pytest.raises(ConversionError, match=r"'body' \(Identity\): its rank changes .*: 3 and 2 axes"):
        walk.time_of(node)


def test_audio_is_the_only_input() -> None:
    walk = begun(nn.Identity())
    audio = node_of(walk, "audio")
    assert walk.timings[audio] == Timing(1, HOP)
    assert walk.example[audio].shape == (1, 2 * HOP)
    with pytest.raises(ConversionError, match="a causal net takes audio alone"):
        walk.audio(audio, HOP)


def test_names_of_states_are_identifiers_and_never_twice_the_same() -> None:
    walk = begun(nn.Identity())
    node = node_of(walk, "net_body")
    shapes = [(1, 8, 2), (1, 3)]
    names = []
    for shape in shapes:
        placeholder, zero = walk.add_state(node, "past", shape)
        assert tuple(zero.shape) == shape
        assert not zero.any()
        names.append(placeholder.name)
    assert [(s.name, s.shape) for s in walk.states] == [("body_past", (1, 8, 2)), ("body_past_", (1, 3))]
    taken = {name for s in walk.states for name in (s.name, s.out_name)} | {"audio", "scores", "enhanced"}
    assert len(taken) == 7
    assert [n.name for n in walk.graph.nodes] == ["audio", *names]


@pytest.mark.parametrize(("name", "suffix", "state"), [("net_3", "h", "s_3_h"), ("net_x", "out", "x_out")])
def test_a_name_that_begins_with_a_digit_gets_a_letter(name: str, suffix: str, state: str) -> None:
    walk = begun(nn.Identity())
    node = node_of(walk, "net_body")
    node.name = name
    walk.add_state(node, suffix, (1,))
    assert walk.states[0].name == state


def test_states_stand_behind_the_audio_in_the_order_in_which_they_were_added() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return x + one, one + 1.0, two + 2.0

    walk = begun(nn.Identity())
    first, node, audio = (node_of(walk, name) for name in ("net_encoder", "net_body", "audio"))
    states = {"one": (1, 1), "two": (1, 2)}
    walk.stateful(first, Two(), (audio,), states, Timing(1, HOP))
    walk.stateful(node, Two(), (first,), states, Timing(1, HOP), ("",))
    walk.graph.output((walk.new[node], *walk.state_results))
    graph = fx.GraphModule(walk.modules, walk.graph)
    x = torch.rand(1, 2 * HOP)
    out, *new = graph(x, torch.full((1, 1), 5.0), torch.zeros(1, 2), torch.full((1, 1), 7.0), torch.ones(1, 2))
    assert torch.equal(out, x + 5.0 + 7.0)
    assert [state.tolist() for state in new] == [[[6.0]], [[2.0, 2.0]], [[8.0]], [[3.0, 3.0]]]
    assert [s.name for s in walk.states] == ["encoder_one", "encoder_two", "body_one", "body_two"]
    assert [n.name for n in walk.graph.nodes][:5] == ["audio", *(s.name for s in walk.states)]
    assert walk.fp32 == ["net_body"]
    assert walk.origins == {"net_encoder": "net.encoder", "net_body": "net.body"}
    assert walk.pairs[node] == (walk.new[node].name, Timing(1, HOP))


def test_what_is_refused_is_named_as_its_author_knows_it() -> None:
    module = trace(entry_for(Wrapped(nn.Sequential(nn.ReLU(), Do(lambda x: torch.cat([x, x], 1)[:, :8])))))
    names = {node.name: where(module, node) for node in module.graph.nodes}
    assert names["net_body_0"] == "'body.0' (ReLU)"
    assert names["net_encoder"] == "'encoder' (Conv1d)"
    assert names["unsqueeze"] == "unsqueeze"  # hearpack's own, of no line of the author's
    assert names["cat"].startswith("cat in 'body.1' (test_walk.py, line ")


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
