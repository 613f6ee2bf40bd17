"""hearpack: audio models for phones, converted, executed, verified.

Every command of the command line is a function of the same name here; each returns a frozen result and prints nothing:

    make a bundle   models pull scaffold look export compress verify inspect sign install
    simulate        simulate devices fit_device check_partitions
    measure         run predict quality calibrate coldstart
    offline         batch
    decide          tune advise gate report
    and             doctor demo clean

    import hearpack

    bundle = hearpack.export("dtln", output="build").path
    assert hearpack.verify(bundle).passed
    hearpack.run(bundle, "noisy.wav", output="clean.wav")
    hearpack.coldstart(bundle).save("coldstart.json")

A bundle is given as its folder or as an open `Bundle`. Names are imported when first used (__init__.pyi has the list),
so that `import hearpack` stays light.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_HOMES = {
    alias.name: node.module
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hearpack' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # found once: a user's net may have a package `models` of its own while it is loaded
    return value


def __dir__() -> list[str]:
    return __all__


class _Front(ModuleType):
    """A name of the list is what the list says, also where a folder is called the same (demo)."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):  # an import of hearpack.demo.run sets `demo`
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Front
