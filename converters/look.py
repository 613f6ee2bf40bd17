"""A first look at a net of the user's own: what passes, what is written otherwise, what is in the way."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from converters.custom import GeometrySource, open_custom
from models.common.errors import ConversionError
from models.custom.entry import CustomEntry
from models.custom.loading import parse_target
from models.graph.builder import Origin
from models.graph.notes import noted

# Operations that are only spelt otherwise: nobody wants to read of them.
_PLAIN = {
    *("view", "_unsafe_view", "pad", "add", "sub", "mul", "div", "conv1d", "conv2d", "to", "_to_copy", "type_as"),
    *(
        "batch_norm",
        "_native_batch_norm_legit_no_training",
        "abs",
        "real",
        "imag",
        "copy",
        "fill",
        "slice",
        "select",
        "zeros_like",
    ),
    *(
        "ones_like",
        "new_zeros",
        "new_ones",
        "full_like",
        "transpose",
        "permute",
        "reshape",
        "unsqueeze",
        "squeeze",
        "cat",
    ),
}


@dataclass(frozen=True)
class Rewritten:
    """Operations that are written otherwise.

    Attributes:
        operation: torch's name of it.
        places: where, as the user knows it: layers, or lines of their file.
    """

    operation: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """What a first look found.

    Attributes:
        net: "net.py:build".
        passes: whether nothing is in the way of the converters.
        blocked: what is, with its line; "" if nothing.
        form: "window", "step", "causal" or "keras"; "" where it did not come so far.
        parameters_millions: of the net.
        states: name and shape of each state that a call hands on.
        kept_in_float32: how many parts stay in float32 in fp16 artefacts.
        delay_samples: of the output, look-ahead that became delay included.
        rewritten: what is written otherwise.
        assumed: what was not said.
        seconds: it took.
    """

    net: str
    passes: bool
    blocked: str
    form: str
    parameters_millions: float
    states: tuple[tuple[str, tuple[int, ...]], ...]
    kept_in_float32: int
    delay_samples: int
    rewritten: tuple[Rewritten, ...]
    assumed: tuple[str, ...]
    seconds: float


def look(target: str, geometry: GeometrySource = None, weights: Path | None = None) -> Look:
    """Load, capture and prove a net, and say what came of it; nothing is converted or written.

    Args:
        target: "path/net.py:build", "package.module:build" or "path/model.keras".
        geometry, weights: as in `export`.

    Returns:
        what was found; a net that cannot be exported is a result too.

    Raises:
        UsageError: the file, the module or the geometry is not usable.
        WeightsError: the checkpoint is another net's.
    """
    began, blocked = time.perf_counter(), ""
    entry: CustomEntry | None = None
    with noted() as notes:
        try:
            entry = open_custom(target, geometry, weights)
        except ConversionError as exc:
            blocked = str(exc.args[0]) if exc.args else str(exc)
    return Look(
        net=parse_target(target).factory,
        passes=entry is not None,
        blocked=blocked,
        form="" if entry is None else entry.form,
        parameters_millions=0.0 if entry is None else entry.parameters_millions,
        states=() if entry is None else tuple((s.name, s.shape) for s in entry.states),
        kept_in_float32=0 if entry is None else len(entry.fp32_modules),
        delay_samples=0 if entry is None else entry.geometry.delay_samples,
        rewritten=_by_operation(notes),
        assumed=() if entry is None else entry.assumed,
        seconds=time.perf_counter() - began,
    )


def _by_operation(notes: list[tuple[str, Origin]]) -> tuple[Rewritten, ...]:
    places: dict[str, dict[str, None]] = defaultdict(dict)
    for name, origin in notes:
        if name not in _PLAIN:
            places[name][_place(origin)] = None
    return tuple(Rewritten(name, tuple(known)) for name, known in places.items())


def _place(origin: Origin) -> str:
    if origin.kind and origin.module:
        return origin.module
    return origin.line or origin.module or "the net"
