"""hearpack: audio models for phones, converted, executed, verified.

The whole of the command line is here as functions too:

    import hearpack
    result = hearpack.export("dtln", output="build", hops_per_call=1)
    report = hearpack.verify(result.path)
    hearpack.run(result.path, "noisy.wav", output="clean.wav")

Names are loaded when first used, so that `import hearpack` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from models.common.version import __version__

if TYPE_CHECKING:
    from converters.export import export as export
    from converters.verify import verify as verify
    from hearpack.api import inspect as inspect
    from hearpack.api import run as run
    from hearpack.api_tools import advise as advise
    from hearpack.api_tools import calibrate as calibrate
    from hearpack.api_tools import coldstart as coldstart
    from hearpack.api_tools import gate as gate
    from hearpack.api_tools import report as report
    from hearpack.api_tools import tune as tune
    from models.catalog import CATALOG as CATALOG
    from models.common.errors import HearpackError as HearpackError
    from models.custom.causal.layers import CumulativeNorm as CumulativeNorm
    from models.entry import ModelEntry as ModelEntry
    from models.geometry import StreamGeometry as StreamGeometry
    from models.pretrained import pull as pull
    from runtimes.bundle import Bundle as Bundle
    from runtimes.bundle import Decisions as Decisions
    from streaming.simulator.fit import fit_device as fit_device
    from streaming.simulator.simulate import simulate as simulate

_HOMES = {
    "Bundle": "runtimes.bundle",
    "CATALOG": "models.catalog",
    "CumulativeNorm": "models.custom.causal.layers",
    "Decisions": "runtimes.bundle",
    "HearpackError": "models.common.errors",
    "ModelEntry": "models.entry",
    "StreamGeometry": "models.geometry",
    "advise": "hearpack.api_tools",
    "calibrate": "hearpack.api_tools",
    "coldstart": "hearpack.api_tools",
    "export": "converters.export",
    "fit_device": "streaming.simulator.fit",
    "gate": "hearpack.api_tools",
    "inspect": "hearpack.api",
    "pull": "models.pretrained",
    "report": "hearpack.api_tools",
    "run": "hearpack.api",
    "simulate": "streaming.simulator.simulate",
    "tune": "hearpack.api_tools",
    "verify": "converters.verify",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hearpack' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # found once: a user's net may have a package `models` of its own while it is loaded
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
