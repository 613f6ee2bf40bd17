"""The command `hearpack`, and `python -m hearpack`: Ctrl-C is heard before the commands are imported."""

from __future__ import annotations

from hearpack.interrupt import interruptible


def main() -> None:
    """Run the command line; exit codes as in hearpack.cli.run_line."""
    with interruptible():
        from hearpack.cli import run_line

        run_line()


if __name__ == "__main__":
    main()
