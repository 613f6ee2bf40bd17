"""`hearpack models`: what can be exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hearpack.commands.shared import JsonOption, print_json, show_table

if TYPE_CHECKING:
    from models.pretrained import ModelSummary


def models(json_output: bool = JsonOption) -> None:
    """List the nets hearpack knows, with their geometry and whether their weights are here."""
    from models import pretrained

    found = pretrained.models()
    if json_output:
        print_json(found)
        return
    show_table(("name", "task", "what it is", "hop", "window", "delay", "params", "weights"), map(_row, found))


def _row(m: ModelSummary) -> tuple[str, ...]:
    times = (f"{1000.0 * n / m.sample_rate_hz:g} ms" for n in (m.hop_samples, m.window_samples, m.delay_samples))
    return (m.name, m.task, m.summary, *times, f"{m.parameters_millions:g} M", _weights(m))


def _weights(m: ModelSummary) -> str:
    from models import pretrained

    if m.weights_from:
        return f"--weights: {m.weights_from}"
    if not pretrained.is_pinned(m.name):
        return "--weights: your own; no pretrained weights, train them"
    return "cached" if m.weights_cached else f"hearpack pull {m.name}"
