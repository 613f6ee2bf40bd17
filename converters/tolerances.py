"""What an artefact may differ by from its original, by task and precision; a bundle may only ask for more. Light.

The judged does not set its limits: `verify`, `install` and the first check of an export take them from here, whatever
the manifest says (docs/parity.md has the reasons of each).
"""

from __future__ import annotations

from converters.compress.recipe import EIGHT_BITS, FEWER_BITS, MIXED
from models.common.errors import BundleError
from models.geometry import OutputKind
from runtimes.bundle import Artefact, Manifest, Tolerance
from streaming.metrics.parity import METRICS

# What an artefact may differ by from its torch original. Never derived from a measurement: a limit is what a user would
# notice (docs/parity.md has the reasons), and `verify` says how far below it the artefact stays. streaming/metrics/
# parity.py defines each metric and whether its limit is an upper or a lower one.
_SCORES = {
    "fp32": {"score_max_abs_error": 1e-4, "top5_clear_flips": 0.0, "nan_count": 0.0},
    "fp16": {"score_max_abs_error": 1e-2, "top5_agreement": 0.97, "top5_clear_flips": 0.0, "nan_count": 0.0},
}
# A compressed classifier: a score that was sure, 0.75 or more, stays past a threshold of 0.5. Four bits and less: it
# may not lose more than the half of its range.
_SCORES |= {name: {"score_max_abs_error": 0.25, "score_mean_abs_error": 5e-3, "nan_count": 0.0} for name in EIGHT_BITS}
_SCORES |= {name: {"score_max_abs_error": 0.5, "score_mean_abs_error": 1e-2, "nan_count": 0.0} for name in FEWER_BITS}
# Drift is the SNR of the first ten seconds minus that of the last: what accumulates shows as tens of dB.
_AUDIO = {
    "fp32": {"snr_db": 110.0, "drift_db": 6.0, "nan_count": 0.0},
    "fp16": {"snr_db": 55.0, "drift_db": 6.0, "nan_count": 0.0},
}
# A compressed enhancer: what it adds is 20 dB below the speech, where the error that the net itself leaves is 10 to 20.
# Four bits and less: as large as that error and no larger.
_AUDIO |= {name: {"snr_db": 20.0, "drift_db": 12.0, "nan_count": 0.0} for name in EIGHT_BITS}
_AUDIO |= {name: {"snr_db": 10.0, "drift_db": 12.0, "nan_count": 0.0} for name in FEWER_BITS}
# Of unit length: the cosine of two embeddings moves by at most as much as a score.
_EMBEDDING = {
    "fp32": {"embedding_max_error": 1e-4, "nan_count": 0.0},
    "fp16": {"embedding_max_error": 1e-2, "nan_count": 0.0},
}
# Compressed: a twentieth and a tenth, a step and two of those in which a verification's threshold is set.
_EMBEDDING |= {name: {"embedding_max_error": 0.05, "nan_count": 0.0} for name in EIGHT_BITS}
_EMBEDDING |= {name: {"embedding_max_error": 0.1, "nan_count": 0.0} for name in FEWER_BITS}
_LIMITS: dict[OutputKind, dict[str, dict[str, float]]] = {
    "scores": _SCORES,
    "audio": _AUDIO,
    "sources": _AUDIO,
    "embedding": _EMBEDDING,
}
# Nobody knows what an extra output means: a ten-thousandth and a hundredth of its size, as scores may differ by.
_EXTRA = {"fp32": {"snr_db": 80.0, "nan_count": 0.0}, "fp16": {"snr_db": 40.0, "nan_count": 0.0}}
_EXTRA |= {name: {"snr_db": 20.0, "nan_count": 0.0} for name in EIGHT_BITS}
_EXTRA |= {name: {"snr_db": 10.0, "nan_count": 0.0} for name in FEWER_BITS}


def tolerance(output_kind: OutputKind, precision: str) -> tuple[Tolerance, ...]:
    """The limits of an artefact, in a fixed order."""
    return tuple(
        Tolerance(metric=m, limit=limit) for m, limit in _LIMITS[output_kind][precision.removeprefix(MIXED)].items()
    )


def extra_limits(artefact: Artefact) -> tuple[Tolerance, ...]:
    """What an artefact's outputs beside the task's own are judged by, each over the whole stream."""
    limits = _EXTRA[artefact.precision.weights.removeprefix(MIXED)]
    return tuple(Tolerance(metric=m, limit=limit) for m, limit in limits.items())


def limits_of(manifest: Manifest, artefact: Artefact) -> tuple[Tolerance, ...]:
    """What an artefact of a bundle is judged by: the limits above, each the manifest's own where that is stricter.

    Raises:
        BundleError: there are no limits for its task and precision.
    """
    stated = {t.metric: t.limit for t in artefact.tolerance}
    limits = {t.metric: t.limit for t in _required(manifest, artefact)}
    stricter = {metric: _stricter(metric, limit, stated.get(metric, limit)) for metric, limit in limits.items()}
    return tuple(Tolerance(metric=metric, limit=limit) for metric, limit in ({**stated, **stricter}).items())


def lax(manifest: Manifest, artefact: Artefact) -> tuple[str, ...]:
    """Where a manifest's tolerance falls short of the limits above, a sentence each; empty where it does not."""
    stated = {t.metric: t.limit for t in artefact.tolerance}
    short = []
    for required in _required(manifest, artefact):
        metric, limit = required.metric, required.limit
        if metric not in stated:
            short.append(f"tolerance of {artefact.id}: {metric} is missing, expected {METRICS[metric]} {limit:g}")
        elif _stricter(metric, limit, stated[metric]) != stated[metric]:
            short.append(
                f"tolerance of {artefact.id}: {metric} {stated[metric]:g} is looser than {METRICS[metric]} {limit:g}"
            )
    return tuple(short)


def _stricter(metric: str, one: float, other: float) -> float:
    return min(one, other) if METRICS[metric] == "at most" else max(one, other)


def _required(manifest: Manifest, artefact: Artefact) -> tuple[Tolerance, ...]:
    kind, precision = manifest.output_kind, artefact.precision.weights.removeprefix(MIXED)
    known = _LIMITS.get(kind, {})
    if precision not in known:
        raise BundleError(
            f"artefact {artefact.id}: there are no limits for the precision {artefact.precision.weights!r:.40} of "
            f"{manifest.task}s, so it cannot be judged; expected {', '.join(known) or 'another task'}"
        )
    return tolerance(kind, precision)
