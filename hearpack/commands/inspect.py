"""`hearpack inspect`: what is inside a bundle, a .tflite, a .mlpackage or an .aimodel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from hearpack.commands.shared import JsonOption, megabytes, print_json, say, to_plain


def inspect(
    path: Path = typer.Argument(..., help="A bundle, a .tflite, a .mlpackage or an .aimodel."),
    json_output: bool = JsonOption,
) -> None:
    """Show I/O, states, ops, sizes, metadata and known traps."""
    from runtimes.inspect.inspect import inspect as look

    report = look(path)
    if json_output:
        print_json(report)
    else:
        show(to_plain(report))


def show(report: dict[str, Any], indent: str = "") -> None:
    """Print a report as an indented list: scalars on a line, tables of names as columns."""
    for key, value in report.items():
        if value in (None, "", [], {}):
            continue
        title = key.replace("_", " ")
        if isinstance(value, dict):
            _show_mapping(title, value, indent)
        elif isinstance(value, list):
            _show_list(title, value, indent)
        elif isinstance(value, int) and key.endswith("bytes"):
            say(f"{indent}{title}: {megabytes(value)}")
        else:
            say(f"{indent}{title}: {value}")


def _show_mapping(title: str, value: dict[str, Any], indent: str) -> None:
    if all(not isinstance(v, dict | list) for v in value.values()):
        say(f"{indent}{title}: " + ", ".join(f"{k} {v}" for k, v in value.items()))
        return
    say(f"{indent}{title}:")
    show(value, indent + "  ")


def _show_list(title: str, value: list[Any], indent: str) -> None:
    if all(not isinstance(v, dict | list) for v in value):
        shown = ", ".join(map(str, value[:12])) + (f", … ({len(value)} in all)" if len(value) > 12 else "")
        say(f"{indent}{title}: {shown}")
        return
    if all(isinstance(v, list) and len(v) == 2 for v in value):
        say(f"{indent}{title}: " + ", ".join(f"{name} {figure}" for name, figure in value))
        return
    say(f"{indent}{title}:")
    for item in value:
        say(f"{indent}  - {_inline(item)}")


def _inline(value: Any) -> str:
    """A nested value on one line."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if v not in (None, "", [], {})}
        return ", ".join(f"{k.replace('_', ' ')} {_inline(v)}" for k, v in kept.items())
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return "(" + "; ".join(map(_inline, value)) + ")"
    return str(value)
