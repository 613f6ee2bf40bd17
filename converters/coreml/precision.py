"""Which operations of a Core ML program stay in float32.

`fp32_modules` names torch submodules; TorchScript leaves the dotted path of its module on every
operation, and coremltools carries it through its passes as the operation's scope.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from models.common.errors import MissingDependencyError
from runtimes.native_output import quiet

# Operations that only put values in another place.
_MOVES = {
    "concat",
    "expand_dims",
    "identity",
    "reshape",
    "slice_by_index",
    "slice_by_size",
    "split",
    "squeeze",
    "stack",
    "transpose",
}


@contextlib.contextmanager
def quiet_coremltools() -> Iterator[Any]:
    """coremltools with its log lines, version warnings and progress bars kept off the terminal.

    Yields:
        the coremltools module, imported inside.

    Raises:
        MissingDependencyError: coremltools is not installed.
    """
    with quiet():
        try:
            import coremltools
            from tqdm import std
        except ImportError as exc:
            raise MissingDependencyError("coremltools", "export", "writing or reading a .mlpackage") from exc
        original = std.tqdm.__init__
        std.tqdm.__init__ = functools.partialmethod(original, disable=True)
        try:
            yield coremltools
        finally:
            std.tqdm.__init__ = original


def module_of(op: Any) -> str:
    """Dotted torch module an operation came from; "" for the graph's own forward."""
    from coremltools.converters.mil.mil.scope import ScopeSource

    scope = op.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME) or []
    return ".".join(scope[:-1])  # the last part is the operation's own name


def inside(op: Any, fp32_modules: tuple[str, ...]) -> bool:
    module = module_of(op)
    return any(module == name or module.startswith(f"{name}.") for name in fp32_modules)


def stays_fp32(op: Any, fp32_modules: tuple[str, ...]) -> bool:
    """Whether an operation stays in float32: those of the modules, and what only moves their values to or from I/O.

    Without the second part a state would be rounded on its way through the graph's own slices and concatenations.
    """
    if op.op_type == "const":  # follows those who read it; a half reader casts it for itself
        return any(stays_fp32(child, fp32_modules) for child in op.outputs[0].child_ops)
    if inside(op, fp32_modules):
        return True
    return op.op_type in _MOVES and (_feeds(op, fp32_modules) or (_is_fed(op, fp32_modules) and _reaches_output(op)))


def _feeds(op: Any, fp32_modules: tuple[str, ...]) -> bool:
    children = [child for var in op.outputs for child in var.child_ops]
    return any(inside(c, fp32_modules) or (c.op_type in _MOVES and _feeds(c, fp32_modules)) for c in children)


def _is_fed(op: Any, fp32_modules: tuple[str, ...]) -> bool:
    parents = [v.op for v in flat(op.inputs) if getattr(v, "op", None) is not None]
    return any(inside(p, fp32_modules) or (p.op_type in _MOVES and _is_fed(p, fp32_modules)) for p in parents)


def _reaches_output(op: Any) -> bool:
    outputs = set(op.enclosing_block.outputs)
    children = [child for var in op.outputs for child in var.child_ops if child.op_type in _MOVES]
    return any(var in outputs for var in op.outputs) or any(_reaches_output(child) for child in children)


def flat(inputs: Mapping[str, Any]) -> list[Any]:
    values: list[Any] = []
    for value in inputs.values():
        values.extend(value if isinstance(value, (list, tuple)) else [value])
    return values
