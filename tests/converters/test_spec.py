"""Arguments of an export become hops, or one clear error; the cache key changes with what changes the bytes."""

from __future__ import annotations

import dataclasses

import pytest

from converters.spec import ExportSpec, export_key, hops_from_arguments, parse_choices
from models.common.errors import UsageError
from models.nets.dtln.entry import DTLN
from models.nets.yamnet.entry import YAMNET


@pytest.mark.parametrize(
    ("hops", "buffer_ms", "expected"),
    [(None, None, (1,)), ("1,4", None, (1, 4)), ("4,4", None, (4,)), (None, 8.0, (1,)), (None, 32.0, (4,))],
)
def test_hops_of_a_step_net(hops: str | None, buffer_ms: float | None, expected: tuple[int, ...]) -> None:
    assert hops_from_arguments(DTLN, hops, buffer_ms) == expected


@pytest.mark.parametrize(
    ("buffer_ms", "message"),
    [
        (10.0, "nearest valid: 128 or 256 samples"),
        (1.0, "nearest valid: 128 samples"),
        (500.0, "nearest valid: 2048 samples"),
        (0.03, "not a whole number"),
        (0.0, "above 0"),
        (-8.0, "above 0"),
        (float("nan"), "above 0"),
        (float("inf"), "above 0"),
    ],
)
def test_a_buffer_that_is_no_multiple_names_the_nearest(buffer_ms: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hops_from_arguments(DTLN, None, buffer_ms)


@pytest.mark.parametrize("hops", ["0", "17", "a", "", "1;2", "-1"])
def test_wrong_hops_are_refused(hops: str) -> None:
    with pytest.raises(UsageError):
        hops_from_arguments(DTLN, hops, None)


def test_both_ways_of_giving_a_buffer_are_refused() -> None:
    with pytest.raises(UsageError, match="not both"):
        hops_from_arguments(DTLN, "1", 8.0)


def test_a_windowed_net_has_one_buffer() -> None:
    assert hops_from_arguments(YAMNET, None, 975.0) == (1,)
    with pytest.raises(UsageError, match="exactly 15600"):
        hops_from_arguments(YAMNET, None, 500.0)


def test_choices_come_in_the_order_of_the_valid_ones() -> None:
    assert parse_choices("fp16, fp32", ("fp32", "fp16"), "--precision") == ("fp32", "fp16")
    for text in ("", "fp8", "fp32,fp8"):
        with pytest.raises(UsageError, match="--precision: expected one or more of fp32, fp16"):
            parse_choices(text, ("fp32", "fp16"), "--precision")


def test_key_changes_with_everything_that_changes_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ExportSpec(DTLN)
    keys = {
        export_key(spec, "0" * 64),
        export_key(spec, "1" * 64),
        export_key(dataclasses.replace(spec, hops_per_call=4), "0" * 64),
        export_key(dataclasses.replace(spec, precisions=("fp32",)), "0" * 64),
        export_key(dataclasses.replace(spec, formats=("litert",)), "0" * 64),
    }
    monkeypatch.setattr("converters.spec.toolchain_versions", lambda formats=(): {"torch": "0"})
    keys.add(export_key(spec, "0" * 64))
    monkeypatch.setattr("converters.spec.sources_digest", lambda _package: "0")
    keys.add(export_key(spec, "0" * 64))
    assert len(keys) == 7
    assert export_key(spec, "0" * 64) in keys
