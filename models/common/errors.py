"""Every error hearpack raises on purpose, in one tree.

    HearpackError                      exit code 2 at the command line, one line of at most 300 characters on stderr
    ├── UsageError                     an argument is wrong: unknown model, bad buffer, bad combination
    ├── AudioError                     an audio file or stream is not usable
    ├── WeightsError                   weights are missing, corrupt or of another net
    │   └── FetchError                 a pinned package could not be fetched
    ├── BundleError                    a bundle is missing, invalid, newer, or does not match its hashes
    ├── ConversionError                a net cannot be converted as it stands
    ├── ArtefactError                  an exported file cannot be loaded or run
    ├── MissingDependencyError         an extra is not installed
    └── OutputError                    a result cannot be written

A message says what was expected, what came, and what to do. Anything else that escapes is a bug.
"""

from __future__ import annotations

import re

from models.common.printable import printable

MOST_CHARACTERS = 290  # of a message: a line of 300 with who says it
# What Python adds to an OSError's words: its number before them, and after them the path that a message begins with.
_ERRNO = re.compile(r"\[Errno -?\d+\] ([^:;,.)]+)(?:: b?(?:'[^']*'|\"[^\"]*\")(?: -> '[^']*')?)?")


class HearpackError(Exception):
    """Base of all errors that hearpack raises on purpose; as text, one printable line (`args` has the whole)."""

    def __str__(self) -> str:
        text = _ERRNO.sub(r"\1", " ".join(super().__str__().split()))
        return printable(text, MOST_CHARACTERS)


class UsageError(HearpackError):
    """An argument is wrong."""


def first_line(exc: BaseException) -> str:
    """The first line that an exception says; its kind where it says nothing."""
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)


class AudioError(HearpackError):
    """An audio file or stream is not usable."""


class WeightsError(HearpackError):
    """Weights are missing, corrupt or belong to another net."""


class FetchError(WeightsError):
    """A pinned package could not be fetched or did not match its sha256."""


class BundleError(HearpackError):
    """A bundle is missing, invalid, from a newer schema, or does not match its hashes."""


class ConversionError(HearpackError):
    """A net cannot be converted as it stands."""


class ArtefactError(HearpackError):
    """An exported file cannot be loaded or run."""


class MissingDependencyError(HearpackError):
    """A package of an extra is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed; "
            f"install it with: pip install 'hearpack[{extra}]'"
        )
        self.package = package
        self.extra = extra


class OutputError(HearpackError):
    """A result cannot be written."""
