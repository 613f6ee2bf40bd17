"""The torch original: the offline net that artefacts are compared with, and its step form as a runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from models.common.errors import ArtefactError, MissingDependencyError
from models.entry import ModelEntry
from models.geometry import GraphSignature
from runtimes.protocol import Array, Outputs, RuntimeInfo, State, check_call, handed_on, zero_state

if TYPE_CHECKING:
    from torch import nn


def _torch() -> Any:
    try:
        import torch
    except ImportError as exc:
        raise MissingDependencyError("torch", "export", "running the original net") from exc
    return torch


def load_net(entry: ModelEntry, weights: Mapping[str, np.ndarray[Any, Any]]) -> nn.Module:
    """The offline net of a catalogue entry, in eval mode.

    Args:
        entry: which net.
        weights: arrays by the net's own key names (models.pretrained.load gives them); a custom net has been
            loaded with its weights.

    Raises:
        MissingDependencyError: torch is not installed.
        WeightsError: the weights are another net's.
    """
    _torch()
    return entry.load_net(weights)


def run_offline(net: nn.Module, samples: Array) -> Array:
    """The whole signal through the offline net at once.

    Args:
        net: what `load_net` returned.
        samples: float32 [n] at the net's rate, [channels, n] of several.

    Returns:
        float32: [n'] or [channels, n'] for an enhancer, [sources, channels, n'] for a separator, [windows, labels] for
        a classifier.
    """
    torch = _torch()
    with torch.inference_mode():
        out = net(torch.from_numpy(np.ascontiguousarray(samples, np.float32)[None]))
    result: Array = out[0].numpy()
    return result


class TorchRuntime:
    """The step graph in torch eager: the reference that every engine can be swapped for."""

    def __init__(self, graph: nn.Module, signature: GraphSignature) -> None:
        self._torch = _torch()
        self._graph = graph
        self.signature = signature

    @property
    def info(self) -> RuntimeInfo:
        return RuntimeInfo("torch", str(self._torch.__version__), f"{self._torch.get_num_threads()} threads")

    def reset(self) -> State:
        return zero_state(self.signature)

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        check_call(self.signature, block, state)
        arguments = [self._torch.from_numpy(block)]
        arguments += [self._torch.from_numpy(np.asarray(state[s.name])) for s in self.signature.carried]
        with self._torch.inference_mode():
            results = self._graph(*arguments)
        arrays = [np.array(r.numpy(), copy=True) for r in results]
        expected = len(self.signature.outputs) + len(self.signature.states)
        if len(arrays) != expected:
            raise ArtefactError(f"the graph returned {len(arrays)} tensors, its signature names {expected}")
        outputs = {t.name: a for t, a in zip(self.signature.outputs, arrays, strict=False)}
        states = arrays[len(self.signature.outputs) :]
        new = {s.name: a for s, a in zip(self.signature.states, states, strict=True)}
        return outputs, {**new, **handed_on(self.signature, state)}

    def close(self) -> None:
        """Nothing to release."""
