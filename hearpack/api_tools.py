"""What stands around the simulator, as functions: measure, tune, advise, gate, report. Nothing prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.common.progress import Progress, silent

if TYPE_CHECKING:
    from streaming.advice.advise import Advice
    from streaming.advice.budget import GateReport
    from streaming.measure.calibrate import CallTimes
    from streaming.measure.calibration import Calibration
    from streaming.measure.cold_start import ColdStart
    from streaming.tuning.tune import TuneReport


def calibrate(
    *bundles: str | Path,
    output: str | Path | None = None,
    artefacts: tuple[str, ...] = (),
    engine: str | None = None,
    seconds: float = 30.0,
    threads: int = 1,
    progress: Progress = silent,
) -> tuple[Calibration, tuple[CallTimes, ...]]:
    """Measure what calls cost on this machine, paced at the hop's interval and back to back.

    Args:
        bundles: bundles' folders.
        output: the calibration file, from which a virtual simulation draws.
        artefacts: ids; the usual one when empty.
        engine: see runtimes.engines.ENGINES.
        seconds: of paced calls.
        threads: compute threads.
        progress: called with (what, fraction done).

    Returns:
        the distributions, and every call's time.
    """
    from models.common.files import atomic_file, check_place
    from runtimes.bundle import Bundle
    from streaming.measure.calibrate import calibrate as measure

    check_place(output)
    opened = [Bundle.open(b) for b in bundles]
    calibration, times = measure(opened, artefacts, engine, seconds=seconds, threads=threads, progress=progress)
    if output is not None:
        with atomic_file(Path(output)) as file:
            file.write(calibration.dump().encode())
    return calibration, times


def coldstart(
    bundle: str | Path,
    *,
    output: str | Path | None = None,
    artefact: str | None = None,
    engine: str | None = None,
    runs: int = 10,
    threads: int = 1,
    drop_caches: bool = False,
    progress: Progress = silent,
) -> ColdStart:
    """Start fresh processes and time them from their launch to their first decision.

    Args:
        bundle: a bundle's folder.
        output: a JSON file that keeps every run, for `report` and `gate`.
        artefact: id; the fp32 .tflite by default.
        engine: "litert-compiled" by default for a .tflite.
        runs: processes a condition of the caches.
        threads: compute threads.
        drop_caches: empty the whole machine's page cache for cold runs; needs root.
        progress: called with (what, fraction done).

    Returns:
        every run, by the caches that it found; streaming.advice.cold_start reads it.
    """
    from models.common.files import atomic_file, check_place
    from runtimes.bundle import Bundle
    from streaming.measure.cold_start import measure_cold_start

    check_place(output)
    report = measure_cold_start(
        Bundle.open(bundle),
        artefact,
        engine,
        runs=runs,
        threads=threads,
        drop_caches=drop_caches,
        progress=progress,
    )
    if output is not None:
        with atomic_file(Path(output)) as file:
            file.write(report.dump().encode())
    return report


def tune(
    bundle: str | Path,
    recording: str | Path,
    labels: str | Path,
    *,
    label: str | None = None,
    false_alarms_per_hour: float = 0.0,
    collar_s: float | None = None,
    only: bool = False,
    artefact: str | None = None,
    judge_on: tuple[str | Path, str | Path] | None = None,
    write: bool = True,
    progress: Progress = silent,
) -> TuneReport:
    """Choose thresholds and smoothing on a labelled recording, and put them into the bundle's manifest.

    Args:
        bundle: a classifier's folder; only `decisions` of its manifest.json change.
        recording: an audio file.
        labels: its labels, a CSV (streaming/files/labels.py has the forms).
        label: the label that is meant where the CSV names none.
        false_alarms_per_hour: how many may remain.
        collar_s: how far around a labelled interval an event may be on; one window of the model when None.
        only: let no other label ever turn on.
        artefact: what listens; the fp32 .tflite by default.
        judge_on: another recording and its labels, on which the result is judged.
        write: False to look only.
        progress: called with (what, fraction done).

    Returns:
        figures before, after and held out, the trade-off curve, and the decisions.
    """
    from runtimes.bundle import Bundle
    from streaming.tuning.tune import tune as run_tune

    return run_tune(
        Bundle.open(bundle),
        Path(recording),
        Path(labels),
        label=label,
        allowed_per_hour=false_alarms_per_hour,
        collar_s=collar_s,
        only=only,
        artefact=artefact,
        judge_on=None if judge_on is None else (Path(judge_on[0]), Path(judge_on[1])),
        write=write,
        progress=progress,
    )


def advise(
    *bundles: str | Path,
    devices: tuple[str, ...] = (),
    artefacts: tuple[str, ...] = (),
    engine: str | None = None,
    calibration: str | Path | None = None,
    seconds: float = 30.0,
    seed: int = 0,
    output: str | Path | None = None,
    progress: Progress = silent,
) -> Advice:
    """Which buffer and artefact for which device: delay against load against misses, all modelled.

    Args:
        bundles: bundles' folders; another buffer is another bundle.
        devices: profiles' names or .toml files; all that come with hearpack when empty.
        artefacts: ids; the usual one when empty.
        engine: whose times are scaled.
        calibration: a file of `calibrate`; measured for 5 s each when None.
        seconds: of each simulated run.
        seed: of everything random.
        output: a JSON file that keeps it, for `report`.
        progress: called with (what, fraction done).

    Returns:
        every candidate's figures on every device, the recommended one, and why.
    """
    from models.common.files import atomic_file, check_place
    from runtimes.bundle import Bundle
    from streaming.advice.advise import advise as run_advise
    from streaming.measure.calibration import read_calibration

    check_place(output)
    advice = run_advise(
        [Bundle.open(b) for b in bundles],
        devices=devices,
        artefacts=artefacts,
        engine=engine,
        calibration=None if calibration is None else read_calibration(calibration),
        seconds=seconds,
        seed=seed,
        progress=progress,
    )
    if output is not None:
        with atomic_file(Path(output)) as file:
            file.write(advice.dump().encode())
    return advice


def gate(
    subject: str | Path,
    budget: str | Path,
    *,
    junit: str | Path | None = None,
    bundle: str | Path | None = None,
    cold_start: str | Path | None = None,
    artefact: str | None = None,
    device: str = "this-machine",
    progress: Progress = silent,
) -> GateReport:
    """Hold a run or a bundle against a budget.

    Args:
        subject: a run's folder, whose figures are taken; or a bundle's, whose figures are measured now.
        budget: a TOML file, see streaming/advice/budget.py.
        junit: the JUnit XML to write.
        bundle: the bundle of a run, for `size_mb`.
        cold_start: a file of `hearpack coldstart -o`, for the figures of the start.
        artefact: of a bundle; the fp32 .tflite by default.
        device: profile for which a bundle's delay, misses and losses are modelled.
        progress: called with (what, fraction done).

    Returns:
        every figure with its limit; `passed` says whether all keep within.
    """
    from models.common.files import atomic_file, check_place
    from streaming.advice.budget import junit as as_junit
    from streaming.advice.budget_figures import gate as hold_against

    check_place(junit)
    found = hold_against(
        Path(subject),
        Path(budget),
        bundle=None if bundle is None else Path(bundle),
        cold_start=None if cold_start is None else Path(cold_start),
        artefact=artefact,
        device=device,
        progress=progress,
    )
    if junit is not None:
        with atomic_file(Path(junit)) as file:
            file.write(as_junit(found))
    return found


def report(
    *runs: str | Path,
    output: str | Path,
    cold_starts: tuple[str | Path, ...] = (),
    advices: tuple[str | Path, ...] = (),
    data: str | Path | None = None,
    command: tuple[str, ...] = ("hearpack.report",),
) -> dict[str, Any]:
    """One HTML page, without script or network, of what the simulator and its tools wrote.

    Args:
        runs: folders of `hearpack simulate`; the first is A, the others are compared with it.
        output: the .html.
        cold_starts: files of `hearpack coldstart -o`.
        advices: files of `hearpack advise -o`.
        data: where the data behind the page go as JSON.
        command: how the page was asked for, to stand in it.

    Returns:
        the data behind the page.
    """
    from streaming.report.write import write_report

    return write_report(
        [Path(run) for run in runs],
        Path(output),
        cold_starts=[Path(file) for file in cold_starts],
        advices=[Path(file) for file in advices],
        data_file=None if data is None else Path(data),
        command=command,
    )
