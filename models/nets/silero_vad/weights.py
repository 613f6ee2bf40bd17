"""Silero VAD's weights: which tensors there are, and how the published ONNX graph is read. Light: numpy; onnx if asked.

The names are those of silero_vad_16k.safetensors, which the authors publish beside their graphs. That file of version
6.2.3 is another training than the graphs of the same package (scores differ by up to 0.39 on speech in a street), so
the pinned weights come from the graph, which is what the package itself runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from models.common.arrays import Float32
from models.common.errors import WeightsError
from models.weights.onnx import initialisers, read_graph
from models.weights.tensors import check_tensors, rnn_shapes

CHUNK_SAMPLES = 512
CONTEXT_SAMPLES = 64
MIRRORED_SAMPLES = 64  # appended to a chunk, mirrored at its last sample
TRANSFORM_SAMPLES = 256
TRANSFORM_HOP = 128
FRAMES = (CONTEXT_SAMPLES + CHUNK_SAMPLES + MIRRORED_SAMPLES - TRANSFORM_SAMPLES) // TRANSFORM_HOP + 1
BINS = TRANSFORM_SAMPLES // 2 + 1
UNITS = 128

SHAPES: Mapping[str, tuple[int, ...]] = {
    "stft_conv.weight": (2 * BINS, 1, TRANSFORM_SAMPLES),
    "conv1.weight": (128, BINS, 3),
    "conv1.bias": (128,),
    "conv2.weight": (64, 128, 3),
    "conv2.bias": (64,),
    "conv3.weight": (64, 64, 3),
    "conv3.bias": (64,),
    "conv4.weight": (UNITS, 64, 3),
    "conv4.bias": (UNITS,),
    **rnn_shapes("lstm_cell", 4, UNITS, UNITS, ""),
    "final_conv.weight": (1, UNITS, 1),
    "final_conv.bias": (1,),
}


_ADVICE = "give the authors' 16 kHz safetensors file, or pull the weights again"
check = partial(check_tensors, "silero-vad", shapes=SHAPES, advice=_ADVICE)


_ONNX_NAMES = {
    "stft_conv.weight": "model.stft.forward_basis_buffer",
    **{
        f"conv{number + 1}.{part}": f"model.encoder.{number}.reparam_conv.{part}"
        for number in range(4)
        for part in ("weight", "bias")
    },
    **{f"lstm_cell.{part}": f"model.decoder.rnn.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    **{f"final_conv.{part}": f"model.decoder.decoder.2.{part}" for part in ("weight", "bias")},
}


def read_onnx(data: bytes) -> dict[str, Float32]:
    """Read the authors' published 16 kHz graph.

    Args:
        data: the file silero_vad_16k_op15.onnx.

    Returns:
        float32 arrays by the names of `SHAPES`.

    Raises:
        WeightsError: it is not that graph.
        MissingDependencyError: onnx is not installed.
    """
    graph = read_graph(data, "silero-vad", "Silero VAD")
    tensors = initialisers(graph)
    missing = sorted(set(_ONNX_NAMES.values()) - tensors.keys())
    if missing:
        raise WeightsError(f"silero-vad: no tensor {missing[0]!r} in the ONNX graph; this is not the published net")
    return check({ours: tensors[theirs] for ours, theirs in _ONNX_NAMES.items()})
