"""Features in front of a net, described. Light: no torch, no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from models.common.errors import UsageError

FrontEndKind = Literal["stft_magnitude", "log_mel", "mfcc"]

WaveformLayout = Literal["samples", "channel_samples", "samples_channel"]

FeatureLayout = Literal[
    "frames_bands",
    "bands_frames",
    "channel_frames_bands",
    "channel_bands_frames",
    "frames_bands_channel",
    "bands_frames_channel",
]

WAVEFORM_LAYOUTS: tuple[str, ...] = get_args(WaveformLayout)

FEATURE_LAYOUTS: tuple[str, ...] = get_args(FeatureLayout)


@dataclass(frozen=True)
class FrontEndSpec:
    """Features in front of a net. The parameters are librosa's, under their own names (tests hold them together).

    Attributes:
        kind: "stft_magnitude" [frames, n_fft / 2 + 1], "log_mel" [frames, bands], "mfcc" [frames, coefficients].
        sample_rate_hz: of the audio.
        n_fft: points of the DFT.
        window_samples: length of the analysis window, at most n_fft.
        hop_samples: new samples a frame.
        window: "hann", "hamming" (both periodic) or "rectangular".
        pad_window: a window shorter than n_fft stands in the "center" of the frame (librosa, torch) or at its
            start with zeros at its "end" (TensorFlow: frames are then window_samples long).
        center: n_fft / 2 zeros on both sides of the audio (librosa's default pad_mode); windows only.
        power: 1 magnitude, 2 power.
        bands, low_hz, high_hz, mel_scale, mel_norm: of the mel matrix; "slaney" or "htk", "slaney" or "none".
        log: "natural", "log10", "db" (10 log10) or "none".
        floor: values below are raised to it before the logarithm (librosa's amin).
        offset: added before the logarithm.
        top_db: values more than this below a window's largest are raised ("db" only; librosa: 80); None: not.
        coefficients: of an MFCC (DCT-II, orthonormal).
        mean, std: (x - mean) / std at the end.
        layout: order of axes that the net takes, a batch axis in front.
    """

    kind: FrontEndKind
    sample_rate_hz: int
    n_fft: int
    window_samples: int
    hop_samples: int
    window: str = "hann"
    pad_window: str = "center"
    center: bool = False
    power: int = 2
    bands: int = 64
    low_hz: float = 0.0
    high_hz: float = 8000.0
    mel_scale: str = "slaney"
    mel_norm: str = "slaney"
    log: str = "natural"
    floor: float = 0.0
    offset: float = 1e-6
    top_db: float | None = None
    coefficients: int = 20
    mean: float = 0.0
    std: float = 1.0
    layout: str = "frames_bands"

    @property
    def frame_samples(self) -> int:
        """Samples a frame looks at."""
        return self.n_fft if self.pad_window == "center" else self.window_samples

    @property
    def values(self) -> int:
        """Values a frame gives."""
        return {"stft_magnitude": self.n_fft // 2 + 1, "log_mel": self.bands, "mfcc": self.coefficients}[self.kind]

    def frames(self, samples: int) -> int:
        """Frames of a window of `samples`.

        Raises:
            UsageError: too short for one.
        """
        padded = samples + (self.n_fft // 2 * 2 if self.center else 0)
        if padded < self.frame_samples:
            raise UsageError(
                f"front_end: a window of {samples} samples is shorter than a frame of {self.frame_samples}; "
                f"lengthen geometry.window_samples or shorten n_fft"
            )
        return 1 + (padded - self.frame_samples) // self.hop_samples
