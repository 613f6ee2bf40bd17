"""Forms that published nets have, and what the graph makes of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.models.graph.lowering import ROUNDED, compared, drawn, graph_of, values


def test_an_assignment_to_a_slice_that_is_read_again_is_the_value_alone() -> None:
    def clamped(x: Tensor) -> Tensor:
        y = x * 2.0
        part = y[:, 2:7]
        return part.clamp_(-0.5, 0.5) + 1.0

    def part_of_it(x: Tensor) -> Tensor:
        y = x * 2.0
        y[:, 2:7].clamp_(-0.5, 0.5)
        return y[:, 1:5]

    assert "cat" not in compared([clamped], [values(1, 10)])
    assert "cat" in compared([part_of_it], [values(1, 10)])


def test_samples_that_the_window_blanks_are_neither_reflected_nor_multiplied() -> None:
    def centred(window: Tensor) -> list[int]:
        def spectrum(x: Tensor) -> Tensor:
            size = window.numel()
            z = torch.stft(x, 16, 4, win_length=size, window=window.to(x.dtype), return_complex=True)
            return torch.view_as_real(z)

        compared([spectrum], [values(1, 64)], limit=ROUNDED)
        _, graph, _ = graph_of([spectrum], [values(1, 64)])
        return [buffer.shape[-1] for name, buffer in graph.named_buffers() if buffer.dim() == 3]

    assert centred(torch.hann_window(16)) == [15]  # its first is zero
    assert centred(torch.hann_window(10)) == [9]
    assert centred(torch.ones(16)) == [16]


def test_products_over_more_than_three_axes_are_over_rows() -> None:
    """litert-torch gives batch_matmul another rank than its verifier expects where one of the axes is 1."""
    matrix = values(5, 3, seed=1)

    def dense(x: Tensor, biased: nn.Module, plain: nn.Module) -> Tensor:
        y: Tensor = biased(x) + plain(x)
        return y

    def product(x: Tensor, *_: nn.Module) -> Tensor:
        return x @ matrix.to(x.dtype)

    def rows(x: Tensor, _: nn.Module, plain: nn.Module) -> Tensor:
        y: Tensor = plain(x.reshape(3, 5))
        return y.reshape(1, 3, 1, 4)

    layers = [drawn(nn.Linear(5, 4)), drawn(nn.Linear(5, 4, bias=False))]
    compared([dense, product, rows], [values(1, 3, 1, 5)], layers, limit=ROUNDED)
    _, graph, _ = graph_of([dense, product, rows], [values(1, 3, 1, 5)], layers)
    products = [n for n in graph.graph.nodes if "linear" in str(n.target) or "matmul" in str(n.target)]
    assert len(products) == 4
    for node in products:  # without a bias the matrix comes first: reshape, product, reshape would be joined
        assert "reshape" in str(node.args[0].target) if "linear" in str(node.target) else node.args[0].op == "get_attr"
