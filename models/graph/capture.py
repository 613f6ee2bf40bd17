"""A net as torch.export sees it at fixed shapes: a graph of ATen operations, each with its line in the user's code.

Python runs while it is captured: questions about shapes, asserts, loops, einops, assignments to slices and in-place
operations leave only what they compute. Composite operations (convolutions, recurrences, attention, stft) stay whole.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Tracer
from torch.fx.proxy import TracerBase

from models.common.errors import ConversionError
from models.graph.builder import Origin, name_of
from models.graph.scripted import unscripted

_LOUD = (
    "torch._subclasses.fake_tensor",
    "torch.fx.experimental.symbolic_shapes",
    "torch.export",
    "torch._dynamo",
    "torch._export",
)
_MODELS = Path(__file__).parents[1]  # our own frames in a traceback


@dataclass(frozen=True)
class Captured:
    """A net's graph.

    Attributes:
        graph: placeholders are parameters, buffers, constants and inputs; operations are functional.
        constants: name of a placeholder -> its tensor.
        inputs: names of the placeholders that are the net's inputs, in order.
        outputs: what forward returned, flat: nodes, or numbers.
        many: whether forward returned a tuple, a list or a dict.
    """

    graph: fx.Graph
    constants: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[Any, ...]
    many: bool


def capture(module: nn.Module, inputs: Sequence[Tensor], who: str) -> Captured:
    """Export a module.

    Args:
        module: in eval mode; takes `inputs`.
        inputs: examples; their shapes are fixed.
        who: whose net it is, for messages.

    Raises:
        ConversionError: forward cannot be followed, with the line in the user's code.
    """
    try:
        said = io.StringIO()  # torch prints the whole graph where it fails
        with _quiet(), torch.no_grad(), unscripted(module, inputs, who), contextlib.redirect_stderr(said):
            program = torch.export.export(module, tuple(inputs), strict=False)
            program = program.run_decompositions({})
        sys.stderr.write(said.getvalue())
    except ConversionError:
        raise
    except Exception as exc:  # a user's forward may raise anything
        raise ConversionError(_reason(exc, who)) from exc
    signature = program.graph_signature
    changed = sorted(signature.buffers_to_mutate.values())
    if changed:
        raise ConversionError(
            f"forward changes {', '.join(map(repr, changed))}: a converted model would lose the change without a word; "
            "take the tensor as an input and return its new value as an output"
        )
    constants: dict[str, Tensor] = {}
    names: list[str] = []
    for spec in signature.input_specs:
        name = spec.arg.name
        if spec.target is None or spec.kind.name == "USER_INPUT":
            names.append(name)
        else:
            value = program.state_dict.get(spec.target)
            constants[name] = program.constants[spec.target] if value is None else value
    outputs = [spec.arg for spec in signature.output_specs if spec.kind.name == "USER_OUTPUT"]
    by_name = {node.name: node for node in program.graph.nodes}
    values = tuple(by_name.get(getattr(arg, "name", ""), getattr(arg, "value", None)) for arg in outputs)
    return Captured(program.graph, constants, tuple(names), values, program.call_spec.out_spec.type is not None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Warnings of torch's own kept off, operations that torch fuses for inference written out, helpers' lines known."""
    before = torch.backends.mha.get_fastpath_enabled()
    frames, call_module = TracerBase._filter_traceback_frames, Tracer.call_module
    logs = {name: logging.getLogger(name).level for name in _LOUD}
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    torch.backends.mha.set_fastpath_enabled(False)
    TracerBase._filter_traceback_frames = _users_frames  # type: ignore[assignment,method-assign]  # torch's own keeps forward's
    Tracer.call_module = _call_module(call_module)  # type: ignore[method-assign]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in logs.items():
            logging.getLogger(name).setLevel(level)
        torch.backends.mha.set_fastpath_enabled(before)
        TracerBase._filter_traceback_frames = frames  # type: ignore[method-assign]
        Tracer.call_module = call_module  # type: ignore[method-assign]


def _call_module(before: Callable[..., Any]) -> Callable[..., Any]:
    """torch's own, which loses count of modules where a layer's call raises and the user's forward goes on."""

    def call(tracer: Tracer, *args: Any) -> Any:
        stack = tracer.module_stack.copy()
        try:
            return before(tracer, *args)
        except Exception:
            tracer.module_stack = stack
            raise

    return call


def _users_frames(tracer: TracerBase, summary: traceback.StackSummary) -> traceback.StackSummary:
    """The user's lines of a stack, from the first forward on."""
    del tracer
    first = next((index for index, frame in enumerate(summary) if frame.name == "forward"), len(summary))
    return traceback.StackSummary.from_list([f for f in summary[first:] if _is_users(Path(f.filename))])


def origin_of(node: fx.Node) -> Origin:
    """Where an operation of a captured graph stands."""
    stack = [
        (_path(path), str(kind).rpartition(".")[2].removeprefix("Parametrized"), str(kind))
        for path, kind in (node.meta.get("nn_module_stack") or {}).values()
    ]
    path, kind, full = stack[-1] if stack else ("", "", "")
    lines = re.findall(r'File "([^"]+)", line (\d+)', str(node.meta.get("stack_trace") or ""))
    own = [f"{Path(file).name}, line {line}" for file, line in lines if _is_users(Path(file))]
    return Origin(
        path,
        kind if full.startswith("torch.nn.") else "",
        name_of(node),
        own[-1] if own else "",
        tuple((at, called) for at, called, _ in stack),
    )


def _path(path: str) -> str:
    """The user's own path: our wrappers hold the net as `net`."""
    return "" if path == "net" else path.removeprefix("net.")


def _is_users(file: Path) -> bool:
    return "torch" not in file.parts and _MODELS not in file.parents and not file.name.startswith("<")


def line_of(trace: TracebackType | None) -> str:
    """The last line of the user's own in a traceback, " (net.py, line 12)", or nothing."""
    place = ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if _is_users(file):
            place = f" ({file.name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _reason(exc: Exception, who: str) -> str:
    place = line_of(exc.__traceback__)
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()] or [repr(exc)]
    text = str(exc)
    if "data-dependent" in text or "GuardOnDataDependent" in type(exc).__name__ or "Dynamic control flow" in text:
        return (
            f"{who}: forward cannot be followed{place}: it branches on values that depend on the input; "
            "use torch.where, which computes both sides"
        )
    if "numpy" in text.lower() or "FakeTensor" in text or "fake tensor" in text.lower():
        return f"{who}: forward cannot be followed{place}: it computes with numpy on its input ({lines[0][:160]})"
    return f"{who}: forward cannot be followed{place}: {lines[0][:200]}"
