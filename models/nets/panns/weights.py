"""PANNs' layers and tensors by name, as the authors' checkpoints have them. Light: no torch.

Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", IEEE/ACM TASLP 28
(2020), arXiv:1912.10211. Two of their nets: Cnn14 (80 M parameters) and MobileNetV1 (4.8 M).

A checkpoint also holds its front end: the windowed DFT as two convolutions and the mel matrix. The mel matrix is
taken over; the DFT is compared with our own, so that a checkpoint for another rate or window (Cnn14_16k, Cnn14_8k) is
refused rather than fed with the wrong spectrum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.common.arrays import Arrays
from models.common.errors import WeightsError
from models.layers.mel import hann, windowed_dft
from models.nets.panns.entry import PANNS_CNN14, PANNS_MOBILENET
from models.weights.tensors import MOBILENET_BLOCKS, MOBILENET_STEM, check_tensors, norm_shapes, refuse_negative

Kind = Literal["cnn14", "mobilenetv1"]

NAMES: Mapping[Kind, str] = {"cnn14": PANNS_CNN14.name, "mobilenetv1": PANNS_MOBILENET.name}
CLASSES = PANNS_CNN14.output.shape[-1]
DFT_POINTS = 1024
BINS = DFT_POINTS // 2 + 1
MEL_BANDS = 64
# How far the checkpoint's DFT may lie from ours: theirs is computed in another order, then rounded to float32.
DFT_TOLERANCE = 1e-4

CNN14_CHANNELS = (64, 128, 256, 512, 1024, 2048)

DFT_NAMES = tuple(f"spectrogram_extractor.stft.conv_{part}.weight" for part in ("real", "imag"))
MEL_NAME = "logmel_extractor.melW"


def expected_shapes(kind: Kind, width: int = 1) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's state_dict, without the counters that BatchNorm keeps for training.

    Args:
        kind: which net.
        width: divides every channel count but the classes; the published nets have 1.
    """
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(DFT_NAMES, (BINS, 1, DFT_POINTS))
    shapes |= {MEL_NAME: (BINS, MEL_BANDS)} | norm_shapes("bn0", MEL_BANDS)
    inputs = 1
    if kind == "cnn14":
        for number, full in enumerate(CNN14_CHANNELS, 1):
            outputs, block = full // width, f"conv_block{number}"
            shapes |= {
                f"{block}.conv1.weight": (outputs, inputs, 3, 3),
                f"{block}.conv2.weight": (outputs, outputs, 3, 3),
            }
            shapes |= norm_shapes(f"{block}.bn1", outputs) | norm_shapes(f"{block}.bn2", outputs)
            inputs = outputs
    else:
        inputs = MOBILENET_STEM // width
        shapes |= {"features.0.0.weight": (inputs, 1, 3, 3)} | norm_shapes("features.0.2", inputs)
        for number, (full, _) in enumerate(MOBILENET_BLOCKS, 1):
            outputs, block = full // width, f"features.{number}"
            shapes |= {f"{block}.0.weight": (inputs, 1, 3, 3), f"{block}.4.weight": (outputs, inputs, 1, 1)}
            shapes |= norm_shapes(f"{block}.2", inputs) | norm_shapes(f"{block}.5", outputs)
            inputs = outputs
    hidden = inputs
    shapes |= {"fc1.weight": (hidden, inputs), "fc1.bias": (hidden,)}
    return shapes | {"fc_audioset.weight": (CLASSES, hidden), "fc_audioset.bias": (CLASSES,)}


def width_of(kind: Kind, weights: Arrays) -> int:
    """By what a checkpoint's channels are divided: 1 for the published nets, more for slim ones of the same layout."""
    full = CNN14_CHANNELS[0] if kind == "cnn14" else MOBILENET_STEM
    first = weights.get("conv_block1.conv1.weight" if kind == "cnn14" else "features.0.0.weight")
    if first is None or first.ndim != 4 or not first.shape[0] or full % first.shape[0]:
        return 1
    return full // int(first.shape[0])


def check(kind: Kind, weights: Arrays) -> dict[str, NDArray[np.float32]]:
    """Compare a state_dict with what the net expects.

    Args:
        kind: which net.
        weights: tensors by the authors' names.

    Returns:
        the tensors that the net takes.

    Raises:
        WeightsError: tensors are missing, unknown, of another shape or not finite, or the front end is another one.
    """
    name = NAMES[kind]
    shapes = expected_shapes(kind, width_of(kind, weights))
    kept = check_tensors(name, weights, shapes, "give the authors' checkpoint of this net")
    refuse_negative(name, kept, ".running_var")
    for tensor, matrix in zip(DFT_NAMES, windowed_dft(hann(DFT_POINTS), DFT_POINTS), strict=True):
        difference = float(np.abs(kept[tensor][:, 0] - matrix.T).max())
        if difference > DFT_TOLERANCE:
            raise WeightsError(
                f"{name}: {tensor} differs from a 1,024-point DFT with a Hann window by {difference:.2g}; "
                "is the checkpoint one for 32 kHz?"
            )
    return kept
