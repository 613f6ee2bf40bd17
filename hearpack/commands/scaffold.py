"""`hearpack scaffold`: a commented beginning for a net of one's own, which exports as it is."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, print_json

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


def scaffold(
    name: str = typer.Argument(..., help="Name of the model, and of the folder that is made."),
    task: str = typer.Option("classifier", help="classifier (windows of log-mel) or enhancer (causal, 8 ms hops)."),
    output: Path = typer.Option(Path(), "--output", "-o", help="Where the folder is made."),
    json_output: bool = JsonOption,
) -> None:
    """Write net.py, geometry.toml, labels and a test for a net of your own."""
    from models.common.files import atomic_file

    folder = output / name
    files = _files(name, task, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        from models.common.errors import OutputError

        raise OutputError(f"{folder}: cannot be made: {exc.strerror}; choose another place with --output") from exc
    for path, text in files.items():
        with atomic_file(path) as file:
            file.write(text.encode())
    if json_output:
        print_json({"folder": folder, "files": list(files)})
        return
    for path in files:
        typer.echo(f"  {path}")
    typer.echo(f"it exports as it is: hearpack export {folder / 'net.py'}:build -o {folder}")


def _files(name: str, task: str, folder: Path) -> dict[Path, str]:
    """What is to be written.

    Raises:
        UsageError: a bad name, an unknown task, or files that are there already; nothing is ever replaced.
    """
    from models.common.errors import UsageError

    known = sorted(p.name for p in TEMPLATES.iterdir() if p.is_dir())
    if task not in known:
        raise UsageError(f"--task: expected one of {', '.join(known)}, got {task!r}")
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise UsageError(f"expected a name of lower-case letters, digits, - and _, got {name!r}")
    sources = sorted(p for p in (TEMPLATES / task).iterdir() if p.is_file())
    files = {
        folder / p.name.removesuffix(".txt" if ".py" in p.name else ""): p.read_text(encoding="utf-8").replace(
            "NAME", name
        )
        for p in sources
    }
    there = [path for path in files if path.exists()]
    if there:
        raise UsageError(f"{there[0]}: is there already and was left alone; choose another name or --output")
    return files
