"""This machine in words, for files that hold measurements: processor, system, Python. No host, no user."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path


def machine_text() -> str:
    """For instance "AMD EPYC, 2 cores, Linux x86_64, Python 3.11.7"."""
    system = f"{platform.system()} {platform.machine()}"
    cores = os.cpu_count() or 1
    return f"{_processor()}, {cores} core{'s' if cores > 1 else ''}, {system}, Python {platform.python_version()}"


def _processor() -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Hardware") and value.strip():
                return value.strip()
    return platform.processor() or "processor not told"
