"""converters.tolerances: hearpack's limits judge; a manifest may only be stricter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hearpack
from converters.tolerances import lax, limits_of, tolerance
from models.common.errors import BundleError
from runtimes.bundle import Artefact, Bundle, Manifest, Tolerance
from tests.fixtures.hostile_bundles import edit, make_good


def limits(**figures: float) -> tuple[Tolerance, ...]:
    return tuple(Tolerance(metric=metric, limit=limit) for metric, limit in figures.items())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Bundle.open(make_good(tmp_path_factory.mktemp("good"), coreml=False)).manifest


def stating(manifest: Manifest, precision: str = "fp32", **figures: float) -> Artefact:
    artefact = manifest.artefacts[0]
    stored = artefact.precision.model_copy(update={"weights": precision})
    return artefact.model_copy(update={"tolerance": limits(**figures), "precision": stored})


OURS = {"score_max_abs_error": 1e-4, "top5_clear_flips": 0.0, "nan_count": 0.0}


@pytest.mark.parametrize(
    ("stated", "judged", "short"),
    [
        (OURS, OURS, ()),
        ({}, OURS, ("score_max_abs_error is missing", "top5_clear_flips is missing", "nan_count is missing")),
        ({**OURS, "score_max_abs_error": 1e-6}, {**OURS, "score_max_abs_error": 1e-6}, ()),
        ({**OURS, "score_max_abs_error": 1.0}, OURS, ("score_max_abs_error 1 is looser than at most 0.0001",)),
        ({**OURS, "nan_count": 1e9}, OURS, ("nan_count 1e+09 is looser than at most 0",)),
        ({**OURS, "top5_agreement": 0.9}, {**OURS, "top5_agreement": 0.9}, ()),
    ],
)
def test_the_stricter_limit_counts(
    manifest: Manifest, stated: dict[str, float], judged: dict[str, float], short: tuple[str, ...]
) -> None:
    artefact = stating(manifest, **stated)
    assert {t.metric: t.limit for t in limits_of(manifest, artefact)} == judged
    said = lax(manifest, artefact)
    assert len(said) == len(short)
    assert all(part in sentence for part, sentence in zip(short, said, strict=True))


def test_at_least_is_stricter_upwards(manifest: Manifest) -> None:
    enhancer = manifest.model_copy(update={"task": "enhancer"})
    low = stating(manifest, snr_db=3.0, drift_db=6.0, nan_count=0.0)
    assert [t.limit for t in limits_of(enhancer, low)] == [110.0, 6.0, 0.0]
    assert lax(enhancer, low) == ("tolerance of litert-fp32: snr_db 3 is looser than at least 110",)
    high = stating(manifest, snr_db=120.0, drift_db=6.0, nan_count=0.0)
    assert [t.limit for t in limits_of(enhancer, high)] == [120.0, 6.0, 0.0]
    assert not lax(enhancer, high)


@pytest.mark.parametrize("precision", ["fp16", "mixed-fp16"])
def test_precision_is_what_is_stored(manifest: Manifest, precision: str) -> None:
    artefact = stating(manifest, precision, **{t.metric: t.limit for t in tolerance("scores", "fp16")})
    assert limits_of(manifest, artefact) == tolerance("scores", "fp16")
    assert not lax(manifest, artefact)


@pytest.mark.parametrize("precision", ["", "int3", "fp1", "mixed-"])
def test_what_has_no_limits_is_not_judged(manifest: Manifest, precision: str) -> None:
    with pytest.raises(BundleError, match="there are no limits for the precision"):
        limits_of(manifest, stating(manifest, precision))


def test_an_embedder_is_judged_by_its_own_limits(manifest: Manifest) -> None:
    voice: Any = manifest.model_copy(update={"task": "embedder"})
    for precision, limit in (("fp32", 1e-4), ("mixed-int8", 0.05), ("int4", 0.1)):
        judged = {t.metric: t.limit for t in limits_of(voice, stating(manifest, precision))}
        assert judged == {"embedding_max_error": limit, "nan_count": 0.0}


def test_verify_fails_where_a_manifest_asks_for_less_and_shows_the_figures(tmp_path: Path) -> None:
    folder = make_good(tmp_path, coreml=False)
    edit(folder, lambda m: m["artefacts"][0].update(tolerance=[]))
    report = hearpack.verify(folder)
    assert not report.passed
    for item in report.artefacts:
        assert len(item.checks) == 3
        assert all(check.passed for check in item.checks)
        assert "score_max_abs_error is missing" in item.lax[0]
