"""models.graph.operations: each lowering says what torch says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from models.common.errors import ConversionError
from tests.models.graph.lowering import PHASES, ROUNDED, compared, drawn, graph_of, values

Bodies = Sequence[Callable[..., Any]]


def in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 2:5] = 2 * y[:, :3]
    y[:, ::3] = -1.0
    y[0, -1] = y[1, 0]
    y[:, 1::2] *= 3.0
    y[:] = y + 1.0
    y.add_(x).mul_(0.5)
    return y


def scattered(x: Tensor) -> tuple[Tensor, ...]:
    return (
        torch.slice_scatter(x, 2 * x[:, 1:9:3], 1, 1, 9, 3),
        torch.slice_scatter(x, 2 * x[:, -4:-1], 1, -4, -1),
        torch.slice_scatter(x, 2 * x[:, :], 1),
        torch.slice_scatter(x, 2 * x[1:], 0, 1),
        torch.slice_scatter(x, 2 * x[:, ::4], -1, 0, 12, 4),
        torch.select_scatter(x, 2 * x[:, 3], 1, 7),
        torch.select_scatter(x, 2 * x[2], 0, -1),
    )


def repeated(x: Tensor) -> tuple[Tensor, ...]:
    return (
        x.repeat(1, 2),
        x.repeat(3, 1, 2),
        x.repeat(2, 1, 1, 1),
        torch.tile(x, (2,)),
        torch.tile(x, (2, 1, 3)),
        x.repeat_interleave(3, 0),
        x.repeat_interleave(2, dim=-1),
    )


def rolled(x: Tensor) -> tuple[Tensor, ...]:
    return x.roll(1, 1), x.roll(-2, 1), x.roll((1, 15), (0, -1)), x.roll(12, 1)


def differences(x: Tensor) -> tuple[Tensor, ...]:
    return (
        x.diff(),
        x.diff(dim=0),
        x.diff(n=2, dim=1),
        x.diff(dim=1, prepend=x[:, :1]),
        x.diff(dim=-1, prepend=2 * x[:, :2], append=x[:, :1]),
    )


def truths(x: Tensor) -> tuple[Tensor, ...]:
    positive = x > 0
    return (
        positive * x,
        x + positive,
        positive.float() - x,
        (positive & (x < 0.5)).to(x.dtype) * x + 1.0,
        torch.where(positive, x, -x),
        x / (1.0 + positive),
        torch.div(x, 0.3, rounding_mode="floor"),
        positive.type_as(x) * x,
        x.double().float(),
        x.half().float() * 0.0 + x,
        torch.logical_not(positive) * x,
    )


def made(x: Tensor) -> tuple[Tensor, ...]:
    return (
        x + torch.zeros_like(x) + torch.ones_like(x) + torch.full_like(x, 0.25),
        torch.cat([x.new_zeros(4, 2), x, x.new_ones(4, 1), x.new_full((4, 3), 0.5)], 1),
        x + torch.ones(12, 4).t(),
        x.clone().fill_(0.5) * x,
        x - torch.full((4, 1), 2.0).expand_as(x),
        x * torch.linspace(0.0, 1.0, x.shape[1]),
        x * torch.arange(x.shape[1]),
    )


def filled(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 3:5].fill_(0.25)
    y[1].copy_(x[0, 0].expand(12))
    y[2:3, 4:].copy_(x[:1, 4:])
    return y


def arithmetic(x: Tensor) -> tuple[Tensor, ...]:
    return torch.hypot(x, x.roll(1, 1)), torch.add(x, x[:1], alpha=2), torch.sub(x, 3.0), torch.rsub(x, 1.0), 2.0 / x


def reshaped(x: Tensor) -> tuple[Tensor, ...]:
    return (
        x.t().contiguous().view(3, 16),
        x.t().reshape(-1, 2),
        x.unflatten(1, (3, 4)).flatten(0, 1),
        x.unsqueeze(0).transpose(1, 2).squeeze(0),
    )


CASES: dict[str, Bodies] = {
    "assignments": [in_place, filled],
    "scatters": [scattered],
    "repeats": [repeated],
    "rolls and differences": [rolled, differences],
    "truth values and types": [truths],
    "made values": [made],
    "arithmetic and shapes": [arithmetic, reshaped],
}


@pytest.mark.parametrize("case", CASES)
def test_an_operation_says_what_torch_says(case: str) -> None:
    names = compared(CASES[case], [values(4, 12)], limit=ROUNDED)  # linspace is float32
    gone = {"slice_scatter", "select_scatter", "repeat", "tile", "roll", "diff", "hypot", "view", "copy", "fill"}
    assert not names & (gone | {"repeat_interleave", "new_zeros", "zeros_like", "full_like", "clone"})


def test_pixel_shuffle() -> None:
    compared(
        [lambda x: F.pixel_shuffle(x, 2), lambda x: F.pixel_shuffle(x[0], 2), lambda x: F.pixel_shuffle(x[:, :9], 3)],
        [values(2, 12, 3, 5)],
    )


def test_norms_with_running_statistics() -> None:
    layers = [
        drawn(nn.BatchNorm1d(6)),
        drawn(nn.BatchNorm1d(6, affine=False)),
        drawn(nn.InstanceNorm1d(6, affine=True, track_running_stats=True)),
        drawn(nn.InstanceNorm1d(6)),
        drawn(nn.GroupNorm(3, 6)),
        drawn(nn.LayerNorm(9)),
    ]
    names = compared([lambda x, *norms: [norm(x) for norm in norms]], [values(2, 6, 9)], layers)
    assert not names & {"_native_batch_norm_legit_no_training"}


@pytest.mark.parametrize("padding", ["same", "valid", 0, 3, (2,)])
def test_convolutions_padded_in_every_way(padding: Any) -> None:
    kinds = [
        nn.Conv1d(6, 4, kernel, padding=padding, dilation=dilation, groups=groups, bias=bias)
        for kernel, dilation, groups, bias in ((3, 1, 1, True), (4, 1, 2, False), (4, 3, 1, True), (1, 1, 2, True))
    ]
    kinds.append(nn.Conv1d(6, 4, 3, stride=1 if padding == "same" else 2, padding=padding))
    names = compared(
        [lambda x, *convs: [conv(x) for conv in convs] + [convs[1](x[0]), convs[2](x[1])]],
        [values(2, 6, 14)],
        [drawn(conv) for conv in kinds],
    )
    assert "conv1d" in names


@pytest.mark.parametrize("padding", ["same", "valid", (1, 2), 1])
def test_convolutions_over_two_axes_padded_in_every_way(padding: Any) -> None:
    kinds = [
        nn.Conv2d(4, 6, kernel, padding=padding, dilation=dilation, groups=groups)
        for kernel, dilation, groups in (((3, 2), 1, 1), ((4, 3), (1, 2), 2), ((2, 5), (3, 1), 1))
    ]
    compared(
        [lambda x, *convs: [conv(x) for conv in convs] + [convs[1](x[0])]],
        [values(2, 4, 9, 11)],
        [drawn(conv) for conv in kinds],
    )


SIZE = st.integers(1, 4)


@given(
    kernel=st.tuples(SIZE, SIZE),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 3)),
    stride=st.tuples(SIZE, SIZE),
    batched=st.booleans(),
)
@settings(max_examples=8, deadline=None, phases=PHASES)
def test_patches_are_taken_and_added_back(
    kernel: tuple[int, int], dilation: tuple[int, int], padding: tuple[int, int], stride: tuple[int, int], batched: bool
) -> None:
    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x if batched else x[0]
        patches = F.unfold(x, kernel, dilation, padding, stride)
        return patches, F.fold(patches * 1.5, (9, 11), kernel, dilation, padding, stride)

    assert not compared([both], [values(2, 3, 9, 11)]) & {"im2col", "col2im"}


@given(frame=st.integers(1, 9), hop=st.integers(1, 9), count=st.integers(1, 5), rest=st.integers(0, 3))
@settings(max_examples=6, deadline=None, phases=PHASES)
def test_frames_are_added_where_they_overlap(frame: int, hop: int, count: int, rest: int) -> None:
    samples = (count - 1) * hop + frame + min(rest, hop - 1)

    def added(x: Tensor) -> Tensor:
        return F.fold(x, (1, samples), (1, frame), stride=(1, hop))

    compared([added, lambda x: added(x[0])], [values(2, 2 * frame, count)])


def test_recurrences_of_one_step() -> None:
    cells = [nn.GRUCell(5, 4), nn.GRUCell(5, 4, bias=False), nn.RNNCell(5, 4), nn.RNNCell(5, 4, nonlinearity="relu")]
    longs = [nn.LSTMCell(5, 4), nn.LSTMCell(5, 4, bias=False)]

    def steps(x: Tensor, h: Tensor, c: Tensor, *layers: nn.Module) -> list[Tensor]:
        results = [cell(x, h) for cell in layers[:4]] + [layers[0](x[0], h[0])]
        for cell in layers[4:]:
            results += cell(x, (h, c))
        return [*results, *layers[4](x[0], (h[0], c[0])), layers[2](x)]

    names = compared(
        [steps], [values(3, 5), values(3, 4, seed=1), values(3, 4, seed=2)], list(map(drawn, cells + longs))
    )
    assert not {name for name in names if name.endswith("_cell")}


def test_a_weight_norm_is_one_constant() -> None:
    layer = nn.utils.parametrizations.weight_norm(drawn(nn.Conv1d(4, 4, 3)))
    _, graph, _ = graph_of([lambda x, conv: conv(x)], [values(1, 4, 9)], [layer])
    calls = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert [str(target) for target in calls] == ["aten.conv1d"]
    compared([lambda x, conv: conv(x)], [values(1, 4, 9)], [layer], limit=ROUNDED)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sorting": (lambda x: torch.sort(x, 1)[0], r"sort \(test_operations.py, line \d+\): sort has no form"),
    "the largest": (lambda x: torch.topk(x, 2, 1)[0], r"topk \(test_operations.py, line \d+\): topk has no form"),
    "an inverse": (lambda x: torch.linalg.solve(x[:, :4], x[:, 4:]), r"has no form in a graph of fixed size"),
    "noise": (lambda x: x + torch.randn_like(x), r"is random \(randn_like\); a converted model would freeze one draw"),
    "other noise": (lambda x: x + torch.rand(4, 12), r"is random \(rand\)"),
    "a random choice": (lambda x: x * torch.bernoulli(torch.sigmoid(x)), r"is random \(bernoulli\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_form_is_refused_by_name_and_line(case: str) -> None:
    body, message = REFUSED[case]
    with pytest.raises(ConversionError, match=message):
        graph_of([body], [values(4, 12)])


def test_norms_and_distances() -> None:
    names = compared(
        [
            lambda x, y: F.normalize(x, dim=1),
            lambda x, y: torch.linalg.vector_norm(x, 1, dim=(1, 2)),
            lambda x, y: torch.linalg.vector_norm(x, float("inf"), dim=-1, keepdim=True),
            lambda x, y: x.norm(dim=2),
            lambda x, y: torch.cdist(x[0], y[0]),
            lambda x, y: torch.cdist(x[0], y[0], 1.0),
        ],
        [values(2, 3, 4, 5), values(2, 3, 6, 5, seed=1)],
    )
    assert not {name for name in names if "norm" in name or "cdist" in name}
