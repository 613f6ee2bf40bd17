"""converters.compress.recipe: one set of names for both formats, and what a plan says of a module."""

from __future__ import annotations

import dataclasses

import pytest

from converters.compress.recipe import (
    SCHEMES,
    Plan,
    first_ios,
    kept_modules,
    plan_of,
    precision_entry,
    refusal,
    refuse_impossible,
    require,
)
from converters.tolerances import tolerance
from models.common.errors import ConversionError, UsageError
from models.nets.dtln.entry import DTLN
from models.nets.gtcrn.entry import GTCRN
from runtimes.bundle import Format


def test_what_a_format_cannot_store_is_refused_with_the_nearest_that_it_can() -> None:
    formats: tuple[Format, ...] = ("litert", "coreml")
    for name, scheme in SCHEMES.items():
        for artefact_format in formats:
            reason = refusal(artefact_format, name)
            assert (reason is None) == (artefact_format in scheme.compute)
            if reason is not None:
                nearest = reason.rpartition(" ")[2]
                assert refusal(artefact_format, nearest) is None
                assert nearest in SCHEMES
    with pytest.raises(ConversionError, match=r"LiteRT has no palettes, so it has no pal4; the nearest is int4"):
        require("litert", "pal4")


def test_nothing_that_can_be_made_is_a_wrong_request() -> None:
    refuse_impossible(("litert", "coreml"), ("pal4",))
    refuse_impossible(("litert",), ("pal4", "int8"))
    with pytest.raises(UsageError, match=r"no palettes, so it has no pal4.*no palettes, so it has no pal2"):
        refuse_impossible(("litert",), ("pal4", "pal2"))


def test_the_innermost_module_that_a_plan_names_counts() -> None:
    plan = Plan("int4", {"core": "int8", "core.lstm.cell": "fp32", "": "pal8"})
    assert [plan.of(m) for m in ("core.mask", "core.lstm.cell.x", "core.lstm", "decoder", "corner")] == [
        *("int8", "fp32", "int8", "pal8", "pal8")
    ]
    assert plan.used == ("int4", "int8", "pal8")
    assert first_ios(plan) == "18.0"
    assert first_ios(Plan("int8")) == "16.0"


def test_a_net_keeps_what_half_keeps_unless_it_says_otherwise() -> None:
    assert kept_modules(DTLN) == DTLN.fp32_modules
    assert set(kept_modules(GTCRN)) < set(GTCRN.fp32_modules)
    plan = plan_of(DTLN, "mixed-int4", {"front_end": "int8", "core1": "int8"})
    assert [plan.of(m) for m in ("front_end.inner", "core1.mask", "norm", "decoder")] == [
        "int8",
        "int8",
        "fp32",
        "int4",
    ]


def test_a_manifest_says_what_is_stored_and_what_computes() -> None:
    plain = dataclasses.replace(DTLN, fp32_modules=())
    assert precision_entry("litert", "int8", DTLN).model_dump() == {"weights": "mixed-int8", "compute": "int8"}
    assert precision_entry("coreml", "int8", plain).model_dump() == {"weights": "int8", "compute": "fp32"}
    assert precision_entry("coreml", "mixed-pal4", plain).model_dump() == {"weights": "mixed-pal4", "compute": "fp32"}


@pytest.mark.parametrize("name", SCHEMES)
def test_every_precision_has_limits_looser_than_half_and_no_nan(name: str) -> None:
    for kind, metric, sign in (("audio", "snr_db", -1.0), ("scores", "score_max_abs_error", 1.0)):
        limits = {t.metric: t.limit for t in tolerance(kind, name)}  # type: ignore[arg-type]
        half = {t.metric: t.limit for t in tolerance(kind, "fp16")}  # type: ignore[arg-type]
        assert limits["nan_count"] == 0.0
        assert sign * limits[metric] > sign * half[metric]
        assert tolerance(kind, f"mixed-{name}") == tolerance(kind, name)  # type: ignore[arg-type]
