"""The nets hearpack knows, as data. Light: importing this must not import torch.

Each entry names its factory as "module:callable". That module offers

    build(weights: Mapping[str, ndarray]) -> nn.Module           the offline form: forward(audio [1, n])
    graph(net, hops_per_call: int) -> nn.Module                  the form that is exported

where a graph's forward takes and returns the tensors of `entry.signature(hops_per_call)` in order.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from models.errors import UsageError
from models.geometry import GraphSignature, StateSpec, StreamGeometry, TensorSpec, check_buffer

Task = Literal["classifier", "enhancer", "separator"]
BufferKind = Literal["step", "window"]


@dataclass(frozen=True)
class ModelEntry:
    """One net of the catalogue.

    Attributes:
        name: short name, also the prefix of a bundle's folder.
        task: what the outputs mean.
        summary: one line for `hearpack models`.
        factory: "module:callable" that builds the offline net from weights.
        geometry: rates and hops.
        buffer_kind: "step" (hops in, hops out, state) or "window" (the host keeps the overlap).
        max_hops: most hops a call may take ("window": 1).
        output: the stream's output tensor for one hop; its last axis grows with hops for a step net.
        states: tensors carried from call to call.
        fp32_modules: dotted names of submodules of the graph that stay in float32 in fp16 artefacts,
            because a measurement says so.
        decisions: defaults of the manifest's `decisions` (classifiers).
        parameters_millions: trainable parameters.
        material: what it is verified with: the street, or speech in it; None: by its task.
        paper: where the net is described.
        weights_from: where the weights are published, for nets whose weights no package holds; "" where one does.
        labels_file: the labels of such a classifier, a file in models/.
        sources: names of a separator's outputs, each of the shape of `output`; () for the others.
    """

    name: str
    task: Task
    summary: str
    factory: str
    geometry: StreamGeometry
    buffer_kind: BufferKind
    max_hops: int
    output: TensorSpec
    parameters_millions: float
    paper: str
    states: tuple[StateSpec, ...] = ()
    fp32_modules: tuple[str, ...] = ()
    decisions: Mapping[str, object] = field(default_factory=dict)
    material: Literal["street", "speech"] | None = None
    weights_from: str = ""
    labels_file: str = ""
    sources: tuple[str, ...] = ()

    def buffer_samples(self, hops_per_call: int) -> int:
        """Samples one call of the graph takes."""
        if self.buffer_kind == "window":
            return self.geometry.window_samples
        return hops_per_call * self.geometry.hop_samples

    def hops_for(self, buffer_samples: int) -> int:
        """Hops per call of a buffer in samples; UsageError with the nearest valid two."""
        if self.buffer_kind == "window":
            if buffer_samples != self.geometry.window_samples:
                raise UsageError(
                    f"{self.name} takes a window of exactly {self.geometry.window_samples} samples a call "
                    f"({self.geometry.ms(self.geometry.window_samples):g} ms), got {buffer_samples}; "
                    f"leave --buffer-ms and --hops out"
                )
            return 1
        return check_buffer(buffer_samples, self.geometry.hop_samples, self.max_hops)

    def signature(self, hops_per_call: int) -> GraphSignature:
        """Names and shapes of one call at `hops_per_call`."""
        if not 1 <= hops_per_call <= self.max_hops:
            raise UsageError(f"{self.name} takes 1 to {self.max_hops} hops a call, got {hops_per_call}")
        samples = self.buffer_samples(hops_per_call)
        rate = self.geometry.sample_rate_hz
        channels = self.geometry.channels
        shape, kind = ((1, samples), "mono") if channels == 1 else ((1, channels, samples), f"{channels}-channel")
        audio = TensorSpec("audio", shape, (-1.0, 1.0), f"{kind} waveform at {rate} Hz, full scale 1.0")
        out = self.output
        if self.buffer_kind == "step" and self.task != "classifier":
            out = TensorSpec(out.name, (*out.shape[:-1], samples), out.range, out.meaning)
        outs = tuple(TensorSpec(name, out.shape, out.range, f"{name}: {out.meaning}") for name in self.sources)
        return GraphSignature((audio,), outs or (out,), self.states)


YAMNET = ModelEntry(
    name="yamnet",
    task="classifier",
    summary="audio events, 521 AudioSet classes, 0.975 s windows at 16 kHz",
    factory="models.yamnet:build",
    geometry=StreamGeometry(16000, 1, window_samples=15600, hop_samples=7680, delay_samples=0),
    buffer_kind="window",
    max_hops=1,
    output=TensorSpec(
        "scores", (1, 521), (0.0, 1.0), "probability of each label in labels.txt, independent of each other"
    ),
    parameters_millions=3.73,
    paper="Plakal & Ellis, YAMNet, tensorflow/models (2020), on MobileNet arXiv:1704.04861 and AudioSet (ICASSP 2017)",
    # Half precision emulated over the 60 s street recording, 123 windows: with these in float32 scores move by at most
    # 0.005 and 122 windows keep their top 5; 0.008 and 116 with the front end alone, 0.18 and 107 with none. In half,
    # scores below 6e-8 (a silent window's runners-up) are all 0, and the first layer rounds the log-mel patch itself.
    fp32_modules=("front_end", "body.layers.0", "body.sigmoid"),
    # on the pinned street recording: both long rings come out as one event each, and half as many events flicker as
    # without smoothing, for one window (0.48 s) more until an event is told
    decisions={
        "window_hop_samples": 7680,
        "smoothing_windows": 2,
        "on_threshold": 0.4,
        "off_threshold": 0.2,
        "min_on_ms": 0.0,
        "min_off_ms": 960.0,
        "per_label": {},
    },
)

DTLN = ModelEntry(
    name="dtln",
    task="enhancer",
    summary="speech enhancement, dual-signal LSTM, 8 ms hops at 16 kHz",
    factory="models.dtln:build",
    geometry=StreamGeometry(16000, 1, window_samples=512, hop_samples=128, delay_samples=384),
    buffer_kind="step",
    max_hops=16,
    output=TensorSpec(
        "enhanced", (1, 128), (-1.0, 1.0), "the waveform with noise removed, delay_samples behind `audio`"
    ),
    parameters_millions=0.99,
    paper="Westhausen & Meyer, Dual-Signal Transformation LSTM Network, Interspeech 2020, arXiv:2005.07551",
    states=(
        StateSpec("samples", (1, 384)),
        StateSpec("overlap", (1, 384)),
        # The four LSTM layers in a row: few tensors, because every one of them costs the host a copy a call.
        StateSpec("hidden", (1, 512)),
        StateSpec("cell", (1, 512)),
    ),
    # The fp16 package in the evaluator over speech, -60 dBFS, a full-scale square and DC: 66, 62, 41, 57 dB with these
    # in float32; 55, 40, 1 and 1 dB with none (squares of a loud spectrum overflow, a long-lived cell loses its steps).
    fp32_modules=(
        "framing",
        "front_end",
        "norm",
        "overlap_add",
        "core1.lstm1.cell",
        "core1.lstm2.cell",
        "core2.lstm1.cell",
        "core2.lstm2.cell",
    ),
)

GTCRN = ModelEntry(
    name="gtcrn",
    task="enhancer",
    summary="speech enhancement with 24 k parameters, 16 ms hops at 16 kHz",
    factory="models.gtcrn:build",
    geometry=StreamGeometry(16000, 1, window_samples=512, hop_samples=256, delay_samples=256),
    buffer_kind="step",
    max_hops=8,
    output=TensorSpec(
        "enhanced", (1, 256), (-1.0, 1.0), "the waveform with noise removed, delay_samples behind `audio`"
    ),
    parameters_millions=0.0237,
    paper="Rong et al., GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources, ICASSP 2024",
    states=(
        StateSpec("samples", (1, 256)),
        StateSpec("overlap", (1, 256)),
        # What the dilated convolutions look back at: 2, 4 and 10 frames in the encoder, 10, 4 and 2 in the decoder.
        StateSpec("encoder_frames", (1, 16, 33, 16)),
        StateSpec("decoder_frames", (1, 16, 33, 16)),
        # Six attentions of 16 units in a row, and the two recurrences along time.
        StateSpec("attention", (1, 96)),
        StateSpec("recurrent", (2, 33, 16)),
    ),
    # The fp16 package in the evaluator over speech, -60 dBFS and clipped speech: 78, 55, 67 dB with these in float32;
    # 43, 24 and 41 dB with none (the attentions' energies are sums of squares). Left in half are the bands and the last
    # two convolutions: the net is so small that nothing is gained by more. Half weights in down2 alone cost 15 dB.
    fp32_modules=(
        "front_end",
        "down1",
        "down2",
        "encoder1",
        "encoder2",
        "encoder3",
        "dual1",
        "dual2",
        "decoder1",
        "decoder2",
        "decoder3",
        "mask",
        "back_end",
    ),
)

SILERO_VAD = ModelEntry(
    name="silero-vad",
    task="classifier",
    summary="speech or not, every 32 ms at 16 kHz, with state",
    factory="models.silero_vad:build",
    geometry=StreamGeometry(16000, 1, window_samples=576, hop_samples=512, delay_samples=0),
    buffer_kind="step",
    max_hops=1,
    output=TensorSpec("scores", (1, 1), (0.0, 1.0), "probability that there is speech in this chunk"),
    parameters_millions=0.31,
    paper="Silero Team, Silero VAD, github.com/snakers4/silero-vad (2020 to 2026)",
    states=(
        StateSpec("context", (1, 64)),
        StateSpec("hidden", (1, 128)),
        StateSpec("cell", (1, 128)),
    ),
    # The fp16 package in the evaluator: at -60 dBFS scores move by at most 0.005 with the front end in float32, by
    # 0.023 with nothing; the LSTM's cell in float32 besides changes nothing that can be measured.
    fp32_modules=("front_end",),
    # The authors' own defaults, but that an event ends where speech was last heard.
    decisions={
        "window_hop_samples": 512,
        "smoothing_windows": 1,
        "on_threshold": 0.5,
        "off_threshold": 0.35,
        "min_on_ms": 250.0,
        "min_off_ms": 100.0,
        "per_label": {},
    },
    material="speech",
)

DEEPFILTERNET3 = ModelEntry(
    name="deepfilternet3",
    task="enhancer",
    summary="speech enhancement at 48 kHz, band gains and a deep filter, 10 ms hops",
    factory="models.deepfilternet3:build",
    geometry=StreamGeometry(48000, 1, window_samples=960, hop_samples=480, delay_samples=1440),
    buffer_kind="step",
    max_hops=1,
    output=TensorSpec(
        "enhanced", (1, 480), (-1.0, 1.0), "the waveform with noise removed, delay_samples behind `audio`"
    ),
    parameters_millions=2.13,
    paper="Schröter et al., DeepFilterNet: Perceptually Motivated Real-Time Speech Enhancement, Interspeech 2023",
    states=(
        StateSpec("samples", (1, 480)),
        StateSpec("overlap", (1, 480)),
        # Running means of 32 band levels and 96 magnitudes, and whether the stream has begun.
        StateSpec("means", (1, 129)),
        StateSpec("level_frames", (1, 2, 32)),
        StateSpec("feature_frames", (1, 2, 192)),
        StateSpec("low_frames", (1, 4, 192)),
        StateSpec("high_frames", (1, 2, 770)),
        StateSpec("to_come", (1, 96, 40)),
        StateSpec("hidden", (1, 1280)),
    ),
    # The fp16 package in the evaluator over 20 s of speech in the street: 70 dB with these in float32, 63 without the
    # cells, 27 with nothing (spectra stand divided by 960, where half has few bits or none).
    fp32_modules=(
        "front_end",
        "encoder.gru.cell",
        "erb_decoder.gru0.cell",
        "erb_decoder.gru1.cell",
        "df_decoder.gru0.cell",
        "df_decoder.gru1.cell",
        "filter",
        "mask",
        "back_end",
    ),
)


def _panns(kind: str, net: str, parameters_millions: float, checkpoint: str) -> ModelEntry:
    return ModelEntry(
        name=f"panns-{kind}",
        task="classifier",
        summary=f"audio events, 527 AudioSet classes, PANNs {net}, 2 s windows at 32 kHz; bring the weights",
        factory=f"models.panns:build_{kind}",
        geometry=StreamGeometry(32000, 1, window_samples=64000, hop_samples=32000, delay_samples=0),
        buffer_kind="window",
        max_hops=1,
        output=TensorSpec(
            "scores", (1, 527), (0.0, 1.0), "probability of each label in labels.txt, independent of each other"
        ),
        parameters_millions=parameters_millions,
        paper="Kong et al., PANNs, IEEE/ACM TASLP 28 (2020), arXiv:1912.10211, on AudioSet (ICASSP 2017)",
        # In half the squares of a loud spectrum overflow (a full-scale tone has 65,536 in its bin), and scores below
        # 6e-8 are 0; reasons, not a measurement: there are no weights here to measure with.
        fp32_modules=("front_end", "sigmoid"),
        # Untuned, for want of weights.
        decisions={
            "window_hop_samples": 32000,
            "smoothing_windows": 1,
            "on_threshold": 0.4,
            "off_threshold": 0.2,
            "min_on_ms": 0.0,
            "min_off_ms": 1000.0,
            "per_label": {},
        },
        weights_from=f"zenodo record 3987831, {checkpoint}",
        labels_file="audioset_labels.txt",
    )


PANNS_CNN14 = _panns("cnn14", "Cnn14", 80.75, "Cnn14_mAP=0.431.pth")
PANNS_MOBILENET = _panns("mobilenetv1", "MobileNetV1", 4.80, "MobileNetV1_mAP=0.389.pth")


def unet_separator(width: int) -> ModelEntry:
    """The separator with `width` channels in its first layer: the catalogue's has 16, tests take fewer."""
    return ModelEntry(
        name="unet-separator",
        task="separator",
        summary="vocals, drums, bass, other from stereo, mask U-Net, 44.1 kHz; no weights can be had here: bring them",
        factory="models.unet:build",
        geometry=StreamGeometry(44100, 2, window_samples=2048, hop_samples=512, delay_samples=1536),
        buffer_kind="step",
        max_hops=4,
        output=TensorSpec("vocals", (1, 2, 512), (-1.0, 1.0), "its share of the mix, delay_samples behind `audio`"),
        parameters_millions=0.94,
        paper="after Jansson et al., Singing Voice Separation with Deep U-Net Convolutional Networks, ISMIR 2017",
        states=(
            StateSpec("samples", (1, 2, 1536)),
            # of vocals, drums, bass and other
            StateSpec("overlap", (4, 2, 1536)),
            # What the five causal convolutions look back at, channels last.
            StateSpec("context1", (1, 2, 1025, 2)),
            StateSpec("context2", (1, 2, 513, width)),
            StateSpec("context3", (1, 4, 257, 2 * width)),
            StateSpec("context4", (1, 4, 129, 4 * width)),
            StateSpec("context5", (1, 8, 65, 8 * width)),
        ),
        # By reasoning, for want of weights: in half the squares of a loud spectrum overflow.
        fp32_modules=("front_end", "back_end"),
        sources=("vocals", "drums", "bass", "other"),
    )


UNET_SEPARATOR = unet_separator(16)

CATALOG: Mapping[str, ModelEntry] = {
    entry.name: entry
    for entry in (YAMNET, DTLN, GTCRN, DEEPFILTERNET3, SILERO_VAD, PANNS_CNN14, PANNS_MOBILENET, UNET_SEPARATOR)
}


def find(name: str) -> ModelEntry:
    """The entry called `name`, or UsageError offering the nearest names."""
    if name in CATALOG:
        return CATALOG[name]
    near = difflib.get_close_matches(name, CATALOG, n=3, cutoff=0.4)
    offer = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(f"unknown model {name!r}; {offer}known models: {', '.join(sorted(CATALOG))}")
