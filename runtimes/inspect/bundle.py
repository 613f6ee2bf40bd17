"""What a bundle holds, in one report."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import BundleError
from models.geometry import StateSpec, StreamGeometry, TensorSpec
from runtimes.bundle import SIGNATURE, Artefact, Bundle, Decisions, inside


@dataclass(frozen=True)
class ArtefactSummary:
    """One line of the artefact table.

    Attributes:
        bytes: what an app grows by on the device.
        download_bytes: what its download grows by, as a shop packs files (deflate).
        weights, compute: how weights are stored, and what computes with them.
        intact: whether every file has its hash.
    """

    id: str
    path: str
    bytes: int
    download_bytes: int | None
    weights: str
    compute: str
    intact: bool


@dataclass(frozen=True)
class BundleReport:
    """A bundle as `hearpack inspect` shows it; every duration also in ms.

    Attributes:
        damaged: a sentence on each file that is no artefact's and is missing or was changed; artefacts have `intact`.
        unlisted: what lies there and no list of the manifest names: nothing reads or copies it.
        signed: whether a signature lies there; `verify --public-key` checks it.
    """

    path: str
    name: str
    task: str
    schema: str
    created_by: str
    geometry: StreamGeometry
    buffer_samples: int
    buffer_ms: float
    delay_ms: float
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    labels: int
    decisions: Decisions | None
    artefacts: tuple[ArtefactSummary, ...]
    files: int
    damaged: tuple[str, ...]
    unlisted: tuple[str, ...]
    signed: bool
    weights: tuple[str, ...]


def download_bytes(bundle: Bundle, artefact: Artefact) -> int:
    """Size of an artefact's files, each deflated: floats hardly shrink, few distinct values and names do."""
    return sum(len(zlib.compress(inside(bundle.path, entry.path).read_bytes(), 6)) for entry in artefact.files)


def describe_bundle(bundle: Bundle | str | Path) -> BundleReport:
    """Say what is inside, hashes checked.

    Raises:
        BundleError: missing or invalid; a damaged file is reported, not raised.
    """
    bundle = Bundle.of(bundle)
    manifest, geometry = bundle.manifest, bundle.manifest.stream_geometry
    summaries = []
    for artefact in manifest.artefacts:
        try:
            bundle.check_files([artefact])
            intact = True
        except BundleError:
            intact = False
        precision = artefact.precision
        summaries.append(
            ArtefactSummary(
                artefact.id,
                artefact.path,
                artefact.size_bytes,
                download_bytes(bundle, artefact) if intact else None,
                precision.weights,
                precision.compute,
                intact,
            )
        )
    signature = manifest.signature
    return BundleReport(
        path=str(bundle.path),
        name=manifest.name,
        task=manifest.task,
        schema=manifest.schema_id,
        created_by=f"hearpack {manifest.created_by.hearpack}",
        geometry=geometry,
        buffer_samples=manifest.buffer.samples,
        buffer_ms=geometry.ms(manifest.buffer.samples),
        delay_ms=geometry.ms(geometry.delay_samples),
        inputs=signature.inputs,
        outputs=signature.outputs,
        states=signature.states,
        labels=manifest.outputs[0].shape[-1] if manifest.output_kind == "scores" else 0,
        decisions=manifest.decisions,
        artefacts=tuple(summaries),
        files=len(manifest.files),
        damaged=tuple(bundle.damaged()),
        unlisted=bundle.strangers(manifest.paths),
        signed=(bundle.path / SIGNATURE).is_file(),
        weights=tuple(f"{w.source} {w.version} ({w.licence}), sha256 {w.sha256}" for w in manifest.weights),
    )
