"""What is inside an .mlpackage, without running it: I/O, operations, weights, known weak points on a phone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.inspect.coreml_features import TensorInfo, class_labels, tensor
from runtimes.mil.blob import STORED, stored_bytes
from runtimes.mil.graph import Function, Literal, Operation, ValueType, read_function
from runtimes.mil.package import MINIMUM_IOS, Package, open_package

WAVEFORM_AXIS = 16_384
STATE_MULTIPLE = 32
HIGH_RANK = 5
_INTEGER = ("int", "uint")
# They compare, move, or name a class; none computes with integers.
_NOT_COMPUTING = {"classify", "cast", "shape", "gather", "concat", "reshape", "slice_by_index", "select", "const"}


@dataclass(frozen=True)
class WeightInfo:
    """Stored constants of one kind.

    Attributes:
        dtype: element type as stored.
        compression: the constexpr operation that expands them, or "none".
        tensors: how many.
        bytes: what they take in the package.
    """

    dtype: str
    compression: str
    tensors: int
    bytes: int


@dataclass(frozen=True)
class Lint:
    """Something known to fall off the Neural Engine, or to be slow or fragile there.

    Attributes:
        rule: short name.
        message: what was found, where.
        source: why it matters, and who found out.
    """

    rule: str
    message: str
    source: str


@dataclass(frozen=True)
class MlPackageReport:
    """An .mlpackage at a glance.

    Attributes:
        path: the package.
        function: the entry point that the report is about.
        functions: all entry points.
        specification_version: of Core ML's file format.
        minimum_ios: oldest iOS that loads this version.
        opset: of the program, "CoreML7" and the like.
        inputs, outputs, states: tensors by name.
        labels: a classifier's classes, in order.
        operations: (type, count), most frequent first; constants not counted.
        weights: stored constants by type and compression.
        weight_bytes: their sum.
        author, licence, version, description: metadata.
        user_defined: further metadata, sorted by key.
        lints: findings.
    """

    path: Path
    function: str
    functions: tuple[str, ...]
    specification_version: int
    minimum_ios: str
    opset: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    states: tuple[TensorInfo, ...]
    labels: tuple[str | int, ...]
    operations: tuple[tuple[str, int], ...]
    weights: tuple[WeightInfo, ...]
    weight_bytes: int
    author: str
    licence: str
    version: str
    description: str
    user_defined: tuple[tuple[str, str], ...]
    lints: tuple[Lint, ...]


Tensors = tuple[TensorInfo, ...]


def _literals(operation: Operation) -> list[Literal]:
    found = [b for bindings in operation.inputs.values() for b in bindings if isinstance(b, Literal)]
    return [*found, operation.value] if operation.value is not None else found


def _bytes(literal: Literal) -> int:
    shape = literal.type.static_shape
    if shape is None or literal.type.dtype not in STORED:
        return 0
    count = 1
    for n in shape:
        count *= n
    return stored_bytes(literal.type.dtype, count)


def _weights(function: Function) -> tuple[WeightInfo, ...]:
    """Constants in the weights file; a constant that a constexpr expands counts as compressed by it."""
    expanded_by = {
        name: operation.type
        for operation in function.walk()
        if operation.type.startswith("constexpr_")
        for bindings in operation.inputs.values()
        for name in bindings
        if isinstance(name, str)
    }
    tensors: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for operation in function.walk():
        for literal in _literals(operation):
            if not literal.stored_in_blob:
                continue
            is_constexpr = operation.type.startswith("constexpr_")
            compression = operation.type if is_constexpr else expanded_by.get(operation.name, "none")
            key = (literal.type.dtype, compression.removeprefix("constexpr_"))
            tensors[key] += 1
            sizes[key] += _bytes(literal)
    return tuple(WeightInfo(dtype, how, tensors[dtype, how], sizes[dtype, how]) for dtype, how in sorted(tensors))


def _lint_axes(function: Function) -> list[Lint]:
    wide: dict[str, int] = {}
    for operation in function.walk():
        if operation.type == "const":
            continue
        for output in operation.outputs:
            longest = max((n or 0 for n in output.type.shape), default=0)
            if longest > WAVEFORM_AXIS:
                wide[output.name] = longest
    if not wide:
        return []
    first = next(iter(wide))
    message = f"{len(wide)} values have an axis above {WAVEFORM_AXIS:,}; the first is {first!r} with {wide[first]:,}"
    return [
        Lint("waveform-axis", message, "rejected by the Neural Engine of an iPhone 13; others cite a limit of 65,536")
    ]


def _lint_operations(function: Function) -> list[Lint]:
    lints: list[Lint] = []
    loops = [o.name for o in function.walk() if o.type in ("while_loop", "cond")]
    if loops:
        lints.append(
            Lint(
                "control-flow",
                f"{len(loops)} loops or branches; the first gives {loops[0]!r}",
                "assumed to split the program between processors, not measured here; coremltools makes a while_loop "
                "even of a one-step nn.GRU, so write a recurrent cell out",
            )
        )
    layers = [o for o in function.walk() if o.type in ("lstm", "gru", "rnn")]
    if layers:
        lints.append(
            Lint(
                "recurrent-layer",
                f"{len(layers)} recurrent layers; the first is {layers[0].type} ({layers[0].name!r})",
                "not supported on the Neural Engine, says Apple: coremltools issue 1780; write the cell out",
            )
        )
    integers = [
        o
        for o in function.walk()
        if o.type not in _NOT_COMPUTING
        and not o.type.startswith("constexpr_")
        and any(out.type.kind == "tensor" and out.type.dtype.startswith(_INTEGER) for out in o.outputs)
    ]
    if integers:
        lints.append(
            Lint(
                "integer-operations",
                f"{len(integers)} operations compute integers; the first is {integers[0].type} ({integers[0].name!r})",
                "the Neural Engine is said to compute halves only: coremltools issue 1761",
            )
        )
    ranks = [
        (o.name, len(out.type.shape)) for o in function.walk() for out in o.outputs if len(out.type.shape) >= HIGH_RANK
    ]
    if ranks:
        lints.append(
            Lint(
                "high-rank",
                f"{len(ranks)} values of rank {HIGH_RANK} or more; the first is {ranks[0][0]!r} of rank {ranks[0][1]}",
                "Core ML ends at rank 5, the Neural Engine at 4 by one M4 Max report (alvaro-videla.com/ane-book)",
            )
        )
    return lints


def _lint_io(inputs: Tensors, outputs: Tensors, states: Tensors) -> list[Lint]:
    lints: list[Lint] = []
    # Sizes from a list are what coremltools recommends for the Neural Engine.
    listed = {t.name for t in inputs if t.shapes or (t.image is not None and t.image.sizes)}
    flexible = [t.name for t in inputs if any(n is None for n in t.shape) and t.name not in listed]
    if flexible:
        lints.append(
            Lint(
                "flexible-shape",
                f"inputs of flexible shape: {', '.join(flexible)}",
                "assumed to keep work off the Neural Engine, not measured here",
            )
        )
    odd = [t for t in states if t.shape and (t.shape[-1] or 0) % STATE_MULTIPLE]
    if odd:
        message = f"state {odd[0].name!r} is {odd[0].shape[-1]} wide, not a multiple of {STATE_MULTIPLE}"
        lints.append(Lint("state-width", message, "the Neural Engine wants multiples of 32: coremltools issue 2631"))
    same = sorted({t.name for t in inputs} & {t.name for t in outputs})
    if same:
        lints.append(Lint("same-name", f"{same[0]!r} goes in and comes out", "Core ML refuses equal names"))
    return lints


def _metadata(package: Package) -> dict[str, Any]:
    meta = package.spec.description.metadata
    return {
        "author": meta.author,
        "licence": meta.license,
        "version": meta.versionString,
        "description": meta.shortDescription,
        "user_defined": tuple(sorted((str(k), str(v)) for k, v in meta.userDefined.items())),
    }


def describe(path: Path | str, function: str | None = None) -> MlPackageReport:
    """Describe an .mlpackage.

    Args:
        path: the package directory.
        function: entry point; None takes the package's default.

    Returns:
        the report; nothing was run and no weights were read.

    Raises:
        ArtefactError: not an ML Program package, or a broken one.
        MissingDependencyError: coremltools is not installed.
    """
    package = open_package(path)
    entry = read_function(package, function)
    types = {o.name: o.type for operation in entry.block.operations for o in operation.outputs}
    types |= {i.name: i.type for i in entry.block.inputs}
    whole = package.spec.description
    described = next((f for f in whole.functions if f.name == entry.name), whole)
    features = {str(f.name): f for f in (*described.output, *described.input)}
    inputs = tuple(tensor(i.name, i.type, features.get(i.name)) for i in entry.block.inputs if i.type.kind != "state")
    states = tuple(tensor(i.name, i.type) for i in entry.block.inputs if i.type.kind == "state")
    outputs = tuple(
        tensor(name, types.get(name, ValueType("unknown")), features.get(name))
        for name in dict.fromkeys(entry.block.outputs)
    )
    counts = Counter(o.type for o in entry.walk() if o.type != "const")
    weights = _weights(entry)
    return MlPackageReport(
        path=Path(path),
        function=entry.name,
        functions=tuple(sorted(package.spec.mlProgram.functions)),
        specification_version=package.spec.specificationVersion,
        minimum_ios=MINIMUM_IOS.get(package.spec.specificationVersion, "unknown"),
        opset=entry.opset,
        inputs=inputs,
        outputs=outputs,
        states=states,
        labels=class_labels(entry),
        operations=tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        weights=weights,
        weight_bytes=sum(w.bytes for w in weights),
        lints=(*_lint_axes(entry), *_lint_operations(entry), *_lint_io(inputs, outputs, states)),
        **_metadata(package),
    )
