"""The command `hearpack`, and `python -m hearpack`: Ctrl-C is heard before the commands are imported."""

from __future__ import annotations

import gc

from hearpack.interrupt import interruptible

# Imports make hundreds of thousands of objects that stay: looking through them again and again costs 30 ms a start.
OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main() -> None:
    """Run the command line; exit codes as in hearpack.cli.run_line."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    with interruptible():
        from hearpack.cli import run_line

        run_line()


if __name__ == "__main__":
    main()
