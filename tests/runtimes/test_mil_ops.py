"""Each operation of the evaluator against numpy or torch: one package holds all cases and is run once."""

# ruff: noqa: E501  a case reads best as one row of a table

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

from converters.coreml.convert import quiet_coremltools  # noqa: E402
from runtimes.mil import Program  # noqa: E402
from runtimes.mil.blob import decode, unpack  # noqa: E402

F = torch.nn.functional
Case = tuple[Callable[[Any, dict[str, Any]], Any], Callable[[dict[str, Any]], Any]]


def inputs() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(7)
    return {
        "x": rng.standard_normal((2, 4, 6, 5)).astype(np.float32),
        "y": (rng.random((2, 4, 6, 5)) + 0.1).astype(np.float32),
        "i": rng.integers(-9, 9, (2, 4, 6, 5)).astype(np.int32),
        "s": rng.standard_normal((3, 2, 4)).astype(np.float32),
        "n": np.array([3, -1, 0], np.int32),
    }


def tensors() -> dict[str, Any]:
    return {name: torch.from_numpy(value) for name, value in inputs().items()}


RNG = np.random.default_rng(3)
W_CONV = RNG.standard_normal((8, 4, 3, 3)).astype(np.float32)
W_DEPTH = RNG.standard_normal((4, 1, 3, 2)).astype(np.float32)
W_UP = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
B8 = RNG.standard_normal(8).astype(np.float32)
B3 = RNG.standard_normal(3).astype(np.float32)
W_LIN = RNG.standard_normal((7, 5)).astype(np.float32)
C4 = (RNG.random(4) + 0.5).astype(np.float32)
V4 = RNG.standard_normal(4).astype(np.float32)
LSTM = [RNG.standard_normal(s).astype(np.float32) for s in ((12, 4), (12, 3), (12,), (2, 3), (2, 3))]
GRU = [RNG.standard_normal(s).astype(np.float32) for s in ((9, 4), (9, 3), (9,), (2, 3))]
t = torch.from_numpy


def _gates(value: np.ndarray[Any, Any]) -> Any:
    """MIL's input, forget, output, cell as torch's input, forget, cell, output."""
    i, f, o, z = np.split(value, 4)
    return t(np.concatenate([i, f, z, o]))


def torch_lstm(x: Any) -> Any:
    net = torch.nn.LSTM(4, 3)
    net.load_state_dict(
        {
            "weight_ih_l0": _gates(LSTM[0]),
            "weight_hh_l0": _gates(LSTM[1]),
            "bias_ih_l0": _gates(LSTM[2]),
            "bias_hh_l0": torch.zeros(12),
        }
    )
    return net(x, (t(LSTM[3])[None], t(LSTM[4])[None]))[0]


def numpy_gru(x: Any) -> Any:
    (wr, wo, wz), (ur, uo, uz), (br, bo, bz) = (np.split(v, 3) for v in GRU[:3])
    h, steps = GRU[3], []
    for row in x.numpy():
        r = 1 / (1 + np.exp(-(row @ wr.T + h @ ur.T + br)))
        z = 1 / (1 + np.exp(-(row @ wz.T + h @ uz.T + bz)))
        h = (1 - z) * np.tanh(row @ wo.T + bo + (r * h) @ uo.T) + z * h
        steps.append(h)
    return np.stack(steps)


def same(x: Any, kernel: tuple[int, int], stride: int) -> Any:
    pads = []
    for size, k in zip(reversed(x.shape[2:]), reversed(kernel), strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + k - size)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


FLOAT: dict[str, Case] = {
    **{
        name: (lambda mb, v, n=name: getattr(mb, n)(x=v["x"]), lambda v, f=fn: f(v["x"]))
        for name, fn in {
            "abs": torch.abs, "atan": torch.atan, "ceil": torch.ceil, "cos": torch.cos, "cosh": torch.cosh, "erf": torch.erf,
            "exp": torch.exp, "exp2": torch.exp2, "floor": torch.floor, "round": torch.round, "sign": torch.sign,
            "sin": torch.sin, "sinh": torch.sinh, "square": torch.square, "tan": torch.tan, "tanh": torch.tanh,
            "relu": torch.relu, "relu6": F.relu6, "sigmoid": torch.sigmoid, "silu": F.silu, "softplus": F.softplus,
            "softsign": F.softsign,
        }.items()
    },
    **{
        name: (lambda mb, v, n=name: getattr(mb, n)(x=v["x"], y=v["y"]), lambda v, f=fn: f(v["x"], v["y"]))
        for name, fn in {
            "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.div, "maximum": torch.maximum,
            "minimum": torch.minimum, "floor_div": torch.floor_divide, "mod": torch.remainder,
        }.items()
    },
    **{
        f"{name} int": (
            lambda mb, v, n=name: mb.cast(x=getattr(mb, n)(x=v["x"], y=v["y"]), dtype="int32"),
            lambda v, f=fn: f(v["x"], v["y"]).int(),
        )
        for name, fn in {
            "less": torch.lt, "less_equal": torch.le, "greater": torch.gt, "greater_equal": torch.ge, "equal": torch.eq,
            "not_equal": torch.ne,
        }.items()
    },
    **{
        f"reduce_{name}": (lambda mb, v, n=name: getattr(mb, f"reduce_{n}")(x=v["y"], axes=[1, -1], keep_dims=True),
                           lambda v, f=fn: f(v["y"], (1, 3), True))
        for name, fn in {
            "sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin, "log_sum_exp": torch.logsumexp,
            "l1_norm": lambda x, a, k: x.abs().sum(a, k), "l2_norm": lambda x, a, k: x.square().sum(a, k).sqrt(),
            "log_sum": lambda x, a, k: x.sum(a, k).log(), "sum_square": lambda x, a, k: x.square().sum(a, k),
            "prod": lambda x, a, k: x.prod(3, k).prod(1, k),
        }.items()
    },
    "reduce_mean all": (lambda mb, v: mb.reduce_mean(x=v["x"], keep_dims=True), lambda v: v["x"].mean((0, 1, 2, 3), True)),
    "argmax": (lambda mb, v: mb.reduce_argmax(x=v["x"], axis=1), lambda v: v["x"].argmax(1)),
    "argmin": (lambda mb, v: mb.reduce_argmin(x=v["x"], axis=-1, keep_dims=True), lambda v: v["x"].argmin(3, True)),
    "pow": (lambda mb, v: mb.pow(x=v["y"], y=v["x"]), lambda v: v["y"] ** v["x"]),
    "sqrt": (lambda mb, v: mb.sqrt(x=v["y"]), lambda v: v["y"].sqrt()),
    "log": (lambda mb, v: mb.log(x=v["y"], epsilon=0.25), lambda v: (v["y"] + 0.25).log()),
    "rsqrt": (lambda mb, v: mb.rsqrt(x=v["y"], epsilon=0.5), lambda v: (v["y"] + 0.5).rsqrt()),
    "inverse": (lambda mb, v: mb.inverse(x=v["y"], epsilon=0.5), lambda v: 1 / (v["y"] + 0.5)),
    "clip": (lambda mb, v: mb.clip(x=v["x"], alpha=-0.5, beta=0.75), lambda v: v["x"].clamp(-0.5, 0.75)),
    "threshold": (lambda mb, v: mb.threshold(x=v["x"], alpha=0.2), lambda v: v["x"].clamp(min=0.2)),
    "real_div of integers cuts": (lambda mb, v: mb.real_div(x=v["i"], y=np.int32(4)), lambda v: np.trunc(v["i"].numpy() / 4)),
    "floor_div of integers": (lambda mb, v: mb.floor_div(x=v["i"], y=np.int32(4)), lambda v: v["i"].numpy() // 4),
    "mod of integers": (lambda mb, v: mb.mod(x=v["i"], y=np.int32(4)), lambda v: v["i"].numpy() % 4),
    "cast cuts": (lambda mb, v: mb.cast(x=mb.mul(x=v["x"], y=3.0), dtype="int32"), lambda v: np.trunc(v["x"].numpy() * 3.0)),
    "select": (
        lambda mb, v: mb.select(cond=mb.greater(x=v["x"], y=0.0), a=v["x"], b=v["y"]),
        lambda v: torch.where(v["x"] > 0, v["x"], v["y"]),
    ),
    "logical_and": (
        lambda mb, v: mb.cast(x=mb.logical_and(x=mb.greater(x=v["x"], y=0.0), y=mb.less(x=v["y"], y=0.5)), dtype="int32"),
        lambda v: ((v["x"] > 0) & (v["y"] < 0.5)).int(),
    ),
    "softmax": (lambda mb, v: mb.softmax(x=v["x"], axis=1), lambda v: v["x"].softmax(1)),
    "gelu": (lambda mb, v: mb.gelu(x=v["x"], mode="EXACT"), lambda v: F.gelu(v["x"])),
    "gelu tanh": (lambda mb, v: mb.gelu(x=v["x"], mode="TANH_APPROXIMATION"), lambda v: F.gelu(v["x"], approximate="tanh")),
    "leaky_relu": (lambda mb, v: mb.leaky_relu(x=v["x"], alpha=0.3), lambda v: F.leaky_relu(v["x"], 0.3)),
    "elu": (lambda mb, v: mb.elu(x=v["x"], alpha=0.7), lambda v: F.elu(v["x"], 0.7)),
    "prelu": (lambda mb, v: mb.prelu(x=v["x"], alpha=C4), lambda v: F.prelu(v["x"], t(C4))),
    "clamped_relu": (
        lambda mb, v: mb.clamped_relu(x=v["x"], alpha=0.5, beta=0.8),
        lambda v: torch.where(v["x"] >= 0, v["x"], 0.5 * v["x"]).clamp(max=0.8),
    ),
    "sigmoid_hard": (lambda mb, v: mb.sigmoid_hard(x=v["x"], alpha=0.3, beta=0.4), lambda v: (v["x"] * 0.3 + 0.4).clamp(0, 1)),
    "linear_activation": (lambda mb, v: mb.linear_activation(x=v["x"], alpha=0.3, beta=2.0), lambda v: v["x"] * 0.3 + 2),
    "scaled_tanh": (lambda mb, v: mb.scaled_tanh(x=v["x"], alpha=0.3, beta=2.0), lambda v: 0.3 * (v["x"] * 2).tanh()),
    "thresholded_relu": (lambda mb, v: mb.thresholded_relu(x=v["x"], alpha=0.6), lambda v: torch.where(v["x"] >= 0.6, v["x"], 0)),
    "softplus_parametric": (
        lambda mb, v: mb.softplus_parametric(x=v["x"], alpha=C4, beta=V4),
        lambda v: t(C4)[:, None, None] * torch.log1p((t(V4)[:, None, None] * v["x"]).exp()),
    ),
    "reshape": (lambda mb, v: mb.reshape(x=v["x"], shape=[4, -1]), lambda v: v["x"].reshape(4, -1)),
    "transpose": (lambda mb, v: mb.transpose(x=v["x"], perm=[3, 0, -2, 1]), lambda v: v["x"].permute(3, 0, 2, 1)),
    "expand_dims": (lambda mb, v: mb.expand_dims(x=v["s"], axes=[0, -1]), lambda v: v["s"][None, ..., None]),
    "squeeze": (lambda mb, v: mb.squeeze(x=mb.expand_dims(x=v["s"], axes=[0, 2]), axes=[0, 2]), lambda v: v["s"]),
    "flatten2d": (lambda mb, v: mb.flatten2d(x=v["x"], axis=2), lambda v: v["x"].reshape(8, 30)),
    "concat": (lambda mb, v: mb.concat(values=[v["x"], v["y"]], axis=-1), lambda v: torch.cat([v["x"], v["y"]], -1)),
    "concat interleaved": (
        lambda mb, v: mb.concat(values=[v["x"], v["y"]], axis=1, interleave=True),
        lambda v: torch.stack([v["x"], v["y"]], 2).reshape(2, 8, 6, 5),
    ),
    "stack": (lambda mb, v: mb.stack(values=[v["x"], v["y"]], axis=2), lambda v: torch.stack([v["x"], v["y"]], 2)),
    "split": (lambda mb, v: mb.split(x=v["x"], split_sizes=[1, 3, 2], axis=2)[1], lambda v: v["x"][:, :, 1:4]),
    "split even": (lambda mb, v: mb.split(x=v["x"], num_splits=3, axis=-2)[2], lambda v: v["x"][:, :, 4:]),
    "tile": (lambda mb, v: mb.tile(x=v["s"], reps=[1, 2, 3]), lambda v: v["s"].repeat(1, 2, 3)),
    "reverse": (lambda mb, v: mb.reverse(x=v["x"], axes=[1, 3]), lambda v: v["x"].flip(1, 3)),
    "pad constant": (
        lambda mb, v: mb.pad(x=v["x"], pad=[1, 0, 2, 3], mode="constant", constant_val=1.5),
        lambda v: F.pad(v["x"], (2, 3, 1, 0), value=1.5),
    ),
    "pad reflect": (
        lambda mb, v: mb.pad(x=v["x"], pad=[2, 1, 3, 0], mode="reflect"),
        lambda v: np.pad(v["x"].numpy(), ((0, 0), (0, 0), (2, 1), (3, 0)), "reflect"),
    ),
    "pad replicate": (
        lambda mb, v: mb.pad(x=v["x"], pad=[0, 2, 1, 1], mode="replicate"),
        lambda v: F.pad(v["x"], (1, 1, 0, 2), mode="replicate"),
    ),
    "depth_to_space": (
        lambda mb, v: mb.space_to_depth(x=mb.depth_to_space(x=v["x"], block_size=2), block_size=2),
        lambda v: v["x"],
    ),
    "pixel_shuffle": (lambda mb, v: mb.pixel_shuffle(x=v["x"], upscale_factor=2), lambda v: F.pixel_shuffle(v["x"], 2)),
    "sliding_windows": (
        lambda mb, v: mb.sliding_windows(x=v["x"], axis=2, size=3, stride=2),
        lambda v: v["x"].unfold(2, 3, 2).movedim(-1, 3),
    ),
    "cumsum": (lambda mb, v: mb.cumsum(x=v["x"], axis=1, reverse=True), lambda v: v["x"].flip(1).cumsum(1).flip(1)),
    "band_part": (lambda mb, v: mb.band_part(x=v["x"], lower=1, upper=2), lambda v: v["x"].tril(2).triu(-1)),
    "one_hot": (
        lambda mb, v: mb.one_hot(indices=v["n"], one_hot_vector_size=5, axis=0, on_value=2, off_value=-1),
        lambda v: torch.where(torch.arange(5)[:, None] == v["n"], 2, -1),
    ),
    "slice_by_index": (
        lambda mb, v: mb.slice_by_index(x=v["x"], begin=[0, 1, 5, -4], end=[0, 4, 0, -1], stride=[1, 2, -2, 1],
                                        begin_mask=[True, False, False, False], end_mask=[True, False, False, False]),
        lambda v: v["x"].numpy()[:, 1:4:2, 5:0:-2, -4:-1],
    ),
    "slice_by_index squeezed": (
        lambda mb, v: mb.slice_by_index(x=v["x"], begin=[0, -1, 1, 0], end=[2, 0, 4, 5], squeeze_mask=[False, True, False, False]),
        lambda v: v["x"][:, -1, 1:4],
    ),
    "slice_by_size": (
        lambda mb, v: mb.slice_by_size(x=v["x"], begin=[0, 1, 2, -3], size=[2, 2, -1, 2]),
        lambda v: v["x"][:, 1:3, 2:, 2:4],
    ),
    "gather": (lambda mb, v: mb.gather(x=v["x"], indices=[[2, 0], [1, 1]], axis=2), lambda v: v["x"][:, :, [[2, 0], [1, 1]]]),
    "gather dynamic negative": (lambda mb, v: mb.gather(x=v["x"], indices=v["n"], axis=1), lambda v: v["x"][:, [3, -1, 0]]),
    "gather_along_axis": (
        lambda mb, v: mb.gather_along_axis(x=v["s"], indices=np.array([[[1, 0, 0, 1]]] * 3, np.int32), axis=1),
        lambda v: np.take_along_axis(v["s"].numpy(), np.array([[[1, 0, 0, 1]]] * 3), 1),
    ),
    "gather_nd": (
        lambda mb, v: mb.gather_nd(x=v["x"], indices=np.array([[1, 3], [0, 2]], np.int32)),
        lambda v: v["x"][[1, 0], [3, 2]],
    ),
    "scatter": (
        lambda mb, v: mb.scatter(data=v["s"], indices=[0, 0], updates=mb.reverse(x=v["s"], axes=[1]), axis=1, mode="add"),
        lambda v: torch.stack([v["s"][:, 0] + v["s"].sum(1), v["s"][:, 1]], 1),
    ),
    "topk": (lambda mb, v: mb.topk(x=v["x"], k=3, axis=-2, ascending=False)[0], lambda v: v["x"].topk(3, 2)[0]),
    "topk indices": (lambda mb, v: mb.topk(x=v["x"], k=2, axis=3, ascending=True)[1], lambda v: v["x"].topk(2, 3, False)[1]),
    "argsort": (lambda mb, v: mb.argsort(x=v["x"], axis=2, ascending=True), lambda v: v["x"].argsort(2)),
    "linear": (lambda mb, v: mb.linear(x=v["x"], weight=W_LIN), lambda v: F.linear(v["x"], t(W_LIN))),
    "matmul": (
        lambda mb, v: mb.matmul(x=v["x"], y=v["y"], transpose_x=True),
        lambda v: v["x"].mT @ v["y"],
    ),
    "matmul turned": (lambda mb, v: mb.matmul(x=v["x"], y=v["y"], transpose_y=True), lambda v: v["x"] @ v["y"].mT),
    "einsum": (
        lambda mb, v: mb.einsum(values=(v["x"], mb.transpose(x=v["y"], perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
        lambda v: torch.einsum("nchw,nwhu->nchu", v["x"], v["y"].permute(0, 3, 2, 1)),
    ),
    "conv": (
        lambda mb, v: mb.conv(x=v["x"], weight=W_CONV, bias=B8, strides=[2, 1], pad_type="custom", pad=[1, 1, 2, 2]),
        lambda v: F.conv2d(v["x"], t(W_CONV), t(B8), (2, 1), (1, 2)),
    ),
    "conv uneven, dilated": (
        lambda mb, v: mb.conv(x=v["x"], weight=W_CONV, dilations=[1, 2], pad_type="custom", pad=[0, 1, 3, 0]),
        lambda v: F.conv2d(F.pad(v["x"], (3, 0, 0, 1)), t(W_CONV), None, 1, 0, (1, 2)),
    ),
    "conv depthwise same": (
        lambda mb, v: mb.conv(x=v["x"], weight=W_DEPTH, strides=[2, 2], pad_type="same", groups=4),
        lambda v: F.conv2d(same(v["x"], (3, 2), 2), t(W_DEPTH), None, 2, 0, 1, 4),
    ),
    "conv_transpose": (
        lambda mb, v: mb.conv_transpose(x=v["x"], weight=W_UP, bias=B3, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        lambda v: F.conv_transpose2d(v["x"], t(W_UP), t(B3), 2, 1),
    ),
    "conv_transpose longer": (
        lambda mb, v: mb.conv_transpose(x=v["x"], weight=W_UP, bias=B3, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1],
                                        output_shape=[2, 3, 12, 10]),
        lambda v: F.conv_transpose2d(v["x"], t(W_UP), t(B3), 2, 1, 1),
    ),
    "max_pool": (
        lambda mb, v: mb.max_pool(x=v["x"], kernel_sizes=[3, 2], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        lambda v: F.max_pool2d(v["x"], (3, 2), 2, 1),
    ),
    "avg_pool": (
        lambda mb, v: mb.avg_pool(x=v["x"], kernel_sizes=[3, 2], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1],
                                  exclude_padding_from_average=True),
        lambda v: F.avg_pool2d(v["x"], (3, 2), 2, 1, count_include_pad=False),
    ),
    "avg_pool ceil": (
        lambda mb, v: mb.avg_pool(x=v["x"], kernel_sizes=[3, 3], strides=[2, 2], pad_type="valid", ceil_mode=True),
        lambda v: F.avg_pool2d(v["x"], 3, 2, 0, ceil_mode=True),
    ),
    "l2_pool": (
        lambda mb, v: mb.l2_pool(x=v["x"], kernel_sizes=[2, 2], strides=[1, 1], pad_type="valid"),
        lambda v: F.lp_pool2d(v["x"], 2, 2, 1),
    ),
    "batch_norm": (
        lambda mb, v: mb.batch_norm(x=v["x"], mean=V4, variance=C4, gamma=C4, beta=V4, epsilon=1e-3),
        lambda v: F.batch_norm(v["x"], t(V4), t(C4), t(C4), t(V4), False, 0.0, 1e-3),
    ),
    "instance_norm": (
        lambda mb, v: mb.instance_norm(x=v["x"], gamma=C4, beta=V4, epsilon=1e-3),
        lambda v: F.instance_norm(v["x"], None, None, t(C4), t(V4), True, 0.0, 1e-3),
    ),
    "layer_norm": (
        lambda mb, v: mb.layer_norm(x=v["s"], axes=[-1], gamma=C4, beta=V4, epsilon=1e-3),
        lambda v: F.layer_norm(v["s"], (4,), t(C4), t(V4), 1e-3),
    ),
    "layer_norm inner axis": (
        lambda mb, v: mb.layer_norm(x=v["x"], axes=[1], gamma=C4, beta=V4, epsilon=1e-3),
        lambda v: F.layer_norm(v["x"].movedim(1, 3), (4,), t(C4), t(V4), 1e-3).movedim(3, 1),
    ),
    "l2_norm": (
        lambda mb, v: mb.l2_norm(x=v["x"], epsilon=1e-3),
        lambda v: v["x"] / (v["x"].square().sum((1, 2, 3), True) + 1e-3).sqrt(),
    ),
    "local_response_norm": (
        lambda mb, v: mb.local_response_norm(x=v["x"], size=3, alpha=0.1, beta=0.5, k=1.5),
        lambda v: F.local_response_norm(v["x"], 3, 0.1, 0.5, 1.5),
    ),
    "lstm": (
        lambda mb, v: mb.lstm(x=v["s"], initial_h=LSTM[3], initial_c=LSTM[4], weight_ih=LSTM[0], weight_hh=LSTM[1],
                              bias=LSTM[2], output_sequence=True)[0],
        lambda v: torch_lstm(v["s"]),
    ),
    "lstm reversed": (
        lambda mb, v: mb.lstm(x=v["s"], initial_h=LSTM[3], initial_c=LSTM[4], weight_ih=LSTM[0], weight_hh=LSTM[1],
                              bias=LSTM[2], output_sequence=True, direction="reverse")[0],
        lambda v: torch_lstm(v["s"].flip(0)),
    ),
    "gru": (
        lambda mb, v: mb.gru(x=v["s"], initial_h=GRU[3], weight_ih=GRU[0], weight_hh=GRU[1], bias=GRU[2], output_sequence=True)[0],
        lambda v: numpy_gru(v["s"]),
    ),
    "cond": (
        lambda mb, v: mb.cond(pred=mb.greater(x=mb.reduce_sum(x=v["y"], keep_dims=False), y=0.0),
                              _true_fn=lambda: mb.add(x=v["x"], y=1.0), _false_fn=lambda: mb.mul(x=v["x"], y=2.0)),
        lambda v: v["x"] + 1,
    ),
    "while_loop": (
        lambda mb, v: mb.while_loop(
            _cond=lambda k, a: mb.less(x=k, y=3.0), _body=lambda k, a: (mb.add(x=k, y=1.0), mb.add(x=a, y=v["y"])),
            loop_vars=(mb.reduce_min(x=mb.mul(x=v["y"], y=0.0), keep_dims=False), v["x"]))[1],
        lambda v: v["x"] + 3 * v["y"],
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def float_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray[Any, Any]]:
    path = tmp_path_factory.mktemp("mil") / "ops.mlpackage"
    arrays = inputs()
    with quiet_coremltools() as ct:
        from coremltools.converters.mil.mil import Builder, types

        specs = [
            Builder.TensorSpec(a.shape, dtype=types.int32 if a.dtype == np.int32 else types.fp32)
            for a in arrays.values()
        ]

        @Builder.program(input_specs=specs, opset_version=ct.target.iOS16)  # type: ignore[untyped-decorator]
        def program(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
            values = dict(zip(arrays, (a, b, c, d, e), strict=True))
            return tuple(build(Builder, values) for build, _ in FLOAT.values())

        ct.convert(
            program,
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32,
            convert_to="mlprogram",
        ).save(str(path))
    loaded = Program.load(path)
    results = loaded.run(dict(zip((p.name for p in loaded.inputs), arrays.values(), strict=True)))
    return dict(zip(FLOAT, (results[p.name] for p in loaded.outputs), strict=True))


@pytest.mark.parametrize("case", FLOAT)
def test_operation_equals_its_reference(case: str, float_results: dict[str, np.ndarray[Any, Any]]) -> None:
    with torch.no_grad():
        expected = np.asarray(FLOAT[case][1](tensors()))
    got = float_results[case]
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_slices_follow_numpy(data: st.DataObject) -> None:
    from runtimes.mil.ops.slicing import Masks, resolve, take

    sizes = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    x = np.arange(np.prod(sizes)).reshape(sizes)
    ends = [st.integers(-n - 2, n + 2) for n in sizes]
    begin, end = ([data.draw(e) for e in ends] for _ in range(2))
    strides = [data.draw(st.sampled_from([-3, -2, -1, 1, 2, 3])) for _ in sizes]
    free_begin, free_end = ([data.draw(st.booleans()) for _ in sizes] for _ in range(2))
    masks = Masks(strides, free_begin, free_end, [False] * len(sizes))
    wanted = x[
        tuple(
            slice(None if free_begin[k] else begin[k], None if free_end[k] else end[k], strides[k])
            for k in range(len(sizes))
        )
    ]
    got = take(torch.from_numpy(x), resolve(sizes, begin, end, masks)).numpy()
    np.testing.assert_array_equal(got, wanted)


@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_rounding_to_half_is_ieee(values: list[float]) -> None:
    from runtimes.mil.compile import round_to_half

    x = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(round_to_half(torch.from_numpy(x)).numpy(), expected)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_packed_elements_come_out(bits: int) -> None:
    values = np.random.default_rng(bits).integers(0, 1 << bits, 37).astype(np.uint8)
    stream = ((values[:, None] >> np.arange(bits)) & 1).astype(np.uint8).ravel()
    packed = np.packbits(stream, bitorder="little")
    np.testing.assert_array_equal(unpack(packed, bits, 37), values)


def test_signed_nibbles() -> None:
    np.testing.assert_array_equal(decode(bytes([0x8F, 0x71]), "int4", (4,)), [-1, -8, 1, 7])


def test_palettes_by_group_and_vector() -> None:
    from runtimes.mil.ops.constexpr import dense_from_lut

    lut = np.arange(2 * 1 * 4 * 3, dtype=np.float32).reshape(2, 1, 4, 3)
    indices = np.array([[0, 1], [2, 3], [3, 0], [1, 1]], np.uint8)
    got = dense_from_lut(torch.from_numpy(indices), torch.from_numpy(lut), 1).numpy()
    expected = np.stack([np.concatenate([lut[row // 2, 0, k] for k in indices[row]]) for row in range(4)])
    np.testing.assert_array_equal(got, expected)


def test_compressed_weights_are_expanded(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    x = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    with quiet_coremltools() as ct:
        import coremltools.optimize.coreml as cto
        from coremltools.converters.mil.mil import Builder

        @Builder.program(input_specs=[Builder.TensorSpec((1, 64))], opset_version=ct.target.iOS16)  # type: ignore[untyped-decorator]
        def program(a: Any) -> Any:
            return Builder.linear(x=a, weight=weight)

        model = ct.convert(
            program,
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32,
            convert_to="mlprogram",
        )
        linear = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0))
        pruned = cto.OptimizationConfig(cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0))
        cto.linear_quantize_weights(model, linear).save(str(tmp_path / "int8.mlpackage"))
        cto.prune_weights(model, pruned).save(str(tmp_path / "sparse.mlpackage"))
    scale = np.abs(weight).max(1, keepdims=True) / 127
    kept = np.where(np.abs(weight) > np.sort(np.abs(weight).ravel())[weight.size // 2 - 1], weight, 0)
    for name, expected, tolerance in (
        ("int8", x @ (np.round(weight / scale) * scale).T, 1e-4),
        ("sparse", x @ kept.T, 1e-5),
    ):
        loaded = Program.load(tmp_path / f"{name}.mlpackage")
        got = loaded.run({loaded.inputs[0].name: x})[loaded.outputs[0].name]
        np.testing.assert_allclose(got, expected, atol=tolerance)
        assert np.abs(got - x @ weight.T).max() > 1e-3
