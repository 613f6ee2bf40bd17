"""`hearpack models`: what can be exported."""

from __future__ import annotations

from hearpack.commands.shared import JsonOption, print_json, wide_console
from models.entry import ModelEntry


def _weights_cell(entry: ModelEntry, cached: bool) -> str:
    from models import pretrained

    if entry.weights_from:
        return f"--weights: {entry.weights_from}"
    if not pretrained.is_pinned(entry.name):
        return "--weights: your own; none can be had here"
    return "cached" if cached else f"hearpack pull {entry.name}"


def models(json_output: bool = JsonOption) -> None:
    """List the nets hearpack knows, with their geometry and whether their weights are here."""
    from models import pretrained
    from models.catalog import CATALOG

    rows = [
        {
            "name": e.name,
            "task": e.task,
            "summary": e.summary,
            "sample_rate_hz": e.geometry.sample_rate_hz,
            "window_samples": e.geometry.window_samples,
            "hop_samples": e.geometry.hop_samples,
            "delay_samples": e.geometry.delay_samples,
            "buffer_kind": e.buffer_kind,
            "max_hops_per_call": e.max_hops,
            "parameters_millions": e.parameters_millions,
            "weights_cached": pretrained.is_cached(e.name),
            "licence": ", ".join(s.licence for s in pretrained.sources_of(e.name)),
            "weights_from": e.weights_from,
            "paper": e.paper,
        }
        for e in CATALOG.values()
    ]
    if json_output:
        print_json(rows)
        return
    from rich.table import Table

    table = Table("name", "task", "what it is", "hop", "window", "delay", "params", "weights", box=None, pad_edge=False)
    for e, row in zip(CATALOG.values(), rows, strict=True):
        g = e.geometry
        table.add_row(
            e.name,
            e.task,
            e.summary,
            f"{g.ms(g.hop_samples):g} ms",
            f"{g.ms(g.window_samples):g} ms",
            f"{g.ms(g.delay_samples):g} ms",
            f"{e.parameters_millions:g} M",
            _weights_cell(e, bool(row["weights_cached"])),
        )
    wide_console().print(table)
