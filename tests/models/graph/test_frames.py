"""models.graph.frames: what depends on the number of frames says what torch says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.graph.lowering import PHASES, compared, drawn, graph_of, operations, values


@given(
    size=st.integers(1, 12), step=st.integers(1, 14), more=st.integers(0, 20), dim=st.sampled_from([0, 1, 2, -1, -2])
)
@settings(max_examples=8, deadline=None, phases=PHASES)
def test_overlapping_frames(size: int, step: int, more: int, dim: int) -> None:
    shape = [2, 3, 4]
    shape[dim] = size + more
    assert "unfold" not in compared([lambda x: x.unfold(dim, size, step), lambda x: 2 * x], [values(*shape)])


def test_overlapping_frames_of_more_axes() -> None:
    compared(
        [lambda x: x.unfold(1, 3, 2), lambda x: x.unfold(2, 2, 1).unfold(3, 4, 3), lambda x: x[0, 0].unfold(0, 4, 1)],
        [values(2, 7, 5, 6)],
    )


PAIR = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    kernel=PAIR,
    stride=PAIR,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    more=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
    frames=st.integers(1, 6),
)
@settings(max_examples=14, deadline=None, phases=PHASES)
def test_transposed_convolutions(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    more: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    bias: bool,
    frames: int,
) -> None:
    more = tuple(min(m, max(s, d) - 1) for m, s, d in zip(more, stride, dilation, strict=True))  # type: ignore[assignment]
    for axis, size in enumerate((frames, 5)):
        assume((size - 1) * stride[axis] - 2 * padding[axis] + dilation[axis] * (kernel[axis] - 1) + more[axis] >= 0)
    one = nn.ConvTranspose1d(4, 6, kernel[0], stride[0], padding[0], more[0], groups, bias, dilation[0])
    two = nn.ConvTranspose2d(4, 6, kernel, stride, padding, more, groups, bias, dilation)
    names = compared(
        [lambda x, one, two: (one(x[..., 0]), one(x[0, ..., 1]), two(x), two(x[1]))],
        [values(2, 4, frames, 5)],
        [drawn(one), drawn(two)],
    )
    assert not names & {"conv_transpose1d", "conv_transpose2d", "convolution"}


def attended(x: Tensor, y: Tensor, mask: Tensor, live: Tensor) -> list[Tensor]:
    """x [2, 3, 5, 4], y [2, 3, 7, 4], mask [5, 7] of bool, live [5, 7]."""
    attend = F.scaled_dot_product_attention
    added = torch.linspace(-3.0, 2.0, 35).reshape(5, 7).masked_fill(torch.eye(5, 7).bool(), -math.inf)
    return [
        attend(x, y, y),
        attend(x, y, y, scale=0.7),
        attend(x, x, x, is_causal=True),
        attend(x, y, y, is_causal=True),
        attend(x, y, y, torch.ones(5, 7).tril(2).bool()),
        attend(x, y, y, torch.ones(2, 1, 5, 7).tril(2).bool()),
        attend(x, y, y, added),
        attend(x, y, y, mask),
        attend(x, y, y, live),
        attend(x, y, y, live > -1.0),
        attend(x[0, 0], y[0, 0], y[0, 0, :, :3]),
    ]


def test_attention_with_masks_of_every_kind() -> None:
    mask = values(5, 7, seed=3) > -1.0
    inputs = [values(2, 3, 5, 4), values(2, 3, 7, 4, seed=1), mask, values(5, 7, seed=2)]
    names = compared([attended], inputs, limit=1e-6)  # the mask of numbers is made in float32
    assert "scaled_dot_product_attention" not in names


def test_attention_as_a_layer() -> None:
    layers = [
        nn.MultiheadAttention(8, 2, batch_first=True),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        nn.TransformerEncoderLayer(8, 4, 16, norm_first=True, activation="gelu"),
    ]

    def layered(x: Tensor, attention: nn.Module, one: nn.Module, two: nn.Module) -> list[Tensor]:
        later = torch.ones(6, 6).triu(1).bool()
        return [
            *attention(x, x, x),
            attention(x, x[:, :4], x[:, :4], need_weights=False)[0],
            attention(x, x, x, attn_mask=later, need_weights=False)[0],
            one(x),
            one(x, src_mask=later),
            two(x),
        ]

    names = compared([layered], [values(3, 6, 8)], list(map(drawn, layers)), limit=1e-6)
    assert "scaled_dot_product_attention" not in names


def test_padding_of_every_kind() -> None:
    names = compared(
        [
            lambda x: F.pad(x[0], (2, 3), mode="reflect"),
            lambda x: F.pad(x[0, 0], (5, 0), mode="reflect"),
            lambda x: F.pad(x, (2, 0, 0, 3), mode="reflect"),
            lambda x: F.pad(x[0], (1, 2), mode="replicate"),
            lambda x: F.pad(x, (1, 2, 3, 4), mode="replicate"),
            lambda x: F.pad(x[1], (6, 3), mode="circular"),
            lambda x: F.pad(x, (0, 3, 2, 1), mode="circular"),
            lambda x: F.pad(x, (1, 2, 3, 4), value=1.5),
            lambda x: F.pad(x, (-1, 2, 1, -2)),
            lambda x: F.pad(x, (-5, 7)),
        ],
        [values(2, 3, 5, 6)],
    )
    assert "pad" not in names


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_layers_that_pad(mode: str) -> None:
    layers = [
        drawn(nn.Conv1d(3, 3, 4, padding=3, padding_mode=mode)),
        drawn(nn.Conv2d(2, 2, 3, padding=(2, 1), padding_mode=mode)),
    ]
    compared([lambda x, one: one(x)], [values(2, 3, 7)], layers[:1])
    compared([lambda x, two: two(x)], [values(2, 2, 5, 7)], layers[1:])


def test_a_weight_from_the_input_leaves_the_operation_as_it_is() -> None:
    bodies = [lambda x, w: F.conv_transpose1d(x, w, stride=2)]
    inputs = [values(1, 3, 5), values(3, 2, 4)]
    compared(bodies, inputs)
    assert "conv_transpose1d" in operations(graph_of(bodies, inputs)[1])


def test_the_largest_of_each_part() -> None:
    names = compared(
        [
            lambda x: F.adaptive_max_pool1d(x[0], 1),
            lambda x: F.adaptive_max_pool1d(x[0], 4),
            lambda x: F.adaptive_max_pool2d(x, (3, 2)),
        ],
        [values(2, 3, 7, 9)],
    )
    assert not {name for name in names if "adaptive" in name}
