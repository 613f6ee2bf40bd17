"""Features in front of a user's net, as part of the graph: DFT, mel, logarithm, DCT.

Frames are cut by slices and reshapes and constants are a matmul's right operand, as in models/nets/yamnet/net.py. The
DFT is a product of small ones (models/layers/dft.py), or one matrix of the bins that mel reads, whichever has fewer
constants. The whole module stays in float32 in fp16 artefacts (docs/precision.md says why).
"""

from __future__ import annotations

import dataclasses
import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.common.arrays import Float64
from models.layers.constants import constant_buffer
from models.layers.dft import RealDft
from models.layers.dft_factors import constants, sizes
from models.layers.front_end_spec import FrontEndSpec
from models.layers.mel import analysis_window, dct_matrix, mel_matrix, windowed_dft


class PowerSpectrum(nn.Module):
    """Frames to the power of some bins."""

    real: Tensor
    imaginary: Tensor

    def __init__(self, window: Float64, bins: slice, frames: int) -> None:
        """Args: window: [n_fft]; bins: which are wanted; frames: how many come, -1: any number."""
        super().__init__()
        points, self.bins = len(window), bins
        wanted = bins.stop - bins.start
        self.dft: RealDft | None = None
        outer, inner = sizes(points)
        if constants(outer, inner) < 2 * points * wanted:
            self.dft = RealDft(frames, window, outer, inner)
            return
        for name, matrix in zip(("real", "imaginary"), windowed_dft(window, points), strict=True):
            self.register_buffer(name, constant_buffer(matrix[:, bins]), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Args: [frames, n_fft]. Returns: [frames, bins]."""
        if self.dft is None:
            re, im = frames @ self.real, frames @ self.imaginary
        else:
            re, im = (part[:, self.bins] for part in self.dft(frames))
        return re * re + im * im


class Features(nn.Module):
    """Audio to features, in the layout that the net takes.

    Args:
        spec: the parameters.
        frames: frames of a call: those of a window, or of a streaming call whose audio has the samples of
            earlier calls in front; None: as many whole hops as come (the offline form of a stream).
    """

    mel: Tensor
    dct: Tensor

    def __init__(self, spec: FrontEndSpec, frames: int | None) -> None:
        super().__init__()
        self.spec, self.frames = spec, frames
        bins = slice(0, spec.n_fft // 2 + 1)
        if spec.kind != "stft_magnitude":
            mel = mel_matrix(spec)
            used = np.flatnonzero(mel.any(axis=1))
            bins = slice(int(used[0]), int(used[-1]) + 1)  # of those outside, no band reads any
            self.register_buffer("mel", constant_buffer(mel[bins]), persistent=False)
        if spec.kind == "mfcc":
            matrix = dct_matrix(spec.bands, spec.coefficients)
            self.register_buffer("dct", constant_buffer(matrix), persistent=False)
        self.spectrum = PowerSpectrum(analysis_window(spec), bins, -1 if frames is None else frames)

    def forward(self, audio: Tensor) -> Tensor:
        """Args: audio [1, n]. Returns: features, [1, frames, values] in the spec's layout."""
        spec = self.spec
        x = self.spectrum(self._condition(self._cut(self._edges(self._emphasise(audio)))))  # [frames, bins]
        if spec.power == 1:
            x = torch.sqrt(x)
        if spec.kind != "stft_magnitude":
            x = self._logarithm(x @ self.mel)  # [frames, bands]
        if spec.kind == "mfcc":
            x = x @ self.dct  # [frames, coefficients]
        if (spec.mean, spec.std) != (0.0, 1.0):
            x = (x - spec.mean) * (1.0 / spec.std)
        return self._arrange(x)

    def _emphasise(self, audio: Tensor) -> Tensor:
        """[1, n] with the preemphasis that runs over the audio."""
        spec = self.spec
        if spec.preemphasis_over not in ("audio", "valid"):
            return audio
        if spec.preemphasis_over == "audio" and not spec.preceded:
            audio = functional.pad(audio, (1, 0))
        return audio[:, 1:] - spec.preemphasis * audio[:, :-1]

    def _edges(self, audio: Tensor) -> Tensor:
        """[1, n] with what stands before and behind a centred window."""
        if not self.spec.center:
            return audio
        edge = self.spec.n_fft // 2
        mode = "reflect" if self.spec.pad_mode == "reflect" else "constant"
        return functional.pad(audio, (edge, edge), mode=mode)

    def _cut(self, audio: Tensor) -> Tensor:
        """Overlapping frames of [1, n], as rows."""
        frame, hop = self.spec.cut_samples, self.spec.hop_samples
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

    def _condition(self, x: Tensor) -> Tensor:
        """Frames as the DFT takes them: without their mean, emphasised, filled up to n_fft."""
        spec, before = self.spec, 0
        if spec.remove_dc or spec.preemphasis_over == "frame":  # what the window covers, alone
            before = (spec.cut_samples - spec.window_samples) // 2
            x = x[:, before : before + spec.window_samples]
        if spec.remove_dc:
            x = x - x.mean(1, keepdim=True)
        if spec.preemphasis_over == "frame":
            x = x - spec.preemphasis * torch.cat([x[:, :1], x[:, :-1]], 1)
        missing = spec.n_fft - x.shape[1]
        return functional.pad(x, (before, missing - before)) if missing else x

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
        spec = dataclasses.replace(spec, preceded=True)
        self.context = spec.frame_samples - spec.hop_samples
        self.features = Features(spec, None)

    def forward(self, audio: Tensor) -> Tensor:
        """Args: audio [1, n]. Returns: features of n // hop frames."""
        return cast(Tensor, self.features(functional.pad(audio, (self.context, 0))))
