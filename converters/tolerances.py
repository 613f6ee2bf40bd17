"""What an artefact is allowed to differ by from its torch original: fixed per task and precision.

Never derived from a measurement: a limit is set by what a user would notice (docs/parity.md has the
reasons), and `verify` says how far below it the artefact stays. streaming/metrics/parity.py defines each metric
and whether its limit is an upper or a lower one.
"""

from __future__ import annotations

from models.entry import Task
from runtimes.bundle import Tolerance

_CLASSIFIER_FP32 = {"score_max_abs_error": 1e-4, "top5_clear_flips": 0.0, "nan_count": 0.0}
_CLASSIFIER_FP16 = {"score_max_abs_error": 1e-2, "top5_agreement": 0.97, "top5_clear_flips": 0.0, "nan_count": 0.0}
# Drift is the SNR of the first ten seconds minus that of the last: what accumulates shows as tens of dB.
_WAVEFORM_FP32 = {"snr_db": 110.0, "drift_db": 6.0, "nan_count": 0.0}
_WAVEFORM_FP16 = {"snr_db": 55.0, "drift_db": 6.0, "nan_count": 0.0}

_TABLE: dict[tuple[Task, str], dict[str, float]] = {
    ("classifier", "fp32"): _CLASSIFIER_FP32,
    ("classifier", "fp16"): _CLASSIFIER_FP16,
    ("enhancer", "fp32"): _WAVEFORM_FP32,
    ("enhancer", "fp16"): _WAVEFORM_FP16,
    ("separator", "fp32"): _WAVEFORM_FP32,
    ("separator", "fp16"): _WAVEFORM_FP16,
}


def tolerance(task: Task, precision: str) -> tuple[Tolerance, ...]:
    """The limits for an artefact, in a fixed order."""
    return tuple(Tolerance(metric=metric, limit=limit) for metric, limit in _TABLE[(task, precision)].items())
