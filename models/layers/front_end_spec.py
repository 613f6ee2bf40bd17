"""Features in front of a net, described. Light: no torch, no numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
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

WINDOWS = ("hann", "hamming", "blackman", "povey", "rectangular")

MEL_SCALES = ("slaney", "htk", "kaldi")

WAVEFORM_LAYOUTS: tuple[str, ...] = get_args(WaveformLayout)

FEATURE_LAYOUTS: tuple[str, ...] = get_args(FeatureLayout)


@dataclass(frozen=True)
class FrontEndSpec:
    """Features in front of a net. The parameters are librosa's and torchaudio's (tests hold them together).

    Attributes:
        kind: "stft_magnitude" [frames, n_fft / 2 + 1], "log_mel" [frames, bands], "mfcc" [frames, coefficients].
        sample_rate_hz: of the audio.
        n_fft: points of the DFT.
        window_samples: length of the analysis window, at most n_fft.
        hop_samples: new samples a frame.
        window: one of WINDOWS.
        periodic: the window's last sample is the one before its first comes again; False: symmetric.
        pad_window: a window shorter than n_fft stands in the "center" of the frame (librosa, torch) or at its
            start with zeros at its "end" (TensorFlow: frames are then window_samples long).
        center: n_fft / 2 samples on both sides of the audio; windows only.
        pad_mode: what these are: "zeros" (librosa) or the audio's own, "reflect" (torch.stft, torchaudio).
        scale: of the audio, before all else: 32768 for a net trained on 16-bit integers.
        remove_dc: each frame's mean is taken off (Kaldi).
        preemphasis: c of y[n] = x[n] - c x[n - 1]; 0: none.
        preemphasis_form: "frame": in each frame, whose first sample precedes itself (Kaldi); "audio": over the audio,
            zero in front of it; "valid": over the audio, without its first sample (a conv1d of [-c, 1], EfficientAT).
        preceded: the audio of an "audio" preemphasis begins with the sample before its first (the stream's form).
        power: 1 magnitude, 2 power.
        bands, low_hz, high_hz, mel_scale, mel_norm: of the mel matrix; one of MEL_SCALES; "slaney" or "none".
        mel_data, mel_sha256: a mel matrix from a file instead (`mel_from_file`), and its sha256.
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
    periodic: bool = True
    center: bool = False
    pad_mode: str = "zeros"
    scale: float = 1.0
    remove_dc: bool = False
    preemphasis: float = 0.0
    preemphasis_form: str = "frame"
    preceded: bool = False
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
    mel_sha256: str = ""
    mel_data: str = field(default="", repr=False)

    @property
    def cut_samples(self) -> int:
        """Samples of a frame, behind the preemphasis."""
        return self.n_fft if self.pad_window == "center" else self.window_samples

    @property
    def frame_samples(self) -> int:
        """Samples of the audio that a frame looks at."""
        return self.cut_samples + (self.preemphasis_over == "audio")

    @property
    def preemphasis_over(self) -> str:
        """`preemphasis_form`, or "" where there is none."""
        return self.preemphasis_form if self.preemphasis else ""

    @property
    def values(self) -> int:
        """Values a frame gives."""
        return {"stft_magnitude": self.n_fft // 2 + 1, "log_mel": self.bands, "mfcc": self.coefficients}[self.kind]

    def frames(self, samples: int) -> int:
        """Frames of a window of `samples`.

        Raises:
            UsageError: too short for one.
        """
        edge = self.n_fft // 2 if self.center else 0
        padded = samples - (self.preemphasis_over == "valid") + 2 * edge
        if self.pad_mode == "reflect" and edge >= padded - 2 * edge:
            raise UsageError(
                f"front_end: a window of {samples} samples has no {edge} samples to reflect at its edges; "
                f"lengthen geometry.window_samples or shorten n_fft"
            )
        if padded < self.cut_samples:
            raise UsageError(
                f"front_end: a window of {samples} samples is shorter than a frame of {self.frame_samples}; "
                f"lengthen geometry.window_samples or shorten n_fft"
            )
        return 1 + (padded - self.cut_samples) // self.hop_samples

    def edge_frames(self, samples: int) -> tuple[int, int]:
        """How many of a centred window's first and last frames look past its edges."""
        edge, frames = self.n_fft // 2, self.frames(samples)
        side = (self.n_fft - self.window_samples) // 2 if self.pad_window == "center" else 0  # zeros of the window
        reach = edge - side  # of the first frame, to the left of the audio
        first = min(frames, -(-reach // self.hop_samples)) if reach > 0 else 0
        # Frame f covers f hop - edge + side ... + window_samples of the audio.
        fits = (samples + edge - side - self.window_samples) // self.hop_samples  # the last one that ends inside
        return first, min(frames, max(0, frames - 1 - fits))
