"""A bundle on disk: the frozen manifest models and the checks on opening one (docs/bundle.md).

One bundle is one model, one weights file and one buffer; formats and precisions are its artefacts.
Everything an app needs to know is in manifest.json: nobody guesses a tensor by index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.common.documents import DocumentKind
from models.common.errors import BundleError, UsageError
from models.common.hashing import sha256_file
from models.geometry import OUTPUT_KINDS, GraphSignature, OutputKind, StateSpec, StreamGeometry, Task, TensorSpec
from runtimes.stages import Stage, check_stages

SCHEMA = "hearpack/1"
MANIFEST = "manifest.json"
Format = Literal["litert", "coreml"]


class _Frozen(BaseModel):
    """Unknown fields are ignored, as a reader of the same major schema must."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CreatedBy(_Frozen):
    """Who wrote the bundle; no time, host or user, so that same inputs give same bytes."""

    hearpack: str
    toolchain: dict[str, str]


class Original(_Frozen):
    """The net that the artefacts are compared with; `source_sha256` only of a custom net (models/custom/entry.py)."""

    factory: str
    weights_sha256: str
    source_sha256: str | None = None


class Geometry(_Frozen):
    sample_rate_hz: int = Field(ge=1)
    channels: int = Field(ge=1)
    window_samples: int = Field(ge=1)
    hop_samples: int = Field(ge=1)
    delay_samples: int = Field(ge=0)


class Buffer(_Frozen):
    """What one call of the graph takes in `audio`."""

    kind: Literal["step", "window"]
    hops_per_call: int = Field(ge=1)
    samples: int = Field(ge=1)


class Tensor(_Frozen):
    name: str
    shape: tuple[int, ...]
    dtype: str
    range: tuple[float, float]
    meaning: str


class StateTensor(_Frozen):
    """`in` goes into a call, `out` is what comes out and goes into the next one."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    in_name: str = Field(alias="in")
    out_name: str = Field(alias="out")
    shape: tuple[int, ...]
    dtype: str
    reset: str


class LabelDecisions(_Frozen):
    """What one label overrides."""

    on_threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    off_threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    min_on_ms: float | None = Field(default=None, ge=0.0)
    min_off_ms: float | None = Field(default=None, ge=0.0)


class Decisions(_Frozen):
    """How scores become events; editable, and outside every hash (streaming/core/decisions.py has the arithmetic)."""

    window_hop_samples: int = Field(ge=1)
    smoothing_windows: int = Field(default=1, ge=1)
    on_threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    off_threshold: float = Field(default=0.3, ge=0.0, le=1.0)
    min_on_ms: float = Field(default=0.0, ge=0.0)
    min_off_ms: float = Field(default=0.0, ge=0.0)
    per_label: dict[str, LabelDecisions] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _hysteresis(self) -> Decisions:
        for name, label in {"": LabelDecisions(), **self.per_label}.items():
            on = self.on_threshold if label.on_threshold is None else label.on_threshold
            off = self.off_threshold if label.off_threshold is None else label.off_threshold
            if off > on:
                where = f"per_label[{name!r}]" if name else "decisions"
                raise ValueError(f"{where}: off_threshold {off:g} is above on_threshold {on:g}")
        return self


class Precision(_Frozen):
    weights: str
    compute: str


class FileEntry(_Frozen):
    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if path.startswith("/") or "\\" in path or ".." in path.split("/") or not path:
            raise ValueError(f"path {path!r} does not stay inside the bundle")
        return path


class MinimumOS(_Frozen):
    android_api: int | None = None
    ios: str | None = None


class Tolerance(_Frozen):
    metric: str
    limit: float


class Artefact(_Frozen):
    """One exported file or package."""

    id: str
    format: Format
    precision: Precision
    files: tuple[FileEntry, ...] = Field(min_length=1)
    minimum_os: MinimumOS
    allowed_compute: tuple[Literal["cpu", "gpu", "npu"], ...] = Field(min_length=1)
    io: dict[str, str] = Field(default_factory=dict)
    state_mode: Literal["explicit", "mlstate"] = "explicit"
    tolerance: tuple[Tolerance, ...]

    @property
    def path(self) -> str:
        """The .tflite file, or the .mlpackage directory, relative to the bundle."""
        first = self.files[0].path
        if self.format == "litert":
            return first
        parts = first.split("/")
        package = next((i for i, part in enumerate(parts) if part.endswith(".mlpackage")), None)
        if package is None:
            raise BundleError(f"artefact {self.id}: expected files inside a .mlpackage, got {first}")
        return "/".join(parts[: package + 1])

    @property
    def size_bytes(self) -> int:
        return sum(f.bytes for f in self.files)


class WeightsOrigin(_Frozen):
    source: str
    version: str
    sha256: str
    licence: str
    citation: str


class Playout(_Frozen):
    prefill_samples: int = Field(ge=0)


class Manifest(_Frozen):
    """manifest.json, as docs/bundle.md and docs/manifest.schema.json give it."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_id: str = Field(alias="schema")
    name: str
    task: Task
    created_by: CreatedBy
    original: Original
    geometry: Geometry
    buffer: Buffer
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    states: tuple[StateTensor, ...]
    decisions: Decisions | None = None
    dsp: tuple[Stage, ...] | None = None
    playout: Playout | None = None
    artefacts: tuple[Artefact, ...] = Field(min_length=1)
    weights: tuple[WeightsOrigin, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if self.output_kind == "scores" and self.decisions is None:
            raise ValueError("a classifier must have `decisions`")
        if self.output_kind == "embedding":
            shape = self.outputs[0].shape
            if self.buffer.kind != "window" or self.decisions is not None or len(shape) != 2 or shape[0] != 1:
                raise ValueError("an embedder takes windows, gives one `embedding` [1, d] and has no `decisions`")
        if self.inputs[0].name != "audio":
            raise ValueError(f"the first input must be `audio`, got {self.inputs[0].name!r}")
        if self.inputs[0].shape[-1] != self.buffer.samples:
            raise ValueError(
                f"audio takes {self.inputs[0].shape[-1]} samples, buffer.samples says {self.buffer.samples}"
            )
        expected = (
            self.geometry.window_samples
            if self.buffer.kind == "window"
            else self.buffer.hops_per_call * self.geometry.hop_samples
        )
        if self.buffer.samples != expected:
            raise ValueError(f"buffer.samples is {self.buffer.samples}, geometry and hops_per_call give {expected}")
        check_stages(self.dsp or (), self.task, self.buffer.kind, self.geometry.sample_rate_hz)
        decisions = self.decisions
        if self.buffer.kind == "step" and decisions is not None and decisions.window_hop_samples != self.buffer.samples:
            raise ValueError(
                f"decisions.window_hop_samples is {decisions.window_hop_samples}; a step net gives scores every "
                f"{self.buffer.samples} samples, once a call, and nothing else can be chosen"
            )
        ids = [a.id for a in self.artefacts]
        if len(set(ids)) != len(ids):
            raise ValueError(f"artefact ids are not unique: {', '.join(ids)}")
        return self

    @property
    def output_kind(self) -> OutputKind:
        """What comes out; derived from the task, not in the file."""
        return OUTPUT_KINDS[self.task]

    @property
    def gives_audio(self) -> bool:
        """Whether samples come out, of one source or several, rather than a vector a call."""
        return self.output_kind in ("audio", "sources")

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of a separator's outputs; empty for other nets."""
        return tuple(t.name for t in self.outputs) if self.output_kind == "sources" else ()

    @property
    def hop_samples(self) -> int:
        """Samples a stream moves from one call to the next."""
        if self.buffer.kind == "step":
            return self.buffer.samples
        return self.geometry.hop_samples if self.decisions is None else self.decisions.window_hop_samples

    @property
    def stream_geometry(self) -> StreamGeometry:
        return StreamGeometry(**self.geometry.model_dump())

    @property
    def signature(self) -> GraphSignature:
        """Names and shapes of one call, for the runtimes."""

        def spec(t: Tensor) -> TensorSpec:
            return TensorSpec(t.name, t.shape, t.range, t.meaning, t.dtype)

        states = tuple(StateSpec(s.in_name, s.shape, s.dtype, s.reset) for s in self.states)
        return GraphSignature(tuple(map(spec, self.inputs)), tuple(map(spec, self.outputs)), states)

    @property
    def folder_name(self) -> str:
        return f"{self.name}-{self.buffer.samples}.hearpack"

    def dump(self) -> str:
        """The text of manifest.json: sorted keys, two-space indent, newline at the end."""
        data = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


_MANIFEST = DocumentKind(
    SCHEMA,
    "manifest",
    not_json="not JSON (line {line}: {message}); export the bundle again",
    unreadable="cannot be read as UTF-8 text: {error}",
    newer="schema {schema} is not one this hearpack reads ({expected!r}); update hearpack or export again",
    invalid="invalid against {expected}: {where}: {message}{more}",
    minor_versions=True,
    error=BundleError,
)


def parse_manifest(text: str, origin: str) -> Manifest:
    """Read and validate the text of a manifest.

    Raises:
        BundleError: not JSON, of a newer schema, or invalid against the schema.
    """
    return _MANIFEST.parse(text, origin, Manifest.model_validate)


_NETS: Mapping[OutputKind, str] = {
    "scores": "a classifier",
    "audio": "an enhancer",
    "sources": "a separator",
    "embedding": "an embedder",
}


def require_output(manifest: Manifest, what: str, *kinds: OutputKind) -> None:
    """Raise UsageError where `what`, which takes nets with outputs of `kinds`, is given another."""
    kind = manifest.output_kind
    if kind in kinds:
        return
    inside, hint = "", f"it takes {' or '.join(_NETS[k] for k in kinds)}"
    if kind == "sources":
        inside = f" ({manifest.geometry.channels} channels in, {len(manifest.outputs)} outputs)"
        hint = "hearpack run and hearpack verify do"
    raise UsageError(f"{what}: {manifest.name} is {_NETS[kind]}{inside}, which {what} does not take; {hint}")


class Bundle:
    """An opened bundle: its folder and its validated manifest."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open a bundle's folder (or the path of its manifest.json).

        Raises:
            BundleError: no such folder, no manifest, or an invalid one.
        """
        folder = Path(path)
        if folder.name == MANIFEST:
            folder = folder.parent
        if not folder.exists():
            raise BundleError(f"{folder}: no such bundle; make one with: hearpack export NAME")
        file = folder / MANIFEST
        if not folder.is_dir() or not file.is_file():
            raise BundleError(
                f"{folder}: expected a bundle (a folder with {MANIFEST}), found none; "
                f"make one with: hearpack export NAME"
            )
        return cls(folder, _MANIFEST.read(file, Manifest.model_validate))

    @classmethod
    def of(cls, bundle: Bundle | str | Path) -> Bundle:
        """`bundle` itself where it is open already, else `Bundle.open` of its folder."""
        return bundle if isinstance(bundle, Bundle) else cls.open(bundle)

    def artefact(self, artefact_id: str) -> Artefact:
        """The artefact called `artefact_id`; BundleError naming those there are."""
        for artefact in self.manifest.artefacts:
            if artefact.id == artefact_id:
                return artefact
        raise BundleError(
            f"{self.path}: no artefact {artefact_id!r}; it has: {', '.join(a.id for a in self.manifest.artefacts)}"
        )

    def artefact_path(self, artefact: Artefact) -> Path:
        return self.path / artefact.path

    def labels(self) -> tuple[str, ...]:
        """One label a line of labels.txt; empty for all but classifiers.

        Raises:
            BundleError: labels.txt is missing or has another count than the scores.
        """
        if self.manifest.output_kind != "scores":
            return ()
        file = self.path / "labels.txt"
        try:
            labels = tuple(file.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as exc:
            raise BundleError(f"{file}: labels cannot be read: {exc}; export the bundle again") from exc
        count = self.manifest.outputs[0].shape[-1]
        if len(labels) != count:
            raise BundleError(f"{file}: expected {count} labels, one a line, got {len(labels)}")
        return labels

    def check_files(self, artefacts: Sequence[Artefact] | None = None) -> None:
        """Compare every file of the artefacts with its size and sha256.

        Raises:
            BundleError: a file is missing or is not the one that was exported.
        """
        for artefact in self.manifest.artefacts if artefacts is None else artefacts:
            for entry in artefact.files:
                file = self.path / entry.path
                if not file.is_file():
                    raise BundleError(f"{file}: missing; artefact {artefact.id} is incomplete, export the bundle again")
                size = file.stat().st_size
                digest = sha256_file(file) if size == entry.bytes else ""
                if digest != entry.sha256:
                    came = f"sha256 {digest[:12]}…" if digest else f"{size} bytes"
                    raise BundleError(
                        f"{file}: does not match the manifest (expected {entry.bytes} bytes, "
                        f"sha256 {entry.sha256[:12]}…, got {came}); "
                        f"artefact {artefact.id} was changed or damaged, export the bundle again"
                    )
