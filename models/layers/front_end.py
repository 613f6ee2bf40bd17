"""Features in front of a user's net, as part of the graph: DFT as matrices, mel, logarithm, DCT.

Frames are cut by slices and reshapes and constants are a matmul's right operand, as in models/nets/yamnet/net.py. The
whole module stays in float32 in fp16 artefacts (docs/precision.md says why).
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.layers.front_end_spec import FrontEndSpec
from models.layers.mel import dct_matrix, dft, mel_matrix


class Features(nn.Module):
    """Audio to features, in the layout that the net takes.

    Args:
        spec: the parameters.
        frames: frames of a call: those of a window, or of a streaming call whose audio has the samples of
            earlier calls in front; None: as many whole hops as come (the offline form of a stream).
    """

    real: Tensor
    imaginary: Tensor
    mel: Tensor
    dct: Tensor

    def __init__(self, spec: FrontEndSpec, frames: int | None) -> None:
        super().__init__()
        self.spec, self.frames = spec, frames
        real, imaginary = dft(spec)
        if spec.kind != "stft_magnitude":
            mel = mel_matrix(spec)
            used = np.flatnonzero(mel.any(axis=1))  # bins that no triangle reads are not computed
            real, imaginary = real[:, used], imaginary[:, used]
            self._keep("mel", mel[used])
        if spec.kind == "mfcc":
            self._keep("dct", dct_matrix(spec.bands, spec.coefficients))
        self._keep("real", real)
        self._keep("imaginary", imaginary)

    def _keep(self, name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
        self.register_buffer(name, torch.tensor(np.ascontiguousarray(value), dtype=torch.float32), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Args: audio [1, n]. Returns: features, [1, frames, values] in the spec's layout."""
        spec = self.spec
        if spec.center:
            audio = functional.pad(audio, (spec.n_fft // 2, spec.n_fft // 2))
        frames = self._cut(audio)  # [frames, frame]
        re, im = frames @ self.real, frames @ self.imaginary  # [frames, bins]
        x = re * re + im * im
        if spec.power == 1:
            x = torch.sqrt(x)
        if spec.kind != "stft_magnitude":
            x = self._logarithm(x @ self.mel)  # [frames, bands]
        if spec.kind == "mfcc":
            x = x @ self.dct  # [frames, coefficients]
        if (spec.mean, spec.std) != (0.0, 1.0):
            x = (x - spec.mean) * (1.0 / spec.std)
        return self._arrange(x)

    def _cut(self, audio: Tensor) -> Tensor:
        """Overlapping frames of [1, n], as rows."""
        frame, hop = self.spec.frame_samples, self.spec.hop_samples
        if self.frames is None:
            return audio[0].unfold(0, frame, hop)
        count = self.frames
        parts = math.ceil(frame / hop)
        wanted = (count + parts - 1) * hop
        if audio.shape[1] < wanted:  # only the last frame's unused part
            audio = functional.pad(audio, (0, wanted - audio.shape[1]))
        rows = audio[:, :wanted].reshape(count + parts - 1, hop)
        columns = [rows[part : part + count] for part in range(parts)]
        surplus = parts * hop - frame
        if surplus:
            columns[-1] = columns[-1][:, : hop - surplus]
        return torch.cat(columns, 1) if parts > 1 else columns[0]

    def _logarithm(self, x: Tensor) -> Tensor:
        spec = self.spec
        if spec.log == "none":
            return x
        if spec.floor > 0.0:
            x = torch.clamp(x, min=spec.floor)
        if spec.offset > 0.0:
            x = x + spec.offset
        x = torch.log(x) * {"natural": 1.0, "log10": 1.0 / math.log(10.0), "db": 10.0 / math.log(10.0)}[spec.log]
        if spec.top_db is not None:
            x = torch.maximum(x, torch.amax(x, dim=(0, 1), keepdim=True) - spec.top_db)
        return x

    def _arrange(self, x: Tensor) -> Tensor:
        layout = self.spec.layout
        x = x.unsqueeze(0)  # [1, frames, values]
        if "bands_frames" in layout:
            x = x.transpose(1, 2)
        if layout.startswith("channel_"):
            x = x.unsqueeze(1)
        elif layout.endswith("_channel"):
            x = x.unsqueeze(3)
        return x


class CausalFeatures(nn.Module):
    """The offline form of a stream's features: a frame for each hop, zeros in front of the recording."""

    def __init__(self, spec: FrontEndSpec) -> None:
        super().__init__()
        self.context = spec.frame_samples - spec.hop_samples
        self.features = Features(spec, None)

    def forward(self, audio: Tensor) -> Tensor:
        """Args: audio [1, n]. Returns: features of n // hop frames."""
        return cast(Tensor, self.features(functional.pad(audio, (self.context, 0))))
