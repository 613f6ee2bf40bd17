"""Nets and artefacts that must be refused, each with its name in the message."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from converters.checks import example_inputs, refuse_aliasing, refuse_insensitive, refuse_mutation
from models.common.errors import ConversionError
from models.geometry import GraphSignature, StateSpec, TensorSpec

FILES = Path(__file__).resolve().parents[1] / "fixtures" / "tflite"
AUDIO = TensorSpec("audio", (1, 8), (-1.0, 1.0), "")
OUT = TensorSpec("enhanced", (1, 8), (-1.0, 1.0), "")
PLAIN = GraphSignature((AUDIO,), (OUT,))
STATEFUL = GraphSignature((AUDIO,), (OUT,), (StateSpec("memory", (1, 8)),))


class Accumulator(nn.Module):
    """In place: both converters lose this without a word."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.register_buffer("total", torch.zeros(1, 8))

    def forward(self, audio: Tensor) -> Tensor:
        self.inner.total += audio
        return self.inner.total * 1.0


class Replaced(Accumulator):
    """By assignment, which changes no tensor but the attribute."""

    def forward(self, audio: Tensor) -> Tensor:
        self.inner.total = self.inner.total + audio
        return self.inner.total


class Hidden(nn.Module):
    """State in a plain attribute: no buffer shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, audio: Tensor) -> Tensor:
        self.calls += 1
        return audio * self.calls


class WritesState(nn.Module):
    def forward(self, audio: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        memory += audio
        return audio * 2, memory * 1.0


@pytest.mark.parametrize("kind", [Accumulator, Replaced])
def test_changing_buffers_is_refused_by_name(kind: type[nn.Module]) -> None:
    with pytest.raises(ConversionError, match=r"forward changes 'inner.total'"):
        refuse_mutation(kind().eval(), PLAIN)


def test_batch_norm_in_training_is_refused() -> None:
    net = nn.Sequential(nn.BatchNorm1d(8))
    with pytest.raises(ConversionError, match=r"Expected more than 1 value|running_mean"):
        refuse_mutation(net.train(), PLAIN)
    refuse_mutation(net.eval(), PLAIN)


def test_hidden_state_and_randomness_are_refused() -> None:
    with pytest.raises(ConversionError, match="'enhanced' differs between two equal calls"):
        refuse_mutation(Hidden(), PLAIN)
    with pytest.raises(ConversionError, match="'enhanced' differs between two equal calls"):
        refuse_mutation(nn.Dropout(0.5).train(), PLAIN)


def test_writing_into_an_input_is_refused_by_name() -> None:
    with pytest.raises(ConversionError, match="writes into its input 'memory'"):
        refuse_mutation(WritesState(), STATEFUL)


def test_a_forward_of_another_signature_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"does not run on tensors of its own signature \(\[1, 8\]\)"):
        refuse_mutation(nn.Linear(9, 8), PLAIN)
    with pytest.raises(ConversionError, match=r"expected forward to return enhanced \[1, 8\]; it returned 1 tensors"):
        refuse_mutation(nn.Linear(8, 4), PLAIN)


def test_good_nets_pass_and_are_left_alone(nets: ModuleType) -> None:
    for net, signature in ((nets.Window().eval(), nets.WINDOW), (nets.Step().eval(), nets.STEP)):
        before = {name: value.clone() for name, value in net.state_dict().items()}
        refuse_mutation(net, signature)
        refuse_insensitive(net, signature)
        assert before
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_net_that_ignores_its_input_is_refused(nets: ModuleType) -> None:
    net = nets.Window().eval()
    with torch.no_grad():
        net.body.weight.zero_()
    with pytest.raises(ConversionError, match="'scores' hardly depends on 'audio'"):
        refuse_insensitive(net, nets.WINDOW)


def test_examples_are_the_same_each_time_and_differ_by_seed(nets: ModuleType) -> None:
    one, two, other = (example_inputs(nets.STEP, seed) for seed in (0, 0, 1))
    assert [tuple(t.shape) for t in one] == [(1, 256), (1, 32)]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], other[0])


def test_an_output_that_is_an_input_fails_the_build() -> None:
    with pytest.raises(ConversionError, match="output 'h_out' is an input handed through"):
        refuse_aliasing((FILES / "aliased.tflite").read_bytes())
    refuse_aliasing((FILES / "step.tflite").read_bytes())
