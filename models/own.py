"""A model of the user's own, in the shape of a catalogue entry. Light: no torch, no numpy.

What a user says stands in a geometry.toml (models/own_toml.py reads it) or in a mapping of the same shape; the net
comes from a file or a module of theirs (models/own_loading.py). Forms, by what forward takes and gives:

    window   audio [1, window] -> scores [1, labels]; with a front end, features instead of audio
    step     audio [1, hops x hop], states... -> out, states...; the user names the states
    causal   audio [1, n] -> [1, n] (or scores of every hop): an offline net that looks at no later sample;
             hearpack takes its state out (models/causal.py)
    keras    a .keras file that is called on windows
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from models.catalog import ModelEntry
from models.errors import UsageError

Form = Literal["window", "step", "causal", "keras"]
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
Activation = Literal["none", "sigmoid", "softmax"]
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


@dataclass(frozen=True)
class OwnOriginal:
    """Which net a bundle was made of.

    Attributes:
        factory: "net.py:build" (the file's name alone: a bundle holds no path), "package.module:build" or "net.keras".
        source_sha256: over the user's sources that were loaded, and what of the geometry takes part in the arithmetic.
        weights_sha256: of every parameter and buffer, as a safetensors file would hold them.
    """

    factory: str = ""
    source_sha256: str = ""
    weights_sha256: str = ""


@dataclass(frozen=True)
class OwnEntry(ModelEntry):
    """A catalogue entry for a net of the user's own.

    Attributes:
        form: see the top of this file.
        layout: order of axes in which a net without front end takes its audio.
        activation: put behind a classifier that gives logits.
        front_end: features in front of the net.
        labels: of a classifier, in the order of its scores.
        fp32_named: submodules that the user wants in float32 in fp16 artefacts; `fp32_modules` names all, as the graph
            has them.
        licence, citation: what the user says of the weights.
        assumed: sentences on what the user did not say.
        original: which net this is.
        net: the loaded net (torch or a traced Keras model); no part of the entry's identity, which `original` is.
        weights_file, keras_file: where its weights were read from; no part of its identity either.
    """

    form: Form = "window"
    layout: str = "samples"
    activation: Activation = "none"
    front_end: FrontEndSpec | None = None
    labels: tuple[str, ...] = ()
    fp32_named: tuple[str, ...] = ()
    licence: str = "not stated"
    citation: str = "not stated"
    assumed: tuple[str, ...] = ()
    original: OwnOriginal = OwnOriginal()
    net: Any = field(default=None, compare=False, repr=False)
    weights_file: str = field(default="", compare=False, repr=False)
    keras_file: str = field(default="", compare=False, repr=False)

    def arithmetic(self) -> str:
        """What takes part in the arithmetic, as text: a change of it is another original."""
        parts = (self.form, self.layout, self.activation, self.front_end, self.geometry, self.states, self.output.shape)
        return repr(parts)
