"""`hearpack pull`: weights from their pinned packages into the user's cache."""

from __future__ import annotations

from typing import Any

import typer

from hearpack.commands.shared import JsonOption, megabytes, print_json, progress_bars, say
from models.weights.assets import ASSETS, pull_asset


def pull(
    name: str = typer.Argument("", help="Model whose weights to fetch (see: hearpack models)."),
    everything: bool = typer.Option(
        False, "--all", help="Fetch every model and the demo's audio; all works offline afterwards."
    ),
    json_output: bool = JsonOption,
) -> None:
    """Fetch pretrained weights once, verify them, keep them for offline use."""
    from models import pretrained
    from models.catalog import CATALOG, find
    from models.common.errors import UsageError

    if bool(name) == everything:
        raise UsageError(f"expected a model or --all; models: {', '.join(sorted(CATALOG))}")
    names = sorted(n for n in CATALOG if pretrained.is_pinned(n)) if everything else [find(name).name]
    rows: list[dict[str, Any]] = []
    with progress_bars(json_output) as progress:
        for model in names:
            progress(f"weights of {model}", 0.0)
            file = pretrained.pull(model)
            progress(f"weights of {model}", 1.0)
            rows.append({"name": model, "path": file.path, "sha256": file.sha256, "bytes": file.path.stat().st_size})
        for asset in ASSETS if everything else ():
            progress(f"audio and metrics: {asset}", 0.0)
            path = pull_asset(asset)
            progress(f"audio and metrics: {asset}", 1.0)
            rows.append({"name": asset, "path": path})
    if json_output:
        print_json(rows)
        return
    for row in rows:
        size = f"  {megabytes(row['bytes'])}  sha256 {row['sha256'][:12]}…" if "bytes" in row else ""
        say(f"{row['name']}: {row['path']}{size}")
