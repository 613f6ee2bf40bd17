"""Names of array types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Weights = Mapping[str, Float64]  # tensors by name, for folding
Arrays = Mapping[str, NDArray[Any]]  # tensors by name, as a file has them
