"""A Core ML program with its weights stored in fewer bits, by coremltools' own passes, constant by constant.

The program computes in float32 as before: Core ML widens weights when it loads them. States, inputs and outputs stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.compress.palette import palette
from converters.compress.recipe import SCHEMES, Plan, Scheme, require
from converters.coreml.precision import module_of
from models.common.errors import ConversionError, first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Smaller weights stay: they weigh nothing, and their scales or palettes cost as much as is saved.
LEAST_ELEMENTS = 256
# A palette of 2**bits float32 values is to cost less than a quarter of what is saved.
_LEAST_PER_ENTRY = 8
_READERS = ("linear", "conv", "matmul", "conv_transpose")
GROUP_CHANNELS = 16
BLOCK = 32


def compress(model: Any, plan: Plan) -> Any:
    """Store the weights of a converted model as a plan says.

    Args:
        model: coremltools' model, as its converter returned it: only there do operations know their torch module.
        plan: what is stored how.

    Returns:
        a new model of coremltools.

    Raises:
        ConversionError: nothing can be compressed, Core ML cannot store it so, or coremltools fails.
    """
    for precision in plan.used:
        require("coreml", precision)
    chosen = _choose(model._mil_program.functions["main"], plan)
    if not chosen:
        raise ConversionError(
            f"no weights of at least {LEAST_ELEMENTS} elements can be compressed; ship the fp32 one, it is no larger"
        )
    linear = {name: scheme for name, scheme in chosen.items() if scheme.kind == "linear"}
    palettes = {name: scheme for name, scheme in chosen.items() if scheme.kind == "palette"}
    try:
        import coremltools.optimize.coreml as cto

        if palettes:
            model = cto.palettize_weights(model, _config(cto, palettes))
        if linear:
            model = cto.linear_quantize_weights(model, _config(cto, linear))
    except Exception as exc:  # coremltools raises every built-in kind
        raise ConversionError(f"coremltools cannot compress this program: {first_line(exc)}") from exc
    return model


def _choose(main: Any, plan: Plan) -> dict[str, Scheme]:
    """The scheme of each constant that is compressed, by the constant's name."""
    chosen: dict[str, Scheme] = {}
    for op in main.operations:
        value = op.outputs[0].val if op.op_type == "const" else None
        if (
            not isinstance(value, np.ndarray)
            or value.dtype.kind != "f"
            or value.ndim < 2
            or not np.isfinite(value).all()
        ):
            continue
        if value.size < LEAST_ELEMENTS:
            continue
        users = op.outputs[0].child_ops
        if any(user.op_type not in _READERS for user in users):
            continue
        wanted = {plan.of(module_of(user)) for user in users}
        if len(wanted) != 1:
            continue
        scheme = SCHEMES.get(wanted.pop())
        if scheme is not None:
            stored = fitting(scheme, value)
            if stored is not None:
                chosen[op.outputs[0].name] = stored
    return chosen


def fitting(scheme: Scheme, value: NDArray[Any]) -> Scheme | None:
    """The scheme, or what comes nearest for a tensor of this shape; None where it stays in float32."""
    if scheme.kind == "palette":
        bits = scheme.bits
        groups = value.shape[0] // GROUP_CHANNELS if scheme.name.endswith("-grouped") else 1
        if groups > 1 and value.shape[0] % GROUP_CHANNELS:
            return fitting(SCHEMES[f"pal{bits}"], value)
        # A palette that costs as much as the weights is none; scales for each channel cost less.
        return scheme if value.size >= _LEAST_PER_ENTRY * groups * 2**bits else SCHEMES["int8"]
    if scheme.bits == 4 and (value.ndim < 2 or value.shape[1] % BLOCK):
        return SCHEMES["int8"]
    return scheme


def _config(cto: Any, chosen: Mapping[str, Scheme]) -> Any:
    """coremltools' configuration: what is named, and nothing else."""
    config = cto.OptimizationConfig(global_config=None)
    made: dict[str, Any] = {}
    for name, scheme in chosen.items():
        if scheme.name not in made:
            made[scheme.name] = _linear(cto, scheme) if scheme.kind == "linear" else _palette(cto, scheme)
        config.set_op_name(name, made[scheme.name])
    return config


def _linear(cto: Any, scheme: Scheme) -> Any:
    block = (
        {"granularity": "per_block", "block_size": BLOCK, "dtype": "int4"} if scheme.bits == 4 else {"dtype": "int8"}
    )
    return cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=LEAST_ELEMENTS - 1, **block)


def _palette(cto: Any, scheme: Scheme) -> Any:
    grouped = scheme.name.endswith("-grouped")
    group = {"granularity": "per_grouped_channel", "group_size": GROUP_CHANNELS} if grouped else {}
    return cto.OpPalettizerConfig(
        mode="custom",
        lut_function=lambda values: palette(values, scheme.bits),
        weight_threshold=LEAST_ELEMENTS - 1,
        **group,
    )
