"""What stands behind a net: boxes thinned out, classes named."""

from __future__ import annotations

import torch
from torch import Tensor

from runtimes.mil.limits import room
from runtimes.mil.ops.table import Kernel, Node, op

BOXES_SINCE_LAST_AXIS = 17


def _overlap(boxes: Tensor, index: int) -> Tensor:
    """Intersection over union of one box with all [b, 4] (centre x, centre y, width, height); 0 without area."""
    centre, size = boxes[:, :2], boxes[:, 2:]
    low, high, area = centre - size / 2, centre + size / 2, size.prod(-1)
    sides = torch.clamp_min(torch.minimum(high, high[index]) - torch.maximum(low, low[index]), 0.0)
    shared = sides.prod(-1)
    union = area + area[index] - shared
    empty = (area <= 0) | (area[index] <= 0) | (union <= 0)
    return torch.where(empty, torch.zeros(()), shared / union)


def _chosen(boxes: Tensor, scores: Tensor, limits: tuple[float, float, int], per_class: bool) -> Tensor:
    """Indices of the boxes [b, 4] that stay, best first; where none passes the score, the best one."""
    overlap_limit, score_limit, most = limits
    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64)
    best, kind = scores.max(-1)
    order = torch.argsort(best, descending=True, stable=True)
    order = order[best[order] > score_limit]
    if not len(order):
        return best.argmax().reshape(1)
    kept: list[int] = []
    # One row of overlaps a kept box: memory stays linear in the boxes.
    while len(order) and len(kept) < most:
        index = int(order[0])
        kept.append(index)
        clash = _overlap(boxes, index) > overlap_limit
        if per_class:
            clash &= kind == kind[index]
        clash[index] = True
        order = order[~clash[order]]
    return torch.tensor(kept, dtype=torch.int64)


@op("non_maximum_suppression", rounds=False)
def non_maximum_suppression(node: Node) -> Kernel:
    """Boxes by score without those that overlap a better one. Filled up with zeros, and -1 as index.

    From iOS 17 on the boxes lie along the last axis, there is no score limit and the count is not given.
    """
    last = node.opset >= BOXES_SINCE_LAST_AXIS
    most, per_class = node.integer("max_boxes", 1), node.flag("per_class_suppression", False)
    limits = (float(node.need("iou_threshold")), node.number("score_threshold", float("-inf")), most)

    def run(boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        if last:
            boxes, scores = boxes.transpose(1, 2), scores.transpose(1, 2)
        batch = boxes.shape[0]
        room([batch, most, max(4, scores.shape[2])])
        out_boxes = boxes.new_zeros(batch, most, 4)
        out_scores = scores.new_zeros(batch, most, scores.shape[2])
        indices = torch.full((batch, most), -1, dtype=torch.int32)
        counts = torch.zeros(batch, dtype=torch.int32)
        for b in range(batch):
            kept = _chosen(boxes[b], scores[b], limits, per_class)[:most]
            counts[b] = len(kept)
            out_boxes[b, : len(kept)], out_scores[b, : len(kept)] = boxes[b, kept], scores[b, kept]
            indices[b, : len(kept)] = kept.to(torch.int32)
        if last:
            return out_boxes.transpose(1, 2), out_scores.transpose(1, 2), indices
        return out_boxes, out_scores, indices, counts

    return Kernel(run, ("boxes", "scores"))


@op("classify", rounds=False, pure=False)
def classify(node: Node) -> Kernel:
    """The likeliest class (text or integer), and the probability of each: plain Python values, not tensors."""
    classes = list(node.static("classes"))

    def run(probabilities: Tensor) -> tuple[str | int, dict[str | int, float]]:
        values: list[float] = probabilities.reshape(-1).tolist()
        if len(values) != len(classes):
            raise ValueError(f"{len(values)} probabilities for {len(classes)} classes")
        best = int(probabilities.reshape(-1).argmax())
        return classes[best], dict(zip(classes, values, strict=True))

    return Kernel(run, ("probabilities",))
