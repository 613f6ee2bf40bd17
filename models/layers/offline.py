"""What the offline forms of nets share: their audio, their weights, windows in and frames out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.common.arrays import Float64
from models.common.errors import AudioError
from models.geometry import StreamGeometry

Net = TypeVar("Net", bound=nn.Module)


def with_weights(net: Net, weights: Mapping[str, NDArray[Any]], strict: bool = True) -> Net:
    """A net with its weights, ready for inference.

    Args:
        net: takes them over.
        weights: arrays by the names of its state_dict.
        strict: whether there must be one for each name; batch norms have counters that no inference needs.
    """
    net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()}, strict=strict)
    return net.eval().requires_grad_(False)


def float64_weights(net: nn.Module) -> dict[str, Float64]:
    """A net's tensors by name."""
    return {name: value.detach().cpu().double().numpy() for name, value in net.state_dict().items()}


def check_audio(net: str, audio: Tensor, channels: int = 1) -> None:
    """Raise AudioError unless `audio` is [1, n], or [1, channels, n] where a net takes several, with n >= 1."""
    leading = (1,) if channels == 1 else (1, channels)
    if audio.shape[:-1] != leading or audio.shape[-1] == 0:
        expected = ", ".join(map(str, leading))
        raise AudioError(f"{net}: expected audio [{expected}, samples], at least one sample, got {list(audio.shape)}")


def over_windows(audio: Tensor, geometry: StreamGeometry, at_once: int, scores: Callable[[Tensor], Tensor]) -> Tensor:
    """Scores of every window of a recording; the last one is filled up with zeros, as a stream with a flush.

    Samples behind the last whole window make one more; a recording that ends with a window has none. So n samples
    give max(0, ceil((n - window) / hop)) + 1 windows.

    Args:
        audio: [1, n], n >= 1.
        geometry: of the net: window and hop.
        at_once: windows that `scores` takes at once, which bounds memory on long files.
        scores: [windows, window_samples] to [windows, classes].

    Returns:
        [1, windows, classes].
    """
    window, hop = geometry.window_samples, geometry.hop_samples
    windows = max(0, math.ceil((audio.shape[1] - window) / hop)) + 1
    padded = functional.pad(audio, (0, window + (windows - 1) * hop - audio.shape[1]))
    cut = padded[0].unfold(0, window, hop)  # [windows, window_samples], a view
    return torch.cat([scores(batch) for batch in torch.split(cut, at_once)]).unsqueeze(0)


def overlap_add(frames: Tensor, hop_samples: int) -> Tensor:
    """Frames [..., hops, n hop_samples], each a hop behind the one before, as a waveform [..., hops hop_samples]."""
    columns = torch.split(frames, hop_samples, -1)
    hops = frames.shape[-2]
    summed = frames.new_zeros(*frames.shape[:-2], hops + len(columns) - 1, hop_samples)
    for part, column in enumerate(columns):
        summed[..., part : part + hops, :] += column
    return summed[..., :hops, :].flatten(-2)
