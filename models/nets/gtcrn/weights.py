"""GTCRN's weights: which tensors there are, and how the published ONNX graph is read. Light: numpy; onnx when asked.

The names are those of the authors' own checkpoints (github.com/Xiaobin-Rong/gtcrn, state_dict of the training net), so
that theirs, and a net fine-tuned with their code, load as they are. The published ONNX graph is their streaming net:
the encoder's batch norms are folded into its convolutions there, so the identity stands in their place here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.arrays import Float32
from models.common.errors import WeightsError
from models.weights.onnx import initialisers, read_graph, torch_gru
from models.weights.tensors import check_tensors, norm_shapes, rnn_shapes

WINDOW_SAMPLES = 512
HOP_SAMPLES = 256
BINS = WINDOW_SAMPLES // 2 + 1
LOW_BINS = 65  # kept as they are
BANDS = 64  # the other 192 bins, in ERB bands
WIDTH = 33  # frequency steps behind two strides of 2
CHANNELS = 16
ATTENTION_UNITS = 16
DILATIONS = (1, 2, 5)  # of the encoder's temporal blocks; the decoder has them in the opposite order
BATCH_NORM_EPSILON = 1e-5
LAYER_NORM_EPSILON = 1e-8
_HALF = CHANNELS // 2


def _conv_shapes(name: str, norm: str, *weight: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": (outputs,), **norm_shapes(norm, outputs)}


def _temporal_block_shapes(name: str, transposed: bool) -> dict[str, tuple[int, ...]]:
    """A transposed 1x1 convolution keeps its weight as [inputs, outputs, 1, 1]."""
    into, out = (3 * _HALF, CHANNELS), (CHANNELS, _HALF)
    return {
        **_conv_shapes(
            f"{name}.point_conv1", f"{name}.point_bn1", *(into if transposed else into[::-1]), 1, 1, outputs=CHANNELS
        ),
        f"{name}.point_act.weight": (1,),
        **_conv_shapes(f"{name}.depth_conv", f"{name}.depth_bn", CHANNELS, 1, 3, 3, outputs=CHANNELS),
        f"{name}.depth_act.weight": (1,),
        **_conv_shapes(
            f"{name}.point_conv2", f"{name}.point_bn2", *(out if transposed else out[::-1]), 1, 1, outputs=_HALF
        ),
        **rnn_shapes(f"{name}.tra.att_gru", 3, _HALF, ATTENTION_UNITS),
        f"{name}.tra.att_fc.weight": (_HALF, ATTENTION_UNITS),
        f"{name}.tra.att_fc.bias": (_HALF,),
    }


def _dual_path_shapes(name: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path, units, places in (("intra", _HALF // 2, ("_l0", "_l0_reverse")), ("inter", _HALF, ("_l0",))):
        for group, place in product((1, 2), places):
            shapes |= rnn_shapes(f"{name}.{path}_rnn.rnn{group}", 3, _HALF, units, place)
        shapes[f"{name}.{path}_fc.weight"] = (CHANNELS, CHANNELS)
        shapes[f"{name}.{path}_fc.bias"] = (CHANNELS,)
        shapes[f"{name}.{path}_ln.weight"] = (WIDTH, CHANNELS)
        shapes[f"{name}.{path}_ln.bias"] = (WIDTH, CHANNELS)
    return shapes


ENCODER = tuple(f"encoder.en_convs.{i}" for i in range(5))
DECODER = tuple(f"decoder.de_convs.{i}" for i in range(5))
DUAL_PATH = ("dpgrnn1", "dpgrnn2")

SHAPES: Mapping[str, tuple[int, ...]] = {
    "erb.erb_fc.weight": (BANDS, BINS - LOW_BINS),
    "erb.ierb_fc.weight": (BINS - LOW_BINS, BANDS),
    **_conv_shapes(f"{ENCODER[0]}.conv", f"{ENCODER[0]}.bn", CHANNELS, 9, 1, 5, outputs=CHANNELS),
    f"{ENCODER[0]}.act.weight": (1,),
    **_conv_shapes(f"{ENCODER[1]}.conv", f"{ENCODER[1]}.bn", CHANNELS, _HALF, 1, 5, outputs=CHANNELS),
    f"{ENCODER[1]}.act.weight": (1,),
    **{key: shape for name in ENCODER[2:] for key, shape in _temporal_block_shapes(name, transposed=False).items()},
    **{key: shape for name in DUAL_PATH for key, shape in _dual_path_shapes(name).items()},
    **{key: shape for name in DECODER[:3] for key, shape in _temporal_block_shapes(name, transposed=True).items()},
    **_conv_shapes(f"{DECODER[3]}.conv", f"{DECODER[3]}.bn", CHANNELS, _HALF, 1, 5, outputs=CHANNELS),
    f"{DECODER[3]}.act.weight": (1,),
    **_conv_shapes(f"{DECODER[4]}.conv", f"{DECODER[4]}.bn", CHANNELS, 2, 1, 5, outputs=2),
}


_ADVICE = "give a checkpoint of the authors' training net, or pull the weights again"
check = partial(check_tensors, "gtcrn", shapes=SHAPES, advice=_ADVICE)


class _OnnxGraph:
    """Weights of the published graph, by the order of its operations: most of its tensors have no name of their own."""

    def __init__(self, data: bytes) -> None:
        graph = read_graph(data, "gtcrn", "GTCRN")
        self._named = initialisers(graph)
        self._nodes = {
            kind: [n for n in graph.node if n.op_type == kind] for kind in ("Conv", "PRelu", "GRU", "MatMul")
        }
        found = {kind: len(nodes) for kind, nodes in self._nodes.items()}
        expected = {"Conv": 11, "PRelu": 15, "GRU": 14, "MatMul": 12}
        if found != expected:
            raise WeightsError(f"gtcrn: expected an ONNX graph with {expected}, got {found}: not the published GTCRN")

    def named(self, name: str) -> NDArray[Any]:
        """The initialiser `name`."""
        if name not in self._named:
            raise WeightsError(f"gtcrn: no tensor {name!r} in the ONNX graph; this is not the published GTCRN")
        return self._named[name]

    def following(self, kind: str, *slots: int) -> tuple[NDArray[Any], ...]:
        """The constants at these inputs of the next operation of its kind."""
        node = self._nodes[kind].pop(0)
        return tuple(self.named(node.input[slot]) for slot in slots)

    def gru(self, name: str, directions: int = 1) -> dict[str, NDArray[Any]]:
        """The next GRU, in torch's order of gates."""
        from_input, from_hidden, biases = self.following("GRU", 1, 2, 3)
        tensors: dict[str, NDArray[Any]] = {}
        for direction, suffix in zip(range(directions), ("", "_reverse"), strict=False):
            tensors |= torch_gru(from_input[direction], from_hidden[direction], biases[direction], name, f"l0{suffix}")
        return tensors


def _no_norm(name: str, channels: int) -> dict[str, NDArray[Any]]:
    """A batch norm that does nothing."""
    one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    return {
        f"{name}.weight": one,
        f"{name}.bias": zero,
        f"{name}.running_mean": zero,
        f"{name}.running_var": one - np.float32(BATCH_NORM_EPSILON),
    }


def read_onnx(data: bytes) -> dict[str, Float32]:
    """Read the authors' published streaming graph.

    Args:
        data: the file gtcrn_simple.onnx.

    Returns:
        float32 arrays by the names of `SHAPES`.

    Raises:
        WeightsError: it is not that graph (an operation, a tensor or a shape differs).
        MissingDependencyError: onnx is not installed.
    """
    graph = _OnnxGraph(data)
    found: dict[str, NDArray[Any]] = {"erb.erb_fc.weight": graph.following("MatMul", 1)[0].T}

    def folded(name: str, norm: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = graph.following("Conv", 1, 2)
        found.update(_no_norm(norm, len(found[f"{name}.bias"])))

    def attention(block: str) -> None:
        found.update(graph.gru(f"{block}.tra.att_gru"))
        found[f"{block}.tra.att_fc.weight"] = graph.following("MatMul", 1)[0].T

    for block in ENCODER[:2]:
        folded(f"{block}.conv", f"{block}.bn")
        (found[f"{block}.act.weight"],) = graph.following("PRelu", 1)
    for block in ENCODER[2:]:
        for conv, norm in (("point_conv1", "point_bn1"), ("depth_conv", "depth_bn"), ("point_conv2", "point_bn2")):
            folded(f"{block}.{conv}", f"{block}.{norm}")
        for act in ("point_act", "depth_act"):
            (found[f"{block}.{act}.weight"],) = graph.following("PRelu", 1)
        attention(block)
    for block in DUAL_PATH:
        for path, directions in (("intra", 2), ("inter", 1)):
            for group in (1, 2):
                found.update(graph.gru(f"{block}.{path}_rnn.rnn{group}", directions))
            found[f"{block}.{path}_fc.weight"] = graph.following("MatMul", 1)[0].T
    for block in DECODER[:3]:
        for act in ("point_act", "depth_act"):
            (found[f"{block}.{act}.weight"],) = graph.following("PRelu", 1)
        attention(block)
        found[f"{block}.depth_conv.weight"] = graph.named(f"{block}.depth_conv.ConvTranspose2d.weight")
        found[f"{block}.depth_conv.bias"] = graph.named(f"{block}.depth_conv.ConvTranspose2d.bias")
    (found[f"{DECODER[3]}.act.weight"],) = graph.following("PRelu", 1)
    found["erb.ierb_fc.weight"] = graph.following("MatMul", 1)[0].T
    found |= {key: graph.named(key) for key in SHAPES if key not in found}
    return check({key: value.reshape(1) if key.endswith("act.weight") else value for key, value in found.items()})
