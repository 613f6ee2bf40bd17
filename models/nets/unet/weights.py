"""The separator's tensors by name, and which of Open-Unmix's it takes. Light: no torch.

Open-Unmix (Stöter et al., JOSS 2019) scales spectra at its ends by vectors over the bins; they stand here under the
names of its published layout: `input_mean` and `input_scale` (a file of a narrower bandwidth has fewer bins), and
`target_models.SOURCE.output_mean` and `.output_scale`. Nothing else of it has a counterpart here: its body is fully
connected layers around a bidirectional LSTM, which hears the whole recording before it says anything.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.common.arrays import Arrays
from models.common.errors import WeightsError
from models.nets.unet.entry import UNET_SEPARATOR
from models.weights.tensors import check_tensors, norm_shapes, refuse_negative

SOURCES = UNET_SEPARATOR.sources
CHANNELS = UNET_SEPARATOR.geometry.channels
WINDOW_SAMPLES = UNET_SEPARATOR.geometry.window_samples
HOP_SAMPLES = UNET_SEPARATOR.geometry.hop_samples
BINS = WINDOW_SAMPLES // 2 + 1
TAPS = 5  # along frequency
FRAMES = 3  # along time, in the encoder
DILATIONS = (1, 1, 2, 2, 4)
_INPUT = ("input_mean", "input_scale")
_FOREIGN = ("fc1", "fc2", "fc3", "bn1", "bn2", "bn3", "lstm")


def encoder_channels(width: int) -> tuple[int, ...]:
    """Channels before each of the five levels, and after the last."""
    return (CHANNELS, *(width * 2**level for level in range(len(DILATIONS))))


def decoder_channels(width: int) -> tuple[tuple[int, int], ...]:
    """(inputs, outputs) of the five levels back: all but the first take the encoder's beside their own."""
    deep = 16 * width
    return (
        (deep, deep // 2),
        (deep, deep // 4),
        (deep // 2, deep // 8),
        (deep // 4, width),
        (2 * width, len(SOURCES) * CHANNELS),
    )


def expected_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a state_dict, without the counters that BatchNorm keeps for training."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_INPUT, (BINS,))
    for source in SOURCES:
        shapes |= {f"target_models.{source}.output_{part}": (BINS,) for part in ("mean", "scale")}
    channels = encoder_channels(width)
    for level, (inputs, outputs) in enumerate(pairwise(channels)):
        name = f"encoder.{level}"
        shapes |= {f"{name}.conv.weight": (outputs, inputs, FRAMES, TAPS), f"{name}.conv.bias": (outputs,)}
        shapes |= norm_shapes(f"{name}.bn", outputs)
    for level, (inputs, outputs) in enumerate(decoder_channels(width)):
        name = f"decoder.{level}"
        shapes |= {f"{name}.conv.weight": (inputs, outputs, 1, TAPS), f"{name}.conv.bias": (outputs,)}
        shapes |= norm_shapes(f"{name}.bn", outputs)
    return shapes


def width_of(weights: Arrays) -> int:
    """Channels of the first layer: 16 in the catalogue's net."""
    first = weights.get("encoder.0.conv.weight")
    return 16 if first is None or first.ndim != 4 or not first.shape[0] else int(first.shape[0])


def _refuse_open_unmix(weights: Arrays) -> None:
    """Raise where tensors of Open-Unmix's body are among the weights."""
    body = sorted(n for n in weights if any(part in _FOREIGN for part in n.split(".")))
    if not body:
        return
    scalers = [n for n in weights if n.rpartition(".")[2] in (*_INPUT, "output_mean", "output_scale")]
    fitting = [
        n
        for n in scalers
        if weights[n].ndim == 1 and (len(weights[n]) == BINS or ("input" in n and len(weights[n]) < BINS))
    ]
    others = ", ".join(f"{n} {list(weights[n].shape)}" for n in sorted(set(scalers) - set(fitting)))
    raise WeightsError(
        f"{UNET_SEPARATOR.name}: of Open-Unmix, whose bidirectional LSTM needs the whole recording; only vectors over "
        f"{BINS} bins fit, of this file {', '.join(sorted(fitting)) or 'none'}"
        f"{f', not {others}' if others else ''}; train the U-Net (card.md), keep their names"
    )


def check(weights: Arrays) -> dict[str, NDArray[np.float32]]:
    """Compare a state_dict with what the net expects.

    Args:
        weights: tensors by name, of any width.

    Returns:
        the tensors that the net takes; `input_mean` and `input_scale` of fewer bins filled up with zeros, so that the
        bins above are not heard, as in Open-Unmix.

    Raises:
        WeightsError: Open-Unmix's body; or tensors are missing, unknown, of another shape or not finite.
    """
    _refuse_open_unmix(weights)
    kept = dict(weights)
    for name in _INPUT:
        value = kept.get(name)
        if value is not None and value.ndim == 1 and 0 < len(value) < BINS:
            kept[name] = np.pad(value, (0, BINS - len(value)))
    checked = check_tensors(
        UNET_SEPARATOR.name, kept, expected_shapes(width_of(kept)), "give a checkpoint of this U-Net's training"
    )
    refuse_negative(UNET_SEPARATOR.name, checked, ".running_var")
    return checked
