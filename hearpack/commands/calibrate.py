"""`hearpack calibrate`: what a call costs on this machine, paced as a stream paces it and back to back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, console, print_json, progress_bars, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streaming.measure.calibrate import CallTimes
    from streaming.measure.calibration import Calibration


def calibrate(
    bundles: list[Path] = typer.Argument(..., metavar="BUNDLE...", help="Bundles' folders."),
    output: Path | None = typer.Option(None, "--output", "-o", help="The calibration file (.json) to write."),
    artefact: list[str] = typer.Option([], help="Artefact ids; litert-fp32 by default."),
    engine: str | None = typer.Option(None, help="litert-interpreter (default for .tflite), litert-compiled, ..."),
    seconds: float = typer.Option(30.0, help="Length of the paced stream, for each."),
    threads: int = typer.Option(1, help="Compute threads."),
    json_output: bool = JsonOption,
) -> None:
    """Measure calls paced as in a stream, and back to back."""
    from models.common.files import check_place
    from streaming.measure.calibrate import calibrate as measure

    check_place(output, ".json")
    with progress_bars(json_output) as progress:
        calibration, times = measure(
            *bundles, artefacts=artefact, engine=engine, seconds=seconds, threads=threads, progress=progress
        )
    if output is not None:
        calibration.save(output)
    if json_output:
        print_json(calibration)
        return
    show(calibration, times)
    if output is not None:
        console().print(f"wrote {output}")


def show(calibration: Calibration, times: Sequence[CallTimes]) -> None:
    """Quantiles of paced and back-to-back calls, and how far apart their medians are."""
    import numpy as np

    out = console()
    out.print(f"measured on {calibration.machine}; ms per call, copies in and out included")
    rows = []
    for entry, measured in zip(calibration.entries, times, strict=True):
        paced, dense = measured.paced_us, measured.back_to_back_us
        name = f"{entry.bundle.removesuffix('.hearpack')} {entry.artefact}"
        late = f"{np.quantile(measured.late_us, 0.99) / 1000.0:.2f}"
        rows.append((name, entry.engine, f"every {measured.hop_ms:g} ms", str(len(paced)), *_quantiles(paced), late))
        rows.append(("", "", "back to back", str(len(dense)), *_quantiles(dense), ""))
    show_table(("bundle, artefact", "engine", "called", "calls", "p50", "p95", "p99", "max", "late p99"), rows)
    for entry, measured in zip(calibration.entries, times, strict=True):
        ratio = float(np.median(measured.paced_us) / np.median(measured.back_to_back_us))
        out.print(f"{entry.bundle}: a paced call takes {ratio:.2f} times a back-to-back one, medians")


def _quantiles(values_us: NDArray[np.float64]) -> list[str]:
    import numpy as np

    return [f"{q / 1000.0:.3f}" for q in np.quantile(values_us, (0.5, 0.95, 0.99, 1.0))]
