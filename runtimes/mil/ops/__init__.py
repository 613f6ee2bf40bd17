"""One small builder for each MIL operation; importing this package fills the table (and imports torch)."""

from runtimes.mil.ops import (
    activation,
    constexpr,
    control,
    conv,
    elementwise,
    indexing,
    linear,
    normalization,
    ordering,
    pooling,
    recurrent,
    reduction,
    shaping,
    slicing,
    state,
)
from runtimes.mil.ops.table import TABLE, Entry, Kernel, Node

__all__ = [
    "TABLE",
    "Entry",
    "Kernel",
    "Node",
    "activation",
    "constexpr",
    "control",
    "conv",
    "elementwise",
    "indexing",
    "linear",
    "normalization",
    "ordering",
    "pooling",
    "recurrent",
    "reduction",
    "shaping",
    "slicing",
    "state",
]
