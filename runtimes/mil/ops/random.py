"""Random values. Core ML does not publish its generator, so its values cannot be had here: torch's take their place.

The distributions are the documented ones. With a seed of zero or more every call gives the same values again (no
state is kept between calls); without one (-1) each call draws afresh.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from runtimes.mil.limits import room
from runtimes.mil.ops.table import TORCH_DTYPES, Kernel, Node, op

Draw = Callable[[list[int], torch.Generator], Tensor]


def _generator(node: Node) -> Callable[[], torch.Generator]:
    seed = node.integer("seed", -1)

    def fresh() -> torch.Generator:
        generator = torch.Generator()
        if seed < 0:
            generator.seed()
        else:
            generator.manual_seed(seed)
        return generator

    return fresh


def _drawn(node: Node, draw: Draw) -> Kernel:
    fresh, dtype = _generator(node), TORCH_DTYPES[node.out_type.dtype]

    def run(shape: Tensor) -> Tensor:
        sizes = shape.tolist()
        room(sizes)
        return draw(sizes, fresh()).to(dtype)

    return Kernel(run, ("shape",))


@op("random_bernoulli", rounds=False, pure=False)
def random_bernoulli(node: Node) -> Kernel:
    """1 with probability `prob`, else 0."""
    probability = node.number("prob", 0.5)
    return _drawn(node, lambda shape, generator: torch.rand(shape, generator=generator) < probability)


@op("random_normal", pure=False)
def random_normal(node: Node) -> Kernel:
    """Normal values of a mean and a standard deviation."""
    mean, deviation = node.number("mean", 0.0), node.number("stddev", 1.0)
    return _drawn(node, lambda shape, generator: mean + deviation * torch.randn(shape, generator=generator))


@op("random_uniform", pure=False)
def random_uniform(node: Node) -> Kernel:
    """Values evenly spread from `low` up to, not including, `high`."""
    low, high = node.number("low", 0.0), node.number("high", 1.0)
    return _drawn(node, lambda shape, generator: low + (high - low) * torch.rand(shape, generator=generator))


@op("random_categorical", pure=False)
def random_categorical(node: Node) -> Kernel:
    """`size` class indices for each row of logits or probabilities, drawn with replacement."""
    mode, size, fresh = node.text("mode", "logits").lower(), node.integer("size", 1), _generator(node)
    dtype = TORCH_DTYPES[node.out_type.dtype]
    if mode not in ("logits", "probs"):
        raise node.refuse(f"unknown mode {mode!r}; known: logits, probs")

    def run(x: Tensor) -> Tensor:
        room([*x.shape[:-1], size])
        weights = torch.softmax(x.float(), -1) if mode == "logits" else x.float()
        rows = torch.multinomial(weights.reshape(-1, x.shape[-1]), size, replacement=True, generator=fresh())
        return rows.reshape(*x.shape[:-1], size).to(dtype)

    return Kernel(run, ("x",))
