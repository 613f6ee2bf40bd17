"""One small builder for each MIL operation; importing this package fills the table (and imports torch)."""

from runtimes.mil.ops import (  # noqa: F401 -- each enters its builders
    activation,
    constexpr,
    control,
    conv,
    detection,
    elementwise,
    image,
    indexing,
    linear,
    normalization,
    ordering,
    pooling,
    random,
    recurrent,
    reduction,
    shaping,
    slicing,
    state,
)
