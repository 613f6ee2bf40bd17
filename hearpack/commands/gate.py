"""`hearpack gate`: a run or a bundle compared with a budget; exit 1 past it, JUnit XML for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, console, print_json, progress_bars, show_table

if TYPE_CHECKING:
    from streaming.advice.budget import GateReport


def gate(
    subject: Path = typer.Argument(
        ..., metavar="RUN_OR_BUNDLE", help="A run's folder, or a bundle that is measured now."
    ),
    budget: Path = typer.Argument(
        ..., metavar="BUDGET.toml", help=r"Limits: \[budget] with figures, see docs/report.md."
    ),
    junit: Path | None = typer.Option(None, help="Write JUnit XML to this file."),
    bundle: Path | None = typer.Option(None, help="The bundle of a run, for size_mb."),
    coldstart: Path | None = typer.Option(None, help="A file of hearpack coldstart -o, for the figures of the start."),
    artefact: str | None = typer.Option(None, help="Artefact of a bundle; litert-fp32 by default."),
    device: str = typer.Option(
        "this-machine", help="Device for which a bundle's delay, misses and losses are modelled."
    ),
    json_output: bool = JsonOption,
) -> None:
    """Compare size, computing time, delay, cold start, memory and misses with a budget."""
    from models.common.files import check_place
    from streaming.advice.budget_figures import gate as compare

    check_place(junit)
    with progress_bars(json_output) as progress:
        report = compare(
            subject, budget, bundle=bundle, cold_start=coldstart, artefact=artefact, device=device, progress=progress
        )
    if junit is not None:
        report.save(junit)
    if json_output:
        checks = [{"passed": c.passed, "told": c.sentence, **vars(c)} for c in report.checks]
        print_json({"subject": report.subject, "budget": report.budget, "passed": report.passed, "checks": checks})
    else:
        show(report)
    if not report.passed:
        raise typer.Exit(1)


def show(report: GateReport) -> None:
    """A line a figure, and the verdict."""
    from streaming.advice.budget import number

    rows = []
    for check in report.checks:
        value, limit = (f"{number(v)} {check.unit}".strip() for v in (check.figure.value, check.limit))
        verdict = "ok" if check.passed else "PAST IT"
        rows.append((check.name, value, limit, verdict, f"{check.figure.kind}: {check.figure.how}"))
    show_table(("figure", "value", "limit", "", "from"), rows)
    failed = sum(not check.passed for check in report.checks)
    console().print(
        "within the budget" if report.passed else f"FAILED: {failed} of {len(report.checks)} past the budget"
    )
