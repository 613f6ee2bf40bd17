"""manifest.json as frozen models (docs/bundle.md and docs/manifest.schema.json say what the names do not)."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from models.common.errors import BundleError
from models.common.hashing import sha256_bytes
from models.geometry import OUTPUT_KINDS, GraphSignature, OutputKind, StateSpec, StreamGeometry, Task, TensorSpec
from runtimes.bundle.paths import LARGEST_FILE, check_name, check_path
from runtimes.stages import Edited, Stage, check_stages

SCHEMA = "hearpack/1"
MANIFEST = "manifest.json"
SIGNATURE = f"{MANIFEST}.minisig"
# Written after the export, on some machine; under no hash, and no app reads it.
PARITY = "parity"
Format = Literal["litert", "coreml", "coreai"]
PACKAGES = {"coreml": ".mlpackage", "coreai": ".aimodel"}  # formats whose artefact is a folder
Name = Annotated[str, AfterValidator(check_name)]
FilePath = Annotated[str, AfterValidator(check_path)]

# What no phone's model comes near to, so that a figure that is wrong is refused here and not met as a full memory.
MOST_SAMPLES = 2**24  # of a window, a hop, a delay: 87 s at the highest rate
MOST_ELEMENTS = 2**26  # of a tensor: 256 MB of floats
MOST_CHANNELS = 64
MOST_OVERLAP = 256  # windows that share a sample
LONGEST_MS = 3_600_000.0


def _check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"expected at most {MOST_ELEMENTS} elements, got {math.prod(shape)}")
    return shape


Axis = Annotated[int, Field(ge=1, le=MOST_ELEMENTS)]
Shape = Annotated[tuple[Axis, ...], Field(min_length=1, max_length=8), AfterValidator(_check_shape)]


def is_exempt(path: str) -> bool:
    """Whether a path of a bundle stands under no hash: the manifest itself, its signature, and parity/."""
    top = path.split("/")[0].casefold()
    return top in (MANIFEST, SIGNATURE, PARITY)


class _Frozen(BaseModel):
    """Unknown fields are ignored, as a reader of the same major schema must."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class CreatedBy(_Frozen):
    """Who wrote the bundle; no time, host or user, so that same inputs give same bytes."""

    hearpack: str
    toolchain: dict[str, str]


class SourceFile(_Frozen):
    path: FilePath
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ConstantFile(_Frozen):
    """A tensor that went into the graph."""

    name: Name
    shape: Shape
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Original(_Frozen):
    """The net that the artefacts are compared with: said, never run, by whoever reads it.

    Only a custom net (models/custom/entry.py) has `source_sha256`, and `sources` where it is Python: the files that
    were loaded, so that `verify --original` can compare them before it executes any. `insensitive`: its output hardly
    depends on its input, so that parity proves nothing. `constants`: what its forward is given besides, a speaker say.
    """

    factory: str
    weights_sha256: str
    source_sha256: str | None = None
    sources: tuple[SourceFile, ...] | None = None
    insensitive: bool | None = None
    constants: tuple[ConstantFile, ...] | None = None


class Geometry(_Frozen):
    sample_rate_hz: int = Field(ge=4_000, le=192_000)
    channels: int = Field(ge=1, le=MOST_CHANNELS)
    window_samples: int = Field(ge=1, le=MOST_SAMPLES)
    hop_samples: int = Field(ge=1, le=MOST_SAMPLES)
    delay_samples: int = Field(ge=0, le=MOST_SAMPLES)


class Buffer(_Frozen):
    """What one call of the graph takes in `audio`."""

    kind: Literal["step", "window"]
    hops_per_call: int = Field(ge=1, le=MOST_SAMPLES)
    samples: int = Field(ge=1, le=MOST_SAMPLES)


class Tensor(_Frozen):
    name: Name
    shape: Shape
    dtype: str
    range: tuple[float, float]
    meaning: str


class StateTensor(_Frozen):
    """`in` goes into a call, `out` is what comes out and goes into the next one."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)

    in_name: Name = Field(alias="in")
    out_name: Name = Field(alias="out")
    shape: Shape
    dtype: str
    # The contract leaves room for a file; nothing writes one, and not every port would start from it.
    reset: Literal["zeros"]


class LabelDecisions(Edited):
    """What one label overrides."""

    on_threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    off_threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    min_on_ms: float | None = Field(default=None, ge=0.0, le=LONGEST_MS)
    min_off_ms: float | None = Field(default=None, ge=0.0, le=LONGEST_MS)


class Decisions(Edited):
    """How scores become events; editable, and outside every hash (streaming/core/decisions.py has the arithmetic)."""

    window_hop_samples: int = Field(ge=1, le=MOST_SAMPLES)
    smoothing_windows: int = Field(default=1, ge=1, le=10_000)
    on_threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    off_threshold: float = Field(default=0.3, ge=0.0, le=1.0)
    min_on_ms: float = Field(default=0.0, ge=0.0, le=LONGEST_MS)
    min_off_ms: float = Field(default=0.0, ge=0.0, le=LONGEST_MS)
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


class FileEntry(SourceFile):
    bytes: int = Field(ge=0, le=LARGEST_FILE)


class MinimumOS(_Frozen):
    android_api: int | None = None
    ios: str | None = None


class Tolerance(_Frozen):
    metric: str
    limit: float


class Artefact(_Frozen):
    """One exported file or package."""

    id: Name
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
        """The .tflite file, or the .mlpackage or .aimodel directory, relative to the bundle."""
        first = self.files[0].path
        if self.format not in PACKAGES:
            return first
        suffix = PACKAGES[self.format]
        parts = first.split("/")
        package = next((i for i, part in enumerate(parts) if part.endswith(suffix)), None)
        if package is None:
            raise BundleError(f"artefact {self.id}: expected files inside a {suffix}, got {first}")
        return "/".join(parts[: package + 1])

    @property
    def size_bytes(self) -> int:
        return sum(f.bytes for f in self.files)

    @property
    def digest(self) -> str:
        """What names its content, 64 hex digits: the file's sha256; of a package, that of the list of its files."""
        if len(self.files) == 1:
            return self.files[0].sha256
        return sha256_bytes("".join(f"{f.sha256}  {f.path}\n" for f in self.files).encode())


class WeightsOrigin(_Frozen):
    source: str
    version: str
    sha256: str
    licence: str
    citation: str


class Playout(Edited):
    prefill_samples: int = Field(ge=0, le=MOST_SAMPLES)


class Manifest(_Frozen):
    """manifest.json, as docs/bundle.md and docs/manifest.schema.json give it."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)

    schema_id: str = Field(alias="schema")
    name: Name
    task: Task
    created_by: CreatedBy
    original: Original
    geometry: Geometry
    buffer: Buffer
    inputs: tuple[Tensor, ...] = Field(min_length=1, max_length=16)
    outputs: tuple[Tensor, ...] = Field(min_length=1, max_length=64)
    states: tuple[StateTensor, ...] = Field(max_length=4096)
    decisions: Decisions | None = None
    dsp: tuple[Stage, ...] | None = None
    playout: Playout | None = None
    artefacts: tuple[Artefact, ...] = Field(min_length=1, max_length=64)
    files: tuple[FileEntry, ...] = Field(max_length=4096)
    weights: tuple[WeightsOrigin, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _has_files(cls, data: Any) -> Any:
        if isinstance(data, dict) and "files" not in data:
            raise ValueError(
                "no `files`, the list with a hash of every file: it was made by a hearpack that had none; "
                "export the bundle again"
            )
        return data

    @model_validator(mode="after")
    def _listed_once(self) -> Manifest:
        listed, every = [entry.path for entry in self.files], list(self.paths)
        if listed != sorted(listed):
            raise ValueError("files: expected sorted by path")
        # A phone's or a Mac's file system may take "A" and "a" for the same file.
        twice = [path for path, count in Counter(path.casefold() for path in every).items() if count > 1]
        if twice:
            raise ValueError(f"{twice[0]!r:.80} is listed twice")
        for path in every:
            if is_exempt(path):
                raise ValueError(f"files: {path!r:.80} stands under no hash; leave it out")
        return self

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
        for further in self.inputs[1:]:
            if further.shape != (1, self.buffer.samples):
                raise ValueError(f"{further.name}: expected [1, {self.buffer.samples}], got {list(further.shape)}")
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
        if self.buffer.kind == "window" and self.hop_samples * MOST_OVERLAP < self.geometry.window_samples:
            raise ValueError(
                f"a hop of {self.hop_samples} samples makes more than {MOST_OVERLAP} windows of "
                f"{self.geometry.window_samples} samples share one; expected at least "
                f"{-(-self.geometry.window_samples // MOST_OVERLAP)}"
            )
        check_stages(self.dsp or (), self.task, self.buffer.kind, self.geometry.sample_rate_hz)
        if self.dsp and self.lanes > 1:
            raise ValueError("dsp: stages work on one channel; this model takes more")
        decisions = self.decisions
        if self.buffer.kind == "step" and decisions is not None and decisions.window_hop_samples != self.buffer.samples:
            raise ValueError(
                f"decisions.window_hop_samples is {decisions.window_hop_samples}; a step net gives scores every "
                f"{self.buffer.samples} samples, once per call, and nothing else can be chosen"
            )
        ids = [a.id for a in self.artefacts]
        if len(set(ids)) != len(ids):
            raise ValueError(f"artefact ids are not unique: {', '.join(ids)}")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that the manifest has a hash of."""
        artefacts = (entry.path for artefact in self.artefacts for entry in artefact.files)
        return (*(entry.path for entry in self.files), *artefacts)

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
    def extra_outputs(self) -> tuple[Tensor, ...]:
        """Outputs beside the task's own, which is the first; a separator has none."""
        return () if self.sources else self.outputs[1:]

    @property
    def far(self) -> tuple[Tensor, ...]:
        """Audio inputs beside `audio`, one channel each, heard at the same time: a loudspeaker's sound."""
        return self.inputs[1:]

    @property
    def lanes(self) -> int:
        """Channels of the whole stream: those of `audio`, then one of each further input."""
        return self.geometry.channels + len(self.inputs) - 1

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
