"""models.custom.causal.proof: a right stream is proven, a planted fault is found and its layer named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.common.errors import ConversionError
from models.custom.causal.convert import ExternalStateGraph, to_external_state
from models.custom.causal.proof import LIMIT, prove
from models.custom.entry import CustomEntry
from tests.models.custom.causal.nets import Do, Wrapped, entry_for, over_frames


def residual(x: Tensor, conv: nn.Module) -> Tensor:
    return x + torch.tanh(conv(F.pad(x, (2, 0))))


def smoothed(x: Tensor, gru: nn.Module, conv: nn.Module) -> Tensor:
    y, _ = gru(x.transpose(1, 2))
    return conv(F.pad(y.transpose(1, 2), (3, 0)))


def product_so_far(x: Tensor) -> Tensor:
    """No rule knows it: a product over time."""
    return torch.cumprod(1.0 + 0.1 * torch.tanh(x), 2)


def made(body: nn.Module, hops: int = 1) -> tuple[CustomEntry, ExternalStateGraph]:
    entry = entry_for(Wrapped(body))
    return entry, to_external_state(entry, hops)


class Spoilt(nn.Module):
    """A stateful layer of a stream whose new state is another than it should be."""

    def __init__(self, layer: nn.Module, spoil: Callable[[Tensor, Tensor], Tensor], index: int = 0) -> None:
        super().__init__()
        self.layer, self.spoil, self.index = layer, spoil, index

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        y, *new = self.layer(x, *states)
        new[self.index] = self.spoil(new[self.index], states[self.index])
        return (y, *new)


def spoil(stream: ExternalStateGraph, name: str, how: Callable[[Tensor, Tensor], Tensor], index: int = 0) -> None:
    setattr(stream.stream, name, Spoilt(stream.stream.get_submodule(name), how, index))


@pytest.mark.parametrize("hops", [1, 2])
def test_a_right_stream_is_proven_almost_to_the_bit(hops: int) -> None:
    assert prove(*made(Do(smoothed, nn.GRU(8, 8, batch_first=True), nn.Conv1d(8, 8, 4)), hops)) < 1e-12


STATE_FAULTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "forgotten": lambda new, old: torch.zeros_like(new),
    "never renewed": lambda new, old: old + 0.0,
    "a frame off": lambda new, old: new.roll(1, -1),
    "a thousandth too large": lambda new, old: 1.001 * new,
    "not a number": lambda new, old: new * torch.nan,
}


@pytest.mark.parametrize("fault", STATE_FAULTS)
def test_a_wrong_state_is_found_and_the_layer_that_reads_it_named(fault: str) -> None:
    entry, stream = made(Do(smoothed, nn.GRU(8, 8, batch_first=True), nn.Conv1d(8, 8, 4)), 2)
    spoil(stream, "pad", STATE_FAULTS[fault])
    with pytest.raises(ConversionError, match=r"^'body.layer1' \(Conv1d\): it depends on more of the past"):
        prove(entry, stream)


@pytest.mark.parametrize("index", [0, 1], ids=["hidden", "cell"])
def test_both_states_of_an_lstm_are_proven(index: int) -> None:
    entry, stream = made(over_frames(nn.LSTM(8, 8, batch_first=True)))
    spoil(stream, "body_layer0", STATE_FAULTS["forgotten"], index)
    with pytest.raises(ConversionError, match=r"it depends on more of the past than a stream carries"):
        prove(entry, stream)


def test_the_oldest_frame_of_a_long_past_is_proven_too() -> None:
    """The proof is long enough for it to have come: 24 frames, of which only the first is wrong."""
    entry, stream = made(Do(lambda x, c: c(F.pad(x, (24, 0))), nn.Conv1d(8, 8, 25)))

    def without_the_oldest(new: Tensor, old: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(new[..., :1]), new[..., 1:]], -1)

    assert prove(entry, stream) < LIMIT
    spoil(stream, "pad", without_the_oldest)
    with pytest.raises(ConversionError, match=r"'body.layer0' \(Conv1d\): it depends on more of the past"):
        prove(entry, stream)


def weight_of(graph: Any, layer: int) -> str:
    """The name of the weight of a graph's `layer`th convolution."""
    convs = [node for node in graph.graph.nodes if "conv1d" in str(node.target)]
    return str(convs[layer].args[1].target)


def change(graph: Any, name: str) -> None:
    value = getattr(graph, name).clone()
    value.flatten()[0] += 0.1
    setattr(graph, name, value)


def test_wrong_weights_in_a_stream_are_found_by_the_proof() -> None:
    """The proof itself can fail: another weight in the stream, and the layer is named."""
    entry, stream = made(Do(residual, nn.Conv1d(8, 8, 3)))
    change(stream.stream, weight_of(stream.stream, 1))
    with pytest.raises(ConversionError, match=r"'body.layer0' \(Conv1d\): it depends on more of the past"):
        prove(entry, stream)


def test_the_first_layer_that_differs_is_blamed_and_not_those_behind_it() -> None:
    entry, stream = made(nn.Sequential(nn.Conv1d(8, 8, 1), nn.Tanh(), nn.Conv1d(8, 8, 1)))
    for layer in (3 - 1, 1):
        change(stream.stream, weight_of(stream.stream, layer))
    with pytest.raises(ConversionError, match=r"^'body.0' \(Conv1d\)"):
        prove(entry, stream)


def test_what_is_exported_is_compared_with_what_was_proven() -> None:
    """A fault of the last lowerings: the stream is right, its exported form is not."""
    entry, stream = made(Do(residual, nn.Conv1d(8, 8, 3)))
    assert prove(entry, stream) < LIMIT
    change(stream.graph, weight_of(stream.graph, 1))
    with pytest.raises(ConversionError, match=r"^the output: a lowering of hearpack's changed it by .*report this net"):
        prove(entry, stream)


def test_states_that_are_exported_are_compared_too() -> None:
    entry, stream = made(over_frames(nn.LSTM(8, 8, batch_first=True)))
    layer = stream.graph.get_submodule("body_layer0")
    stream.graph.body_layer0 = Spoilt(layer, lambda new, old: 1.001 * new, 1)
    with pytest.raises(ConversionError, match=r"^body_layer0_c_out: a lowering of hearpack's changed it"):
        prove(entry, stream)


def test_what_looks_ahead_is_told_from_what_looks_too_far_back() -> None:
    entry, stream = made(Do(lambda x: x.flip(2)))
    with pytest.raises(ConversionError, match=r"flip in 'body'.*its value at a frame depends on later audio"):
        prove(entry, stream)
    entry, stream = made(Do(product_so_far))
    with pytest.raises(ConversionError, match=r"in 'body'.*it depends on more of the past"):
        prove(entry, stream)


def test_a_proof_leaves_the_nets_and_torchs_default_type_as_they_were() -> None:
    entry, stream = made(Do(residual, nn.Conv1d(8, 8, 3)))
    before = {name: value.clone() for name, value in stream.stream.state_dict().items()}
    prove(entry, stream)
    assert before
    assert torch.get_default_dtype() == torch.float32
    after = stream.stream.state_dict()
    assert all(torch.equal(after[name], value) and value.dtype == torch.float32 for name, value in before.items())
