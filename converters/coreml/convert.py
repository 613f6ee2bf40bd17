"""torch -> .mlpackage: an ML Program with our tensor names, float32 I/O and fixed shapes.

The graph is traced, not torch.export-ed: only TorchScript carries the dotted module path of every
operation into the program, and that is how fp16 keeps the submodules in `fp32_modules` in float32
(weights and arithmetic). What comes out is examined before a byte of it is written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from converters.checks import example_inputs, refuse_mutation
from converters.compress.coreml import compress
from converters.compress.recipe import MINIMUM_IOS, Plan, first_ios
from converters.coreml.package import write_package
from converters.coreml.precision import flat, inside, module_of, quiet_coremltools, stays_fp32
from converters.spec import facts_of
from models.common.errors import ConversionError, UsageError, first_line
from models.common.files import atomic_folder
from models.geometry import GraphSignature, StreamGeometry

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL_FLOW = {"while_loop", "cond"}


@dataclass(frozen=True)
class CoreMLMetadata:
    """What a package says about itself; Xcode shows it. No time, host or user: same inputs, same bytes.

    Attributes:
        description: one line on what the model does.
        author: who made the net.
        licence: licence of the weights.
        version: version of the weights.
        geometry: rates, hops and delay.
        labels: of a classifier, index = position; () for an enhancer.
    """

    description: str
    author: str
    licence: str
    version: str
    geometry: StreamGeometry
    labels: tuple[str, ...] = ()


def convert(
    graph: torch.nn.Module,
    signature: GraphSignature,
    precision: Literal["fp32", "fp16"],
    fp32_modules: tuple[str, ...],
    destination: Path,
    metadata: CoreMLMetadata,
    plan: Plan | None = None,
    lowered: MutableMapping[str, Any] | None = None,
) -> None:
    """Convert a graph module to a .mlpackage, whole or not at all.

    Args:
        graph: takes the signature's inputs and states, returns its outputs and new states; in eval mode.
        signature: names and fixed shapes; inputs and outputs of the package are float32.
        precision: "fp32", or "fp16": half weights and arithmetic but for `fp32_modules`.
        fp32_modules: dotted names of submodules of `graph` that stay in float32.
        destination: the package to make, NAME.mlpackage; replaced if it exists.
        metadata: what the package says about itself.
        plan: how the weights of a float32 program are stored; None: as they are.
        lowered: float32 programs of this very graph by their iOS, kept from call to call.

    Raises:
        ConversionError: the graph cannot be expressed, mutates a buffer, or the program is not what was asked for.
        MissingDependencyError: coremltools is not installed.
        OutputError: `destination` cannot be written.
    """
    if destination.suffix != ".mlpackage":
        raise UsageError(f"{destination}: expected a name ending in .mlpackage")
    if graph.training:
        raise ConversionError(f"{type(graph).__name__} is in training mode; call .eval() before converting")
    _check_names(signature)
    _check_modules(graph, fp32_modules)
    _check_labels(metadata, signature)
    refuse_mutation(graph, signature)
    ios = MINIMUM_IOS if plan is None else first_ios(plan)
    kept: MutableMapping[str, Any] = {} if lowered is None or precision != "fp32" else lowered
    with quiet_coremltools() as ct:
        if ios not in kept:
            kept[ios] = _to_program(ct, graph, signature, precision, fp32_modules, ios)
            _check_program(kept[ios]._mil_program, signature, fp32_modules)
        model = kept[ios]
        if plan is not None:
            model = compress(model, plan)
            _check_io(model._mil_program.functions["main"], signature)
        _describe(model, signature, metadata, ios)
        spec = model.get_spec()
        weights = Path(model.weights_dir) if model.weights_dir else None
    with atomic_folder(destination) as package:
        write_package(spec, weights, package)


# --- steps of convert, in order ---------------------------------------------------------------------------


def _check_names(signature: GraphSignature) -> None:
    names = signature.input_names + signature.output_names
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ConversionError(f"Core ML refuses equal names among inputs and outputs: {', '.join(twice)}; rename one")
    bad = [name for name in names if not _NAME.fullmatch(name)]
    if bad:
        raise ConversionError(
            f"tensor names must be letters, digits and _, not starting with a digit: {', '.join(bad)}"
        )


def _check_modules(graph: torch.nn.Module, fp32_modules: tuple[str, ...]) -> None:
    known = [name for name, _ in graph.named_modules() if name]
    unknown = [name for name in fp32_modules if name not in known]
    if unknown:
        raise ConversionError(
            f"fp32_modules: {type(graph).__name__} has no submodule {', '.join(unknown)}; "
            f"it has: {', '.join(known) or 'none'}"
        )


def _check_labels(metadata: CoreMLMetadata, signature: GraphSignature) -> None:
    if not metadata.labels:
        return
    classes = signature.outputs[0].shape[-1]
    if len(metadata.labels) != classes:
        raise ConversionError(f"{signature.outputs[0].name} has {classes} classes, got {len(metadata.labels)} labels")
    if any("\n" in label or "\r" in label for label in metadata.labels):
        raise ConversionError("a label must be one line: labels are stored one per line")


def _to_program(
    ct: Any,
    graph: torch.nn.Module,
    signature: GraphSignature,
    precision: Literal["fp32", "fp16"],
    fp32_modules: tuple[str, ...],
    ios: str,
) -> Any:
    import torch

    try:
        with torch.no_grad():
            trace: Any = torch.jit.trace  # untyped in torch
            traced = trace(graph, example_inputs(signature), check_trace=False, strict=False)
    except Exception as exc:  # forward may raise anything
        raise ConversionError(f"{type(graph).__name__} cannot be traced: {first_line(exc)}") from exc
    compute = ct.precision.FLOAT32
    if precision == "fp16":
        compute = ct.transform.FP16ComputePrecision(op_selector=lambda op: not stays_fp32(op, fp32_modules))
    try:
        return ct.convert(
            traced,
            inputs=[
                ct.TensorType(name=name, shape=shape, dtype=np.float32)
                for name, shape in zip(signature.input_names, signature.input_shapes, strict=True)
            ],
            outputs=[ct.TensorType(name=name, dtype=np.float32) for name in signature.output_names],
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, f"iOS{ios.partition('.')[0]}"),
            compute_precision=compute,
            skip_model_load=True,
        )
    except Exception as exc:  # coremltools raises every built-in kind, asserts included
        raise ConversionError(_explain(exc, traced)) from exc


def _explain(exc: Exception, traced: Any) -> str:
    """One line that names the operation and, where it can be found, the place in the net."""
    text = first_line(exc)
    unsupported = re.search(r"for op '([^']+)' not implemented", str(exc))
    if unsupported is None:
        if "different from its corresponding var's name" in str(exc):
            return (
                f"an input is returned unchanged as an output, which Core ML cannot name; compute or clamp it ({text})"
            )
        return f"coremltools cannot convert this net: {text}"
    op = unsupported.group(1)
    where = ""
    for node in traced.inlined_graph.nodes():
        if node.kind().rpartition("::")[2].rstrip("_") == op.rstrip("_"):
            module = node.scopeName().replace("__module.", "").rpartition("/")[2]
            line = re.search(r"([^/\\\s]+\.py)\((\d+)\)", node.sourceRange())
            where = f" in {module or 'the graph'}" + (f" ({line.group(1)}, line {line.group(2)})" if line else "")
            break
    return (
        f"Core ML has no operation for torch's {op!r}{where}; write it with others (matmul, conv, slices, elementwise)"
    )


def _check_program(program: Any, signature: GraphSignature, fp32_modules: tuple[str, ...]) -> None:
    """Compare the converted program with what was asked for.

    Raises:
        ConversionError: a loop, integer arithmetic, a lost name, an aliased output, an unread input,
            or a half value inside a module that was to stay in float32.
    """
    from coremltools.converters.mil.mil import types

    main = program.functions["main"]
    for op in main.operations:
        where = f"{op.op_type} {op.name!r} from {module_of(op) or 'the graph'}"
        if op.op_type in _CONTROL_FLOW:
            raise ConversionError(
                f"the program has a {where}: nn.GRU, nn.LSTM and loops become one; write the cell out for one step "
                f"(Linear, slices, sigmoid, tanh) and pass its state in and out"
            )
        integer = [v for v in op.outputs if op.op_type != "const" and types.is_int(v.dtype)]
        if integer:
            raise ConversionError(
                f"the program computes integers at run time ({where}); use fixed shapes and constant indices"
            )
        if op.op_type not in ("const", "cast") and inside(op, fp32_modules):
            half = [v.name for v in (*op.outputs, *flat(op.inputs)) if getattr(v, "dtype", None) == types.fp16]
            if half:
                raise ConversionError(f"{where} was to stay in float32 but reads or writes half: {', '.join(half)}")
    _check_io(main, signature)


def _check_io(main: Any, signature: GraphSignature) -> None:
    from coremltools.converters.mil.mil import types

    came = tuple(v.name for v in main.outputs)
    if came != signature.output_names:
        raise ConversionError(
            f"expected outputs {', '.join(signature.output_names)}, the program has {', '.join(came)}; "
            f"two outputs are the same tensor, or the graph returns another number of them"
        )
    if tuple(main.inputs) != signature.input_names:
        raise ConversionError(
            f"expected inputs {', '.join(signature.input_names)}, the program has {', '.join(main.inputs)}"
        )
    shapes = [t.shape for t in signature.outputs] + [s.shape for s in signature.states]
    for var, shape in zip(main.outputs, shapes, strict=True):
        if var.dtype != types.fp32 or tuple(var.shape) != shape:
            raise ConversionError(
                f"output {var.name}: expected float32 {shape}, got {types.builtin_to_string(var.dtype)} {var.shape}"
            )
        if var.op is None or (var.op.op_type == "identity" and var.op.x.op is None):
            raise ConversionError(f"output {var.name} is an input handed through unchanged; compute it, or clamp it")
        if var.op.op_type == "const":
            raise ConversionError(f"output {var.name} is a constant: it does not depend on any input")
    read = {
        v.name for op in main.operations if not op.name.endswith("_tmp") for v in flat(op.inputs) if hasattr(v, "name")
    }
    unread = [name for name in signature.input_names if name not in read]
    if unread:
        raise ConversionError(f"nothing reads {', '.join(unread)}; take it out of the signature")


def _describe(model: Any, signature: GraphSignature, metadata: CoreMLMetadata, ios: str) -> None:
    model.short_description = metadata.description
    model.author = metadata.author
    model.license = metadata.licence
    model.version = metadata.version
    for tensor in signature.inputs:
        model.input_description[tensor.name] = f"{tensor.meaning}; {tensor.range[0]:g} to {tensor.range[1]:g}"
    for tensor in signature.outputs:
        model.output_description[tensor.name] = f"{tensor.meaning}; {tensor.range[0]:g} to {tensor.range[1]:g}"
    for state in signature.states:
        model.input_description[state.name] = (
            f"state: {state.out_name} of the call before; {state.reset} at the start of a stream"
        )
        model.output_description[state.out_name] = f"state: goes into the next call as {state.name}"
    facts = {
        **facts_of(metadata.geometry, signature),
        "minimum_ios": ios,
    }
    for key, value in facts.items():
        model.user_defined_metadata[f"hearpack.{key}"] = str(value)
    if metadata.labels:
        model.user_defined_metadata["hearpack.labels"] = "\n".join(metadata.labels)  # one per line, index = line
