"""`hearpack clean`: what the cache holds, and what of it can go."""

from __future__ import annotations

import typer

from hearpack.commands.shared import JsonOption, megabytes, print_json, say, show_table
from models.common.errors import UsageError


def clean(
    yes: bool = typer.Option(False, "--yes", "-y", help="Remove it; without, it is only counted."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only count it (the default)."),
    older_than: float = typer.Option(0.0, metavar="DAYS", help="Keep what was used in the last DAYS."),
    weights: bool = typer.Option(False, help="Remove weights and audio too; `hearpack pull` fetches them again."),
    json_output: bool = JsonOption,
) -> None:
    """Free the cache of exports, packed weights and leftovers of killed processes; weights stay."""
    from converters.cache import clean as clean_cache

    if yes and dry_run:
        raise UsageError("--yes removes, --dry-run does not; give one")
    cleaning = clean_cache(dry_run=not yes, older_than_days=older_than, weights=weights)
    if json_output:
        print_json(cleaning)
        return
    verb = "removed" if yes else "would go"
    rows = [
        (k.name, str(k.items), megabytes(k.size_bytes), f"{k.free_items}", megabytes(k.free_bytes), k.what)
        for k in cleaning.kinds
    ]
    show_table(("kind", "items", "size", verb, "", ""), rows, title=str(cleaning.cache))
    freed = megabytes(cleaning.free_bytes)
    say(f"{freed} freed" if yes else f"{freed} would be freed; do it with: hearpack clean --yes")
