"""Where a gate's figures come from: a run's record, a cold-start file, or a bundle that is measured now.

Of a bundle only what the budget asks for is measured: calls paced for `PACED_SECONDS`, `COLD_RUNS` fresh processes for
each state of the caches, of which the coldest counts; delay, misses and losses are modelled for a device from the paced
calls, in a run of `SIMULATED_SECONDS` on the virtual clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.common.errors import UsageError
from models.common.progress import Progress, silent
from runtimes.bundle import MANIFEST, Bundle
from runtimes.engines import choose
from streaming.advice.advise import candidate
from streaming.advice.budget import Figure, GateReport, compare, read_budget
from streaming.advice.cold_start import summarise
from streaming.measure.calibrate import calibrate
from streaming.measure.cold_start import ColdStart, coldstart, read_cold_start
from streaming.runs.load import delay_kind
from streaming.runs.record import RUN_FILE, RunRecord, read_run
from streaming.simulator.device.profile import load_profile

PACED_SECONDS = 10.0
COLD_RUNS = 5
SIMULATED_SECONDS = 30.0
START_FIGURES = frozenset({"cold_start_ms", "first_decision_ms", "memory_mb"})
CALL_FIGURES = frozenset({"compute_p99_ms", "rtf"})
DEVICE_FIGURES = frozenset({"delay_ms", "misses", "lost_samples"})


def gate(
    subject: Bundle | str | Path,
    budget: str | Path,
    *,
    bundle: Bundle | str | Path | None = None,
    cold_start: str | Path | None = None,
    artefact: str | None = None,
    device: str = "this-machine",
    progress: Progress = silent,
) -> GateReport:
    """Compare a run or a bundle with a budget.

    Args:
        subject: a run's folder, whose figures are taken; or a bundle or its folder, whose figures are measured now.
        budget: a TOML file, see streaming.advice.budget.
        bundle: the bundle of a run, for its size.
        cold_start: a file of cold starts; a bundle is started anew without one.
        artefact: of a bundle; the fp32 .tflite by default.
        device: for which a bundle's delay, misses and losses are modelled.
        progress: called with (what, fraction done).

    Returns:
        every figure with its limit; `passed` says whether all keep within.

    Raises:
        UsageError: neither a run nor a bundle, a wrong budget, a figure that is not to be had, or a bundle or a file of
            cold starts that is not of the subject's artefact.
        BundleError, ArtefactError: the bundle is damaged or does not run.
    """
    limits = read_budget(Path(budget))
    figures: dict[str, Figure] = {}
    opened, subject = (subject, subject.path) if isinstance(subject, Bundle) else (None, Path(subject))
    if (subject / RUN_FILE).is_file() or subject.name == RUN_FILE:
        record = read_run(subject)
        figures |= run_figures(record)
        judged = _Judged(f"the run {subject.name}", record.bundle, record.artefact, record.artefact_sha256)
        if bundle is not None:
            judged.check(_of_artefact(Bundle.of(bundle), record.artefact))
            figures |= size_figure(Bundle.of(bundle), record.artefact)
    elif (subject / MANIFEST).is_file() or subject.name == MANIFEST:
        wanted = set(limits) if cold_start is None else set(limits) - START_FIGURES
        opened = opened or Bundle.open(subject)
        judged = _of_artefact(opened, choose(opened, artefact).artefact.id)
        figures |= _of_bundle(opened, judged.artefact, device, wanted, progress)
    else:
        raise UsageError(
            f"{subject}: expected a run (a folder with {RUN_FILE}) or a bundle (one with {MANIFEST}), found neither"
        )
    if cold_start is not None:
        starts = read_cold_start(cold_start)
        judged.check(_Judged(f"{cold_start}", starts.bundle, starts.artefact, starts.artefact_sha256))
        figures |= start_figures(starts)
    return compare(subject.name, Path(budget).name, limits, figures)


@dataclass(frozen=True)
class _Judged:
    """Whose figures these are: `what` they come from, the bundle's folder, the artefact's id, its digest if known."""

    what: str
    bundle: str
    artefact: str
    digest: str

    def check(self, other: _Judged) -> None:
        """Raise unless both are of one artefact: by digest, or by name where an older file holds no digest."""
        if self.digest and other.digest:
            same = self.digest == other.digest
        else:
            same = (self.bundle, self.artefact) == (other.bundle, other.artefact)
        if not same:
            raise UsageError(
                f"{self.what} is of {self._text}, {other.what} is of {other._text}: figures of two artefacts make no "
                f"budget; give those of one, or measure again"
            )

    @property
    def _text(self) -> str:
        digest = f" (sha256 {self.digest[:12]}…)" if self.digest else ""
        return f"{self.artefact} of {self.bundle}{digest}"


def _of_artefact(bundle: Bundle, artefact: str) -> _Judged:
    name = bundle.path.resolve().name
    return _Judged(f"the bundle {name}", name, artefact, bundle.artefact(artefact).digest)


def run_figures(record: RunRecord) -> dict[str, Figure]:
    """What a run's record holds."""
    kind = delay_kind(record)
    clock = f"{record.profile.name}, {record.clock} clock"
    figures = {
        "misses": Figure(record.counts.misses, kind, clock),
        "lost_samples": Figure(record.counts.dropped, kind, clock),
    }
    own = next((c for c in record.compute if c.pacing != "back_to_back"), None)
    if own is not None:
        hop_ns = 1e9 * record.hop_samples / record.model_rate_hz
        figures["compute_p99_ms"] = Figure(own.quantiles.p99 / 1e6, own.provenance, own.label)
        figures["rtf"] = Figure(own.quantiles.mean / hop_ns, own.provenance, own.label)
    streams = [entry for entry in record.ledger if entry.kind != "event"] or record.ledger
    if streams:
        figures["delay_ms"] = Figure(streams[0].total.p95 / 1e6, kind, f"p95 of a {streams[0].kind}, {clock}")
    return figures


def size_figure(bundle: Bundle, artefact: str) -> dict[str, Figure]:
    """The artefact's bytes."""
    return {"size_mb": Figure(bundle.artefact(artefact).size_bytes / 1e6, "counted", f"files of {artefact}")}


def start_figures(report: ColdStart) -> dict[str, Figure]:
    """What cold starts with the coldest caches gave."""
    coldest = summarise(report.conditions[0])
    how = f"{coldest.ready_ms.count} fresh processes, {coldest.name}"
    return {
        "cold_start_ms": Figure(coldest.ready_ms.median, "measured", how),
        "first_decision_ms": Figure(coldest.first_decision_ms.median, "measured", how),
        "memory_mb": Figure(coldest.peak_memory_bytes.median / 1e6, "measured", how),
    }


def _of_bundle(
    bundle: Bundle, artefact: str, device: str, wanted: Collection[str], progress: Progress
) -> Mapping[str, Figure]:
    """Measure and model what is wanted of a bundle, and no more."""
    chosen = bundle.artefact(artefact)
    bundle.check_files([chosen])
    figures = size_figure(bundle, chosen.id)
    if (CALL_FIGURES | DEVICE_FIGURES) & set(wanted):
        profile = load_profile(device)
        calibration, (times,) = calibrate(bundle, artefacts=(chosen.id,), seconds=PACED_SECONDS, progress=progress)
        how = f"{len(times.paced_us)} calls paced every {times.hop_ms:g} ms"
        figures["compute_p99_ms"] = Figure(float(np.quantile(times.paced_us, 0.99)) / 1e3, "measured", how)
        figures["rtf"] = Figure(float(times.paced_us.mean()) / 1e3 / times.hop_ms, "measured", how)
        if DEVICE_FIGURES & set(wanted):
            run = candidate(bundle, chosen.id, None, profile, calibration, SIMULATED_SECONDS, 0)
            how = f"{profile.name}, {SIMULATED_SECONDS:g} s on the virtual clock"
            figures["delay_ms"] = Figure(run.delay_p95_ms, "modelled", f"p95, {how}")
            figures["misses"] = Figure(run.misses, "modelled", how)
            figures["lost_samples"] = Figure(run.dropped, "modelled", how)
    if START_FIGURES & set(wanted):
        figures |= start_figures(coldstart(bundle, artefact=chosen.id, runs=COLD_RUNS, progress=progress))
    return figures
