"""Tensors that go on to the next call."""

from __future__ import annotations

import torch
from torch import Tensor

from models.layers.constants import BEYOND_AUDIO


def as_output(kept: Tensor) -> Tensor:
    """`kept` unchanged, by an operation that survives conversion.

    A state that is the whole of an input would be that input handed through, which CompiledModel cannot do.
    Core ML's converter names tensors after local variables, so `kept` has the name that its callers give it.
    """
    return torch.clamp(kept, -BEYOND_AUDIO, BEYOND_AUDIO)
