"""Images, boxes, random values and checked indices in the evaluator, against torch, numpy and Core ML's figures."""

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
from models.common.errors import ArtefactError  # noqa: E402
from runtimes.mil import Program  # noqa: E402
from runtimes.mil.graph import UndefinedWarning  # noqa: E402
from runtimes.mil.ops.grids import line, nearest, reflected, sample, stretch  # noqa: E402

F = torch.nn.functional
Arrays = dict[str, np.ndarray[Any, Any]]
RNG = np.random.default_rng(11)
IMAGE = RNG.standard_normal((2, 3, 6, 5)).astype(np.float32)
PLACES = RNG.uniform(-1.6, 1.6, (2, 4, 7, 2)).astype(np.float32)
MATRIX = RNG.uniform(-1.0, 1.0, (2, 6)).astype(np.float32)


def run(path: Path, arrays: Arrays, build: Callable[..., Any], target: str = "iOS17") -> list[Any]:
    """The outputs of a program of one builder function, in its order."""
    with quiet_coremltools() as ct:
        from coremltools.converters.mil.mil import Builder, Function, types
        from coremltools.converters.mil.mil import Program as Mil

        opset = getattr(ct.target, target)
        kinds = {np.dtype(np.int32): types.int32, np.dtype(np.float32): types.fp32}
        program = Mil()
        places = {n: Builder.placeholder(shape=a.shape, dtype=kinds[a.dtype]) for n, a in arrays.items()}
        with Function(places, opset_version=opset) as function:
            function.set_outputs(
                [Builder.identity(x=y, name=f"out{i}") for i, y in enumerate(build(Builder, **function.inputs))]
            )
            program.add_function("main", function)
        ct.convert(
            program, minimum_deployment_target=opset, compute_precision=ct.precision.FLOAT32, convert_to="mlprogram"
        ).save(str(path))
    results = Program.load(path).run(arrays)
    return [results[f"out{i}"] for i in range(len(results))]


def warp(mode: str, padding: str, align: bool) -> Any:
    return F.grid_sample(torch.from_numpy(IMAGE), torch.from_numpy(PLACES), mode, padding, align)


def test_images_follow_torch(tmp_path: Path) -> None:
    x = torch.from_numpy(IMAGE)

    def build(mb: Any, x: Any, at: Any, matrix: Any) -> list[Any]:
        def resample(
            sampling: str, padding: str, align: bool, mode: str = "normalized_minus_one_to_one", at: Any = at
        ) -> Any:
            return mb.resample(
                x=x, coordinates=at, sampling_mode=sampling, padding_mode=padding, padding_value=0.0,
                coordinates_mode=mode, align_corners=align,
            )  # fmt: skip

        zero_to_one = mb.mul(x=mb.add(x=at, y=1.0), y=0.5)
        moved = {"sampling_mode": "bilinear", "padding_mode": "constant", "padding_value": 0.0}
        return [
            mb.upsample_bilinear(x=x, scale_factor_height=2.5, scale_factor_width=1.7, align_corners=True),
            mb.upsample_bilinear(x=x, scale_factor_height=0.5, scale_factor_width=3.0, align_corners=False),
            mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
            mb.resize_bilinear(x=x, target_size_height=9, target_size_width=4, sampling_mode="UNALIGN_CORNERS"),
            mb.resize_bilinear(x=x, target_size_height=9, target_size_width=4, sampling_mode="STRICT_ALIGN_CORNERS"),
            mb.resize_nearest_neighbor(x=x, target_size_height=9, target_size_width=4),
            mb.resize(x=x, shape=[7, 0], resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"),
            mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 3]),
            resample("bilinear", "constant", True),
            resample("bilinear", "constant", False, "normalized_zero_to_one", zero_to_one),
            resample("nearest", "border", True),
            resample("bilinear", "reflection", True),
            resample("bilinear", "symmetric", False),
            mb.affine(x=x, transform_matrix=matrix, output_height=4, output_width=3, align_corners=True,
                      coordinates_mode="normalized_minus_one_to_one", **moved),
        ]  # fmt: skip

    got = run(tmp_path / "p.mlpackage", {"x": IMAGE, "at": PLACES, "matrix": MATRIX}, build)
    bilinear = lambda size, align: F.interpolate(x, size, mode="bilinear", align_corners=align)  # noqa: E731
    maps = F.affine_grid(torch.from_numpy(MATRIX).reshape(2, 2, 3), [2, 3, 4, 3], align_corners=True)
    expected = [
        bilinear((15, 8), True),
        bilinear((3, 15), False),
        F.interpolate(x, (12, 15), mode="nearest"),
        bilinear((9, 4), False),
        bilinear((9, 4), True),
        F.interpolate(x, (9, 4), mode="nearest-exact"),
        bilinear((7, 5), False),
        x[:, :, 1:4, :2],
        warp("bilinear", "zeros", True),
        warp("bilinear", "zeros", False),
        warp("nearest", "border", True),
        warp("bilinear", "reflection", True),
        warp("bilinear", "reflection", False),
        F.grid_sample(x, maps, align_corners=True),
    ]
    assert len(got) == len(expected)
    for number, (one, other) in enumerate(zip(got, expected, strict=True)):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-5, err_msg=f"output {number}")


def test_sampling_modes_are_those_documented() -> None:
    """The grid points that coremltools documents for an axis of two pixels."""
    documented = {
        (5, "UNALIGN_CORNERS"): [0, 0.1, 0.5, 0.9, 1],
        (5, "STRICT_ALIGN_CORNERS"): [0, 0.25, 0.5, 0.75, 1],
        (5, "DEFAULT"): [0, 0.4, 0.8, 1, 1],
        (5, "OFFSET_CORNERS"): [0.1, 0.3, 0.5, 0.7, 0.9],
        (6, "OFFSET_CORNERS"): [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12],
        (1, "STRICT_ALIGN_CORNERS"): [0],
        (1, "ALIGN_CORNERS"): [0.5],
    }
    for (count, mode), places in documented.items():
        np.testing.assert_allclose(line(2, count, mode), places, atol=1e-9, err_msg=mode)
    assert nearest(2, 3, "DEFAULT").tolist() == [0, 1, 1]  # TestResize of iOS 17
    assert nearest(3, 2, "FLOOR").tolist() == [0, 1]  # TestUpsampleNearestNeighborFractionalScales of iOS 15


@given(st.integers(1, 9), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_axes_of_any_size_follow_torch(size: int, count: int) -> None:
    x = torch.arange(size, dtype=torch.float32).square().reshape(1, 1, size)
    for mode, align in (("UNALIGN_CORNERS", False), ("STRICT_ALIGN_CORNERS", True)):
        expected = F.interpolate(x, count, mode="linear", align_corners=align)
        np.testing.assert_allclose(stretch(x, 2, count, mode, linear=True), expected, atol=1e-4)
    expected = F.interpolate(x, count, mode="nearest")
    np.testing.assert_array_equal(stretch(x, 2, count, "FLOOR", linear=False), expected)


@given(st.integers(1, 6), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_reflection_always_ends_inside(size: int, places: list[float], edges: bool) -> None:
    at = torch.tensor(places, dtype=torch.float64)
    inside = reflected(at, size, edges)
    assert float(inside.min()) >= 0
    assert float(inside.max()) <= size - 1
    row = torch.arange(size, dtype=torch.float32).reshape(1, 1, 1, size)
    values = sample(row, inside.reshape(1, 1, -1), torch.zeros(1, 1, len(places)), linear=True)
    np.testing.assert_allclose(values.ravel(), inside, atol=1e-5)


SQUARE = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
BOXES = np.array([[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]], np.float32)
CROPS = [3.1, 5.2, 9.0, 9.0, 9.0, 7.9, 9.0, 13.9, 2.2, 3.1, 9.4, 10.3]  # Core ML's, by coremltools' TestCropResize


def test_boxes_are_cut_as_core_ml_does(tmp_path: Path) -> None:
    common = {"target_height": 2, "target_width": 2, "normalized_coordinates": True, "pad_value": 9.0}
    align = {**common, "sampling_mode": "ALIGN_CORNERS"}

    def old(mb: Any, x: Any) -> list[Any]:
        roi = np.concatenate([np.zeros((3, 1), np.float32), BOXES], 1).reshape(3, 1, 5, 1, 1)
        swapped = BOXES[:, [1, 0, 3, 2]].reshape(3, 1, 4, 1, 1)
        return [
            mb.crop_resize(x=x, roi=roi, **align),
            mb.crop_resize(x=x, roi=swapped, box_coordinate_mode="CORNERS_WIDTH_FIRST", **align),
        ]

    def new(mb: Any, x: Any) -> list[Any]:
        a, b, c, d = BOXES.T
        centred = np.stack([(a + c) / 2, (b + d) / 2, c - a, d - b], 1)
        none = np.zeros(3, np.int32)
        return [
            mb.crop_resize(x=x, boxes=BOXES, box_indices=none, **align),
            mb.crop_resize(
                x=x, boxes=centred, box_indices=none, box_coordinate_mode="CENTER_SIZE_HEIGHT_FIRST", **align
            ),
        ]

    shapes = []
    for target, build in (("iOS16", old), ("iOS17", new)):
        for got in run(tmp_path / f"{target}.mlpackage", {"x": SQUARE}, build, target):
            np.testing.assert_allclose(got.ravel(), CROPS, atol=1e-4)
            shapes.append(got.shape)
    assert shapes == [(3, 1, 1, 2, 2)] * 2 + [(3, 1, 2, 2)] * 2


def suppressed(boxes: Any, scores: Any, overlap: float, limit: float, most: int, per_class: bool) -> list[int]:
    """The plain greedy algorithm, one pair at a time."""
    best, kind = scores.max(-1), scores.argmax(-1)

    def iou(i: int, j: int) -> float:
        (ax, ay, aw, ah), (bx, by, bw, bh) = boxes[i], boxes[j]
        w = min(ax + aw / 2, bx + bw / 2) - max(ax - aw / 2, bx - bw / 2)
        h = min(ay + ah / 2, by + bh / 2) - max(ay - ah / 2, by - bh / 2)
        shared = max(w, 0) * max(h, 0)
        return float(shared / (aw * ah + bw * bh - shared))

    kept: list[int] = []
    for i in np.argsort(-best):
        clash = any(iou(i, j) > overlap and (not per_class or kind[i] == kind[j]) for j in kept)
        if best[i] > limit and not clash and len(kept) < most:
            kept.append(int(i))
    return kept or [int(best.argmax())]


@pytest.mark.parametrize("per_class", [False, True])
def test_overlapping_boxes_go(per_class: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    boxes = rng.uniform(1, 10, (2, 30, 4)).astype(np.float32)
    scores = rng.standard_normal((2, 30, 3)).astype(np.float32)

    def old(mb: Any, boxes: Any, scores: Any) -> Any:
        common = {"boxes": boxes, "scores": scores, "iou_threshold": 0.25, "per_class_suppression": per_class}
        some = mb.non_maximum_suppression(score_threshold=0.5, max_boxes=8, **common)
        return [*some, *mb.non_maximum_suppression(score_threshold=99.0, max_boxes=8, **common)[2:]]

    def new(mb: Any, boxes: Any, scores: Any) -> Any:
        return mb.non_maximum_suppression(
            boxes=boxes, scores=scores, iou_threshold=0.25, max_boxes=8, per_class_suppression=per_class
        )

    first = run(tmp_path / "old.mlpackage", {"boxes": boxes, "scores": scores}, old, "iOS16")
    turned = {"boxes": boxes.transpose(0, 2, 1).copy(), "scores": scores.transpose(0, 2, 1).copy()}
    second = run(tmp_path / "new.mlpackage", turned, new)
    for b in range(2):
        kept = suppressed(boxes[b], scores[b], 0.25, 0.5, 8, per_class)
        assert 1 < len(kept) == first[3][b]
        assert first[2][b].tolist() == kept + [-1] * (8 - len(kept))
        np.testing.assert_array_equal(first[0][b, : len(kept)], boxes[b, kept])
        np.testing.assert_array_equal(first[1][b, len(kept) :], 0)
        assert first[4][b].tolist()[:2] == [int(scores[b].max(-1).argmax()), -1]  # none passes: the best one stays
        kept = suppressed(boxes[b], scores[b], 0.25, -np.inf, 8, per_class)
        assert second[2][b].tolist() == kept + [-1] * (8 - len(kept))
        np.testing.assert_array_equal(second[1][b][:, : len(kept)], scores[b, kept].T)


def test_random_values_have_the_right_distribution(tmp_path: Path) -> None:
    logits = np.log(np.array([[0.1, 0.2, 0.7], [0.6, 0.4, 1e-9]], np.float32))
    shape = np.array([200, 200], np.int32)

    def build(mb: Any, x: Any) -> list[Any]:
        return [
            mb.random_normal(shape=shape, mean=3.0, stddev=0.5, seed=1),
            mb.random_uniform(shape=shape, low=-2.0, high=4.0, seed=2),
            mb.random_bernoulli(shape=shape, prob=0.3, seed=3),
            mb.random_categorical(x=x, size=20_000, seed=4),
            mb.random_categorical(x=mb.exp(x=x), mode="probs", size=20_000, seed=5),
            mb.random_uniform(shape=shape),
        ]

    path = tmp_path / "p.mlpackage"
    normal, uniform, coin, drawn, from_probs, _ = run(path, {"x": logits}, build)
    assert abs(normal.mean() - 3) < 0.02
    assert abs(normal.std() - 0.5) < 0.02
    assert -2 <= uniform.min() < -1.9
    assert 3.9 < uniform.max() < 4
    assert abs(uniform.mean() - 1) < 0.05
    assert set(np.unique(coin)) == {0, 1}
    assert abs(coin.mean() - 0.3) < 0.02
    for values in (drawn, from_probs):
        shares = np.stack([np.bincount(row.astype(int), minlength=3) for row in values]) / 20_000
        np.testing.assert_allclose(shares, np.exp(logits), atol=0.02)
    loaded = Program.load(path)
    first, second = loaded.run({"x": logits}), loaded.run({"x": logits})
    np.testing.assert_array_equal(first["out0"], normal)  # a seed: always the same
    np.testing.assert_array_equal(first["out3"], second["out3"])
    assert (first["out5"] != second["out5"]).mean() > 0.9  # none: afresh


def test_validated_indices_stop_a_call(tmp_path: Path) -> None:
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    builds: dict[str, Callable[..., Any]] = {
        "gather": lambda mb, x, i: mb.gather(x=x, indices=i, axis=0, validate_indices=True),
        "along": lambda mb, x, i: mb.gather_along_axis(
            x=x, indices=mb.tile(x=mb.reshape(x=i, shape=[2, 1]), reps=[1, 3]), axis=0, validate_indices=True
        ),
        "nd": lambda mb, x, i: mb.gather_nd(x=x, indices=mb.reshape(x=i, shape=[-1, 1]), validate_indices=True),
        "scatter": lambda mb, x, i: mb.scatter(
            data=x, indices=i, updates=np.ones((2, 3), np.float32), validate_indices=True
        ),
    }
    good, bad = np.array([1, 0], np.int32), np.array([2, 0], np.int32)
    for name, build in builds.items():
        path = tmp_path / f"{name}.mlpackage"
        run(path, {"x": data, "i": good}, lambda mb, x, i, build=build: [build(mb, x, i)])
        with pytest.raises(ArtefactError, match="validated indices"):
            Program.load(path).run({"x": data, "i": bad})
    loose = lambda mb, x, i: [mb.scatter(data=x, indices=i, updates=np.ones((2, 3), np.float32), mode="add")]  # noqa: E731
    with pytest.warns(UndefinedWarning, match="outside an axis"):
        (got,) = run(tmp_path / "loose.mlpackage", {"x": data, "i": bad}, loose)
    np.testing.assert_array_equal(got, data + np.array([[1], [0]]))  # a row outside is left out, memory is safe


def test_a_quantised_convolution(tmp_path: Path) -> None:
    weight = RNG.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8)
    scale, shift = np.float32(0.01), np.float32(-1.25)

    def build(mb: Any, x: Any) -> list[Any]:
        return [
            mb.conv_quantized(x=x, weight=weight, quantization_type="linear", quant_scale=scale, quant_bias=shift),
        ]

    (got,) = run(tmp_path / "p.mlpackage", {"x": IMAGE}, build, "iOS16")
    dense = torch.from_numpy(weight.astype(np.float32) * scale + shift)
    np.testing.assert_allclose(got, F.conv2d(torch.from_numpy(IMAGE), dense), atol=1e-5)


def test_every_core_operation_is_there() -> None:
    with quiet_coremltools():
        from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    from runtimes.mil.ops.table import TABLE

    # `const` is the compiler's own; `_const_symbolic` exists only inside the converter and cannot be stored.
    assert set(SSAOpRegistry.core_ops) - set(TABLE) == {"const", "_const_symbolic"}
    assert len(SSAOpRegistry.core_ops) == 168
