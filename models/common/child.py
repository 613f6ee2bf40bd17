"""A Python process of our own beside this one."""

from __future__ import annotations

import sys


def python_command(code: str, *arguments: str) -> list[str]:
    """The command of a fresh Python that imports from where this process does.

    `-P` keeps the folder that the user stands in out of the search: a bundle from somebody else may lie there, with a
    numpy.py in it.

    Args:
        code: what it runs.
        arguments: its sys.argv[1:].
    """
    return [sys.executable, "-P", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}", *arguments]
