"""What tests of nets share: how far two signals agree, and a stream through a net's graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.entry import ModelEntry


def agreement_db(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Energy of the reference over that of the difference."""
    reference, other = reference.astype(np.float64), other.astype(np.float64)
    assert reference.shape == other.shape
    assert (reference**2).sum() > 0
    return float(10 * np.log10((reference**2).sum() / max(((reference - other) ** 2).sum(), 1e-30)))


def stream(
    entry: ModelEntry, graphs: Mapping[int, Any], audio: NDArray[np.float32], partition: Sequence[int]
) -> tuple[list[NDArray[np.float32]], list[Any]]:
    """Audio [..., n] from the zero state through calls of as many hops as `partition` says; outputs and last state.

    An audio output is joined along its samples, the scores of calls along a new axis in front.
    """
    import torch

    state = [torch.zeros(spec.shape) for spec in entry.states]
    count = len(entry.sources) or 1
    outputs: list[list[NDArray[np.float32]]] = [[] for _ in range(count)]
    at = 0
    with torch.inference_mode():
        for hops in partition:
            samples = entry.buffer_samples(hops)
            results = graphs[hops](torch.from_numpy(audio[..., at : at + samples].copy()), *state)
            state = list(results[count:])
            for rows, value in zip(outputs, results[:count], strict=True):
                rows.append(value.numpy())
            at += samples
    assert at == audio.shape[-1]
    return [np.concatenate(rows, 0 if entry.task == "classifier" else -1) for rows in outputs], state
