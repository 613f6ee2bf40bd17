"""A commented beginning for a custom net, which exports as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import UsageError
from models.common.files import atomic_folder, save_text

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class Scaffold:
    """What was written: a folder, and the files in it."""

    folder: Path
    files: tuple[Path, ...]


def scaffold(name: str, *, task: str = "classifier", output: str | Path = ".") -> Scaffold:
    """Write net.py, geometry.toml, labels and a test for a custom net.

    Args:
        name: of the model, and of the folder that is made.
        task: "classifier" (windows of log-mel) or "enhancer" (causal, 8 ms hops).
        output: where the folder is made.

    Returns:
        what was written.

    Raises:
        UsageError: a bad name, an unknown task, or files that are there already; nothing is ever replaced.
        OutputError: the place cannot be written.
    """
    known = sorted(p.name for p in TEMPLATES.iterdir() if p.is_dir())
    if task not in known:
        raise UsageError(f"--task: expected one of {', '.join(known)}, got {task!r}")
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise UsageError(
            f"expected a name that begins with a lower-case letter and goes on with those, digits, - and _, got "
            f"{name!r}"
        )
    folder = Path(output) / name
    sources = sorted(p for p in (TEMPLATES / task).iterdir() if p.is_file())
    files = {folder / p.name.removesuffix(".txt" if ".py" in p.name else ""): p.read_text("utf-8") for p in sources}
    there = [path for path in files if path.exists()]
    if there:
        raise UsageError(f"{there[0]}: is there already and was left alone; choose another name or --output")
    texts = {path: text.replace("NAME", name) for path, text in files.items()}
    if folder.exists():
        for path, text in texts.items():
            save_text(path, text)
    else:
        with atomic_folder(folder) as made:
            for path, text in texts.items():
                (made / path.name).write_text(text, encoding="utf-8")
    return Scaffold(folder, tuple(files))
