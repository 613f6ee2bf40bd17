"""A bundle on disk: the manifest's frozen models, the gate for its paths, and the checks on opening one.

One bundle is one model, one weights file and one buffer; formats and precisions are its artefacts.
Everything an app needs to know is in manifest.json: nobody guesses a tensor by index.
"""

from runtimes.bundle.manifest import (
    MANIFEST,
    PACKAGES,
    PARITY,
    SCHEMA,
    SIGNATURE,
    Artefact,
    Buffer,
    ConstantFile,
    CreatedBy,
    Decisions,
    FileEntry,
    Format,
    Geometry,
    LabelDecisions,
    Manifest,
    MinimumOS,
    Original,
    Playout,
    Precision,
    SourceFile,
    StateTensor,
    Tensor,
    Tolerance,
    WeightsOrigin,
)
from runtimes.bundle.paths import inside, read_inside
from runtimes.bundle.reader import Bundle, parse_manifest, require_mono, require_output

__all__ = [
    "MANIFEST",
    "PACKAGES",
    "PARITY",
    "SCHEMA",
    "SIGNATURE",
    "Artefact",
    "Buffer",
    "Bundle",
    "ConstantFile",
    "CreatedBy",
    "Decisions",
    "FileEntry",
    "Format",
    "Geometry",
    "LabelDecisions",
    "Manifest",
    "MinimumOS",
    "Original",
    "Playout",
    "Precision",
    "SourceFile",
    "StateTensor",
    "Tensor",
    "Tolerance",
    "WeightsOrigin",
    "inside",
    "parse_manifest",
    "read_inside",
    "require_mono",
    "require_output",
]
