"""What to export: a net, its weights, a buffer, formats and precisions. Light: no torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, get_args

from converters.compress.recipe import FLOATS, PRECISION_NAMES
from converters.sources import sources_digest
from models.common.errors import UsageError
from models.common.version import __version__
from models.entry import ModelEntry
from models.geometry import GraphSignature, StreamGeometry
from runtimes.bundle import SCHEMA, Format

Named = TypeVar("Named", bound=str)
FORMATS: tuple[Format, ...] = get_args(Format)
USUAL_FORMATS: tuple[Format, ...] = ("litert", "coreml")  # coreai is experimental, and made where it is asked for
# What an export makes where nothing is said, and everything it can.
USUAL_PRECISIONS: tuple[str, ...] = FLOATS
PRECISIONS: tuple[str, ...] = PRECISION_NAMES

# What decides the bytes of an export, beside our own sources; the second of an .aimodel alone.
TOOLCHAIN = ("ai-edge-litert", "ai-edge-quantizer", "coremltools", "litert-converter", "litert-torch", "numpy", "torch")
COREAI_TOOLCHAIN = ("coreai-core", "coreai-torch")


@dataclass(frozen=True)
class ExportSpec:
    """One bundle to be made.

    Attributes:
        model: the catalogue entry.
        hops_per_call: hops one call takes; 1 for a windowed net.
        formats: "litert", "coreml", "coreai".
        precisions: of `PRECISIONS`.
        weights_file: the user's own checkpoint, or None for the pretrained weights.
        mixed: per format, one more artefact: "mixed-" and its smallest precision, and module -> the precision of its
            weights for each that is not stored like the rest.
    """

    model: ModelEntry
    hops_per_call: int = 1
    formats: tuple[Format, ...] = USUAL_FORMATS
    precisions: tuple[str, ...] = USUAL_PRECISIONS
    weights_file: Path | None = None
    mixed: Mapping[Format, tuple[str, Mapping[str, str]]] = field(default_factory=dict)

    @property
    def folder_name(self) -> str:
        return f"{self.model.name}-{self.model.buffer_samples(self.hops_per_call)}.hearpack"

    def artefacts(self) -> tuple[tuple[Format, str], ...]:
        """Every format at every precision, in the order of the manifest."""
        return tuple((f, p) for f in self.formats for p in self.precisions_of(f))

    def precisions_of(self, artefact_format: Format) -> tuple[str, ...]:
        """The precisions that a format is made in; Core AI's halves cannot be verified (docs/core-ai.md)."""
        own = (self.mixed[artefact_format][0],) if artefact_format in self.mixed else ()
        return (*(p for p in self.precisions if artefact_format != "coreai" or p == "fp32"), *own)

    def modules_of(self, artefact_format: Format, precision: str) -> Mapping[str, str]:
        """What an artefact stores otherwise than its precision says, module -> precision: nothing unless mixed."""
        name, modules = self.mixed.get(artefact_format, ("", {}))
        return modules if precision == name else {}


def facts_of(geometry: StreamGeometry, signature: GraphSignature) -> dict[str, str | int]:
    """What every file of Apple's formats says of itself under hearpack's name; no time, host or user."""
    return {
        "schema": SCHEMA,
        "created_by": f"hearpack {__version__}",
        "sample_rate_hz": geometry.sample_rate_hz,
        "channels": geometry.channels,
        "window_samples": geometry.window_samples,
        "hop_samples": geometry.hop_samples,
        "delay_samples": geometry.delay_samples,
        "buffer_samples": signature.inputs[0].shape[-1],
    }


def parse_choices(text: str, valid: Sequence[Named], what: str) -> tuple[Named, ...]:
    """A comma-separated choice, in the order of `valid`.

    Raises:
        UsageError: empty or unknown.
    """
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in valid]
    if unknown or not wanted:
        came = ", ".join(unknown) if unknown else "nothing"
        raise UsageError(f"{what}: expected one or more of {', '.join(valid)}, separated by commas; got {came}")
    return tuple(v for v in valid if v in wanted)


def check_formats(formats: Sequence[Format], precisions: Sequence[str]) -> None:
    """Refuse a choice of which a format would be left without an artefact.

    Raises:
        UsageError: coreai without fp32.
    """
    if "coreai" in formats and "fp32" not in precisions:
        raise UsageError(
            f"--format coreai: expected fp32 among the precisions, got {', '.join(precisions)}; Core AI is exported in "
            f"float32 alone, because its interpreter adds halves in halves and cannot judge them (docs/core-ai.md)"
        )


def hops_from_arguments(model: ModelEntry, hops: str | None, buffer_ms: float | None) -> tuple[int, ...]:
    """Hops per call from --hops ("1,4") or --buffer-ms (8); the smallest buffer where neither is given.

    Raises:
        UsageError: both given, not a number, or no valid buffer (the nearest two are named).
    """
    if hops is not None and buffer_ms is not None:
        raise UsageError("give --hops or --buffer-ms, not both")
    if buffer_ms is not None:
        exact = buffer_ms * model.geometry.sample_rate_hz / 1000.0
        if not exact > 0.0 or exact > 1e9:
            raise UsageError(f"--buffer-ms: expected a duration above 0, got {buffer_ms:g}")
        samples = round(exact)
        if abs(exact - samples) > 1e-6:
            raise UsageError(
                f"--buffer-ms {buffer_ms:g} is {exact:.3f} samples at {model.geometry.sample_rate_hz} Hz, "
                f"not a whole number; "
                f"one hop is {model.geometry.ms(model.geometry.hop_samples):g} ms"
            )
        return (model.hops_for(samples),)
    if hops is None:
        return (1,)
    try:
        counts = tuple(dict.fromkeys(int(part) for part in hops.split(",")))
    except ValueError as exc:
        raise UsageError(f"--hops: expected whole numbers separated by commas, such as 1,4; got {hops!r}") from exc
    for count in counts:
        model.signature(count)
    return counts


def toolchain_versions(formats: Sequence[str] = ()) -> dict[str, str]:
    """Versions of the packages that make files of these formats; packages that are absent are left out."""
    versions = {}
    for package in (*TOOLCHAIN, *(COREAI_TOOLCHAIN if "coreai" in formats else ())):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def export_key(spec: ExportSpec, weights_sha256: str) -> str:
    """Name of this export in the cache: the same key means the same bytes. Never imports torch."""
    parts = {
        "bundle": spec.folder_name,
        "model": repr(spec.model),
        "formats": spec.formats,
        "precisions": spec.precisions,
        "mixed": [[f, name, sorted(modules.items())] for f, (name, modules) in sorted(spec.mixed.items())],
        "weights": weights_sha256,
        "own_weights": spec.weights_file is not None,
        "toolchain": toolchain_versions(spec.formats),
        "python": platform.python_version_tuple()[:2],
        "machine": [platform.system(), platform.machine()],
        "sources": sources_digest(spec.model.package),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
