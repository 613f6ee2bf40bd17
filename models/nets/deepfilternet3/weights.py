"""DeepFilterNet3's weights and constants, and how the published ONNX graphs are read. Light: numpy; onnx when asked.

The names are those of the torch net's `state_dict()` (models/nets/deepfilternet3/net.py). In the published graphs
batch norms are folded into the convolutions before them.
"""

from __future__ import annotations

import io
import math
import tarfile
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.arrays import Float32, Float64
from models.common.errors import WeightsError
from models.weights.onnx import initialisers, read_graph, torch_gru
from models.weights.tensors import check_tensors, rnn_shapes

SAMPLE_RATE_HZ = 48000
WINDOW_SAMPLES = 960
HOP_SAMPLES = 480
BINS = WINDOW_SAMPLES // 2 + 1
BANDS = 32
LEAST_BINS = 2  # of a band
FILTERED = 96  # bins that the deep filter works on
ORDER = 5
LOOKAHEAD = 2
CHANNELS = 64
UNITS = 256
EMBEDDING = 512
MEMORY = 0.99  # of the running means: exp(-hop / 1 s), rounded to three digits
SPECTRUM_SCALE = 1.0 / WINDOW_SAMPLES  # of the analysis; the synthesis undoes it


def band_bins() -> tuple[int, ...]:
    """How many bins each ERB band has, from the lowest: equal steps of 9.265 ln(1 + f / (24.7 * 9.265)) up to 24 kHz.

    A band takes at least `LEAST_BINS`; what it takes too many is taken from those above it.
    """
    scale = 24.7 * 9.265
    top = 9.265 * math.log1p(SAMPLE_RATE_HZ / 2 / scale)
    width = SAMPLE_RATE_HZ / WINDOW_SAMPLES
    bins, before, over = [], 0, 0
    for band in range(1, BANDS + 1):
        edge = round(scale * (math.exp(band * top / BANDS / 9.265) - 1.0) / width)
        wanted = edge - before - over
        bins.append(max(wanted, LEAST_BINS))
        over, before = bins[-1] - wanted, edge
    bins[-1] += BINS - sum(bins)
    return tuple(bins)


def band_matrix() -> Float64:
    """[32, 481]: 1 where a bin belongs to a band."""
    bins = band_bins()
    return np.repeat(np.eye(BANDS), bins, axis=1)


def vorbis_window() -> Float64:
    """[960]: power complementary."""
    phase = np.sin(np.pi * (np.arange(WINDOW_SAMPLES) + 0.5) / WINDOW_SAMPLES)
    return np.asarray(np.sin(0.5 * np.pi * phase * phase))


def first_means() -> tuple[Float64, Float64]:
    """What the running means begin with: band levels in dB [32], magnitudes of the filtered bins [96]."""
    return np.linspace(-60.0, -90.0, BANDS), np.linspace(1e-3, 1e-4, FILTERED)


def _separable(name: str, depth: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    square = (CHANNELS, CHANNELS, 1, 1)
    return {f"{name}.depth.weight": depth, f"{name}.point.weight": square, f"{name}.point.bias": (CHANNELS,)}


def _gru(name: str, layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        shapes |= rnn_shapes(name, 3, UNITS, UNITS, f"_l{layer}")
    return shapes


_TAPS = (CHANNELS, 1, 1, 3)
SHAPES: Mapping[str, tuple[int, ...]] = {
    "encoder.erb0.weight": (CHANNELS, 1, 3, 3),
    "encoder.erb0.bias": (CHANNELS,),
    **_separable("encoder.erb1", _TAPS),
    **_separable("encoder.erb2", _TAPS),
    **_separable("encoder.erb3", _TAPS),
    **_separable("encoder.df0", (CHANNELS, 1, 3, 3)),
    **_separable("encoder.df1", _TAPS),
    "encoder.df_in.weight": (32, 96, 16),
    "encoder.squeeze.weight": (16, 32, 16),
    **_gru("encoder.gru", 1),
    "encoder.widen.weight": (16, 16, 32),
    "erb_decoder.squeeze.weight": (16, 32, 16),
    **_gru("erb_decoder.gru", 2),
    "erb_decoder.widen.weight": (16, 16, 32),
    **{f"erb_decoder.skip{i}.weight": (CHANNELS, 1, 1, 1) for i in range(4)},
    **{f"erb_decoder.skip{i}.bias": (CHANNELS,) for i in range(4)},
    **_separable("erb_decoder.up3", _TAPS),
    **_separable("erb_decoder.up2", _TAPS),
    **_separable("erb_decoder.up1", _TAPS),
    "erb_decoder.out.weight": (1, CHANNELS, 1, 3),
    "erb_decoder.out.bias": (1,),
    "df_decoder.squeeze.weight": (8, 64, 32),
    **_gru("df_decoder.gru", 2),
    "df_decoder.skip.weight": (16, 32, 16),
    "df_decoder.out.weight": (16, 16, 60),
    "df_decoder.path.depth.weight": (2 * ORDER, CHANNELS // 2, 5, 1),
    "df_decoder.path.point.weight": (2 * ORDER, 2 * ORDER, 1, 1),
    "df_decoder.path.point.bias": (2 * ORDER,),
}


_ADVICE = "give the weights of DeepFilterNet3, or pull the weights again"
check = partial(check_tensors, "deepfilternet3", shapes=SHAPES, advice=_ADVICE)


class _OnnxGraph:
    """Constants of one published graph, by the order of its operations."""

    def __init__(self, data: bytes, label: str) -> None:
        graph = read_graph(data, f"deepfilternet3: {label}", "DeepFilterNet3")
        from onnx.numpy_helper import to_array as read  # late, and after read_graph has said whether onnx is there

        self.label = label
        self._constants = initialisers(graph)
        self._constants |= {
            n.output[0]: np.asarray(read(n.attribute[0].t)) for n in graph.node if n.op_type == "Constant"
        }
        self._nodes: dict[str, list[Any]] = {}
        for node in graph.node:
            kind = "Conv" if node.op_type == "ConvTranspose" else node.op_type
            self._nodes.setdefault(kind, []).append(node)

    def following(self, kind: str) -> list[NDArray[Any]]:
        """Weights of the next operation of its kind, in the order of its inputs."""
        if not self._nodes.get(kind):
            raise WeightsError(f"deepfilternet3: {self.label}: too few operations {kind}: not the published graph")
        node = self._nodes[kind].pop(0)
        return [self._constants[name] for name in node.input if name in self._constants]

    def separable(self, name: str) -> dict[str, NDArray[Any]]:
        """The next two convolutions: one a channel without a bias, then 1x1."""
        (depth,), (weight, bias) = self.following("Conv"), self.following("Conv")
        return {f"{name}.depth.weight": depth, f"{name}.point.weight": weight, f"{name}.point.bias": bias}

    def gru(self, name: str, layers: int) -> dict[str, NDArray[Any]]:
        """The next GRUs."""
        tensors: dict[str, NDArray[Any]] = {}
        for layer in range(layers):
            from_input, from_hidden, bias = self.following("GRU")
            tensors |= torch_gru(from_input[0], from_hidden[0], bias[0], name, f"l{layer}")
        return tensors


def read_archive(archive: bytes) -> dict[str, Float32]:
    """Read the authors' published archive of three ONNX graphs.

    Args:
        archive: the file DeepFilterNet3_onnx.tar.gz.

    Returns:
        float32 arrays by the names of `SHAPES`.

    Raises:
        WeightsError: it is not that archive.
        MissingDependencyError: onnx is not installed.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar.getmembers():
                handle = tar.extractfile(member) if member.isfile() else None
                if handle is not None:
                    files[member.name.rpartition("/")[2]] = handle.read()
        encoder, erb, deep = (_OnnxGraph(files[f"{n}.onnx"], f"{n}.onnx") for n in ("enc", "erb_dec", "df_dec"))
    except (tarfile.TarError, EOFError, OSError, KeyError) as exc:
        raise WeightsError(f"deepfilternet3: not the published archive of three graphs ({exc})") from exc
    found: dict[str, NDArray[Any]] = {}

    def plain(graph: _OnnxGraph, name: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = graph.following("Conv")

    def grouped(graph: _OnnxGraph, *names: str) -> None:
        for name in names:
            (found[f"{name}.weight"],) = graph.following("Einsum")

    plain(encoder, "encoder.erb0")
    for name in ("erb1", "erb2", "erb3", "df0", "df1"):
        found |= encoder.separable(f"encoder.{name}")
    grouped(encoder, "encoder.df_in", "encoder.squeeze", "encoder.widen")
    found |= encoder.gru("encoder.gru", 1)
    grouped(erb, "erb_decoder.squeeze", "erb_decoder.widen")
    found |= erb.gru("erb_decoder.gru", 2)
    for step in (3, 2, 1):
        plain(erb, f"erb_decoder.skip{step}")
        found |= erb.separable(f"erb_decoder.up{step}")
    plain(erb, "erb_decoder.skip0")
    plain(erb, "erb_decoder.out")
    grouped(deep, "df_decoder.squeeze", "df_decoder.skip", "df_decoder.out")
    found |= deep.gru("df_decoder.gru", 2)
    found |= deep.separable("df_decoder.path")
    return check(found)
