"""Parts are modules, or blocks of small ones; what is kept and protected is told apart."""

from __future__ import annotations

import dataclasses

from converters.compress.litert import Weight
from converters.search.parts import MOST_PARTS, parts_of
from models.nets.dtln.entry import DTLN


def _weight(module: str, elements: int = 1024, operation: str = "FULLY_CONNECTED") -> Weight:
    return Weight(operation, f"x/{module};", module, elements)


def test_modules_of_a_small_net_are_parts_of_their_own() -> None:
    entry = dataclasses.replace(DTLN, fp32_modules=("front_end",), uncompressed=None)
    modules = ("front_end.real", "core.lstm", "core.mask", "encoder", "decoder")
    found = {p.name: p for p in parts_of([_weight(m) for m in modules] + [_weight("encoder", 8)], entry)}
    assert list(found) == list(modules)
    assert found["encoder"].elements == 1032
    assert [p.name for p in found.values() if p.kept] == ["front_end.real"]
    assert [p.name for p in found.values() if not p.protected] == ["encoder"]


def test_small_modules_of_a_large_net_are_taken_together() -> None:
    entry = dataclasses.replace(DTLN, fp32_modules=(), uncompressed=None)
    weights = [_weight(f"block{b}.layer{n}.conv", 300 if n else 9000, "CONV_2D") for b in range(6) for n in range(12)]
    found = parts_of(weights, entry)
    assert len(found) <= MOST_PARTS
    assert sum(p.elements for p in found) == sum(w.elements for w in weights)
    assert sorted(m for p in found for m in p.modules) == sorted(w.module for w in weights)
    assert {p.name for p in found if len(p.modules) == 1} == {f"block{b}.layer0.conv" for b in range(6)}
