"""The names of precisions, and what each format does with them. Light: no torch, no converter.

One name means the same in both formats as far as both can: how weights are stored. What a format cannot store is
refused, with the nearest that it can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from models.common.errors import ConversionError, UsageError
from models.entry import ModelEntry
from runtimes.bundle import Format, Precision

FLOATS = ("fp32", "fp16")
MIXED = "mixed-"
MINIMUM_IOS = "16.0"
Kind = Literal["linear", "palette"]


@dataclass(frozen=True)
class Scheme:
    """How one precision stores weights, and what computes with them.

    Attributes:
        name: what users call it.
        kind: "linear" (integers with a scale) or "palette" (indices into a table of values).
        bits: per weight; tensors that do not lend themselves take 8, or stay in float32.
        compute: per format that can do it, what the arithmetic is in; a format that is missing cannot.
        nearest: per format that cannot, the precision that comes nearest.
        ios: the first iOS that reads it.
        calibrated: whether ranges of activations have to be measured on audio.
    """

    name: str
    kind: Kind
    bits: int
    compute: Mapping[Format, str]
    nearest: Mapping[Format, str]
    ios: str = MINIMUM_IOS
    calibrated: bool = False


_FLOAT_COREML: Mapping[Format, str] = {"coreml": "fp32"}


def _palette(bits: int, nearest: str, grouped: bool = False) -> Scheme:
    name = f"pal{bits}{'-grouped' if grouped else ''}"
    return Scheme(name, "palette", bits, _FLOAT_COREML, {"litert": nearest}, "18.0" if grouped else MINIMUM_IOS)


SCHEMES: Mapping[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        # LiteRT quantises what comes into an operation at every call and multiplies integers.
        Scheme("int8", "linear", 8, {"litert": "int8", "coreml": "fp32"}, {}),
        # Only stored as integers: LiteRT widens them when the file is loaded, as Core ML always does.
        Scheme("int8-weights", "linear", 8, {"litert": "fp32", "coreml": "fp32"}, {}),
        Scheme("int4", "linear", 4, {"litert": "int8", "coreml": "fp32"}, {}, ios="18.0"),
        _palette(8, "int8-weights"),
        _palette(6, "int8-weights"),
        _palette(4, "int4"),
        _palette(4, "int4", grouped=True),
        _palette(2, "int4"),
    )
}

PRECISION_NAMES: tuple[str, ...] = (*FLOATS, *SCHEMES)
EIGHT_BITS = tuple(name for name, found in SCHEMES.items() if found.bits >= 6)
FEWER_BITS = tuple(name for name in SCHEMES if name not in EIGHT_BITS)


@dataclass(frozen=True)
class Plan:
    """How the weights of each part of a net are stored.

    Attributes:
        default: a precision of `SCHEMES`, for what `modules` does not name.
        modules: dotted module -> a precision of the same kind, or "fp32"; the innermost module that is named counts.
    """

    default: str
    modules: Mapping[str, str] = field(default_factory=dict)

    def of(self, module: str) -> str:
        """The precision of the weights of a module."""
        path = module
        while path:
            if path in self.modules:
                return self.modules[path]
            path = path.rpartition(".")[0]
        return self.modules.get("", self.default)

    @property
    def used(self) -> tuple[str, ...]:
        """Every precision of `SCHEMES` that occurs."""
        return tuple(dict.fromkeys(p for p in (self.default, *self.modules.values()) if p in SCHEMES))


def scheme(precision: str) -> Scheme | None:
    """The scheme of a precision, or of the smallest one of a mixed precision; None for fp32 and fp16."""
    return SCHEMES.get(precision.removeprefix(MIXED))


def refusal(artefact_format: Format, precision: str) -> str | None:
    """Why a format cannot store a precision, with the nearest that it can; None where it can."""
    found = scheme(precision)
    if found is None or artefact_format in found.compute or artefact_format == "coreai":
        return None
    title = {"litert": "LiteRT", "coreml": "Core ML"}[artefact_format]
    why = "has no palettes" if found.kind == "palette" else "computes in floats, whatever its weights are stored as"
    return f"{title} {why}, so it has no {precision}; the nearest is {found.nearest[artefact_format]}"


def refuse_impossible(formats: Sequence[Format], precisions: Sequence[str]) -> None:
    """Raise UsageError where no format that is wanted can store any precision that is wanted."""
    reasons = [refusal(f, p) for f in formats if f != "coreai" for p in precisions]  # it has fp32 alone
    if reasons and all(reasons):
        raise UsageError("; ".join(dict.fromkeys(r for r in reasons if r)))


def require(artefact_format: Format, precision: str) -> Scheme:
    """The scheme of a precision in a format.

    Raises:
        ConversionError: the format cannot store it.
    """
    reason = refusal(artefact_format, precision)
    if reason is not None:
        raise ConversionError(reason)
    return SCHEMES[precision.removeprefix(MIXED)]


def plan_of(model: ModelEntry, precision: str, modules: Mapping[str, str] | None = None) -> Plan:
    """The plan of a precision for a net: what no compression touches is in it as "fp32".

    Args:
        model: the net's entry.
        precision: one of `SCHEMES`, or "mixed-" and one.
        modules: of a mixed precision, what is stored otherwise; it goes before what the entry keeps.
    """
    kept = dict.fromkeys(kept_modules(model), "fp32")
    return Plan(precision.removeprefix(MIXED), {**kept, **(modules or {})})


def first_ios(plan: Plan) -> str:
    """The first iOS that reads everything a plan asks for."""
    return max(SCHEMES[name].ios for name in plan.used)  # two digits before the point in all of them


def kept_modules(model: ModelEntry) -> tuple[str, ...]:
    """Submodules whose weights every compression leaves in float32: transforms, and what the entry names."""
    return model.fp32_modules if model.uncompressed is None else model.uncompressed


def precision_entry(artefact_format: Format, precision: str, model: ModelEntry) -> Precision:
    """What a manifest says of a compressed artefact: "mixed" where submodules stay in float32."""
    name = precision.removeprefix(MIXED)
    mixed = MIXED if kept_modules(model) or name != precision else ""
    return Precision(weights=f"{mixed}{name}", compute=SCHEMES[name].compute[artefact_format])
