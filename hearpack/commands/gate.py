"""`hearpack gate`: a run or a bundle against a budget; exit 1 past it, JUnit XML for CI."""

from __future__ import annotations

from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, print_json, progress_bars, wide_console


def gate(
    subject: Path = typer.Argument(
        ..., metavar="RUN_OR_BUNDLE", help="A run's folder, or a bundle that is measured now."
    ),
    budget: Path = typer.Argument(
        ..., metavar="BUDGET.toml", help="Limits: [budget] with figures, see docs/report.md."
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
    """Hold size, computing time, delay, cold start, memory and misses against a budget."""
    from rich.table import Table

    from hearpack.api_tools import gate as hold

    with progress_bars(json_output) as progress:
        report = hold(
            subject,
            budget,
            junit=junit,
            bundle=bundle,
            cold_start=coldstart,
            artefact=artefact,
            device=device,
            progress=progress,
        )
    if json_output:
        checks = [{"passed": c.passed, "told": c.told, **vars(c)} for c in report.checks]
        print_json({"subject": report.subject, "budget": report.budget, "passed": report.passed, "checks": checks})
    else:
        console = wide_console()
        table = Table("figure", "value", "limit", "", "from", box=None, pad_edge=False)
        for check in report.checks:
            value, limit = (f"{v:.4g} {check.unit}".strip() for v in (check.figure.value, check.limit))
            verdict = "ok" if check.passed else "PAST IT"
            table.add_row(check.name, value, limit, verdict, f"{check.figure.kind}: {check.figure.how}")
        console.print(table)
        failed = sum(not check.passed for check in report.checks)
        console.print(
            "within the budget" if report.passed else f"FAILED: {failed} of {len(report.checks)} past the budget"
        )
    if not report.passed:
        raise typer.Exit(1)
