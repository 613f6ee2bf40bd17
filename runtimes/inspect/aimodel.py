"""What is inside an .aimodel, without running it: I/O, operations, types of constants, metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.common.errors import ArtefactError, first_line
from runtimes.coreai.asset import ASSET_VERSION, open_asset
from runtimes.coreai.deps import require_coreai
from runtimes.inspect.coreml_features import TensorInfo
from runtimes.native_output import quiet

_TYPE = re.compile(r"NDArray \((\w+), ([\d ×]+)\)")  # what Apple's summary says of a tensor
_KNOWN = ("assetVersion", "producer", "author", "license", "description", "creatorDefinedMetadata")


@dataclass(frozen=True)
class AimodelReport:
    """An .aimodel at a glance; the format is in beta, and so is this.

    Attributes:
        path: the folder.
        asset_version: of the format.
        producer: the package that wrote it.
        minimum_os: oldest of Apple's systems that loads it, "27.0".
        functions: entry points; the rest is about the first.
        inputs, outputs: tensors by name, states among them.
        operations: (type, count), most frequent first; constants not counted.
        storage: (element type, elements) of the constants.
        program_bytes: of main.mlirb; main.hash holds its sha256, compared.
        author, licence, description: metadata.
        user_defined: further metadata, sorted by key.
    """

    path: Path
    asset_version: str
    producer: str
    minimum_os: str
    functions: tuple[str, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operations: tuple[tuple[str, int], ...]
    storage: tuple[tuple[str, int], ...]
    program_bytes: int
    author: str
    licence: str
    description: str
    user_defined: tuple[tuple[str, str], ...]


def describe(path: Path) -> AimodelReport:
    """Read an .aimodel.

    Raises:
        ArtefactError: damaged, of another version, or no such packages exist for this machine.
        MissingDependencyError: coreai-core is not installed.
    """
    asset = open_asset(path)
    authoring = require_coreai("coreai.authoring", "inspecting an .aimodel")
    try:
        with quiet():
            summary: Any = authoring.AIModelAsset.load(asset.path).summary()
            function = summary.function_names[0]
            inputs, outputs = summary.function_inputs(function), summary.function_outputs(function)
            counts = [(str(name), int(count)) for name, count in summary.operation_distribution if name != "constant"]
    except Exception as exc:  # the library documents no exception types
        raise ArtefactError(f"{path}: cannot be read by Core AI: {first_line(exc)}; export it again") from exc
    metadata = asset.metadata
    own = metadata.get("creatorDefinedMetadata", {})
    further = [(f"hearpack.{k}", v) for k, v in own.get("hearpack", {}).items()] if isinstance(own, dict) else []
    further += [(k, v) for k, v in metadata.items() if k not in _KNOWN]
    return AimodelReport(
        path=path,
        asset_version=ASSET_VERSION,
        producer=asset.producer,
        minimum_os=str(summary._compatibility_version or "unknown"),
        functions=tuple(summary.function_names),
        inputs=_tensors(inputs),
        outputs=_tensors(outputs),
        operations=tuple(sorted(counts, key=lambda pair: (-pair[1], pair[0]))),
        storage=tuple((str(name), int(count)) for name, count in summary.storage_types),
        program_bytes=asset.program_bytes,
        author=str(metadata.get("author", "")),
        licence=str(metadata.get("license", "")),
        description=str(metadata.get("description", "")),
        user_defined=tuple(sorted((k, v if isinstance(v, str) else json.dumps(v)) for k, v in further)),
    )


def _tensors(ports: Iterable[tuple[str, str]]) -> tuple[TensorInfo, ...]:
    found = []
    for name, text in ports:
        match = _TYPE.fullmatch(text)
        shape = tuple(int(n) for n in match[2].split("×")) if match else ()
        found.append(TensorInfo(name, shape, match[1].lower() if match else text))
    return tuple(found)
