"""A captured net written anew in operations that both converters take, each lowering exact.

Two passes. `SHAPE_FREE` comes first: what holds for any length (transforms as convolutions, complex values as pairs of
real ones, weights folded), so that a net captured at two lengths is the same graph twice. `FIXED` comes last: what
depends on how many frames there are (recurrences written out, attention, frames cut and added).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, fx, nn

from models.common.errors import ConversionError, first_line
from models.graph import assignments, frames, operations, recurrences  # noqa: F401 they enter their lowerings
from models.graph.builder import Builder, Origin, Value, constant_of, flat, target_name, unfrozen
from models.graph.capture import Captured, capture, origin_of
from models.graph.notes import note
from models.graph.pairs import COMPLEX, Pair, complex_constant
from models.graph.table import FIXED, SHAPE_FREE, Table

# Operations that say something about a tensor, or keep it as it is.
_NOTHING = {"dim", "size", "_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size", "_assert_async"}
_SAME = {"clone", "alias", "detach", "dropout", "contiguous", "lift_fresh_copy", "feature_dropout", "alpha_dropout"}
_RANDOM = {"rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm", "bernoulli", "normal"} | {
    "multinomial", "poisson", "uniform", "exponential", "native_dropout", "rrelu_with_noise"
}  # fmt: skip


def lower(
    captured: Captured, inputs: Mapping[str, Tensor], builder: Builder, precise: Callable[[Origin], bool]
) -> list[Any]:
    """Write a captured net into a builder, with lowerings that hold for any length.

    Args:
        captured: the net.
        inputs: name in the new graph -> example, in the order of forward.
        builder: what it is written into.
        precise: whether what stands there stays in float32.

    Returns:
        what forward returned: Values, or numbers.

    Raises:
        ConversionError: an operation that has no exact form in either format, with its line.
    """
    known: dict[fx.Node, Any] = {}
    given = dict(zip(captured.inputs, inputs.items(), strict=True))
    for node in captured.graph.nodes:
        if node.op == "placeholder":
            if node.name in given:
                name, example = given[node.name]
                known[node] = builder.placeholder(name, example)
            else:
                known[node] = _constant(builder, captured.constants[node.name])
        elif node.op == "call_function":
            origin = origin_of(node)
            with builder.at(replace(origin, precise=precise(origin))):
                args, kwargs = (fx.map_arg(part, lambda n: known[n]) for part in (node.args, node.kwargs))
                known[node] = emit(builder, node.target, unfrozen(args), dict(kwargs), SHAPE_FREE)
    return [known[value] if isinstance(value, fx.Node) else value for value in captured.outputs]


def finish(module: fx.GraphModule, fp32: Sequence[str], builder: Builder, inputs: Mapping[str, Tensor]) -> list[Value]:
    """Write a lowered graph into another builder, with the lowerings for its fixed number of frames.

    Args:
        module: what a builder made; its modules are taken over.
        fp32: parts of its modules that stay in float32.
        builder: what it is written into.
        inputs: name -> example, as the graph's placeholders have them.
    """
    known: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            name = str(node.target)  # node.name is it in small letters
            known[node] = builder.placeholder(name, inputs[name])
        elif node.op == "get_attr":
            known[node] = builder.constant(cast(Tensor, constant_of(module, node)))
        elif node.op == "output":
            return [known[value] for value in cast("Sequence[fx.Node]", node.args[0])]
        else:
            origin: Origin = node.meta.get("origin", Origin())
            with builder.at(origin):
                args, kwargs = (fx.map_arg(part, lambda n: known[n]) for part in (node.args, node.kwargs))
                if node.op == "call_module":
                    name = str(node.target)
                    parts = [part[len(name) + 1 :] for part in fp32 if part == name or part.startswith(f"{name}.")]
                    known[node] = builder.module(module.get_submodule(name), *args, name=name, fp32=parts)
                else:
                    known[node] = emit(builder, node.target, unfrozen(args), dict(kwargs), FIXED)
    raise AssertionError("a graph without an output")


def lowered(
    module: nn.Module, inputs: Mapping[str, Tensor], who: str, precise: Callable[[Origin], bool]
) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """A module of fixed shapes as a graph that both converters take.

    Args:
        module: in eval mode; takes `inputs` in order.
        inputs: name in the graph -> example.
        who: whose net it is, for messages.
        precise: whether what stands there stays in float32.

    Returns:
        the graph, and names of its parts that stay in float32.

    Raises:
        ConversionError: forward cannot be followed, or an operation has no form.
    """
    first = Builder()
    results = lower(capture(module, tuple(inputs.values()), who), inputs, first, precise)
    first.output(results)
    last = Builder(wraps=True)
    last.output(finish(first.finish("Lowered"), first.fp32, last, inputs))
    return last.finish("Graph"), tuple(last.fp32)


def emit(b: Builder, target: Any, args: Any, kwargs: Any, table: Table) -> Any:
    """One operation, lowered if the table has it.

    Raises:
        ConversionError: it is random, or complex in a way that pairs cannot say.
    """
    if target is operator.getitem:
        return args[0][args[1]]
    name = target_name(target)
    if name in _NOTHING:
        return None
    if name in _SAME:
        return args[0]
    values = [value for value in flat((args, kwargs)) if isinstance(value, Value | Pair)]
    if any(isinstance(value, Pair) for value in values) or name in COMPLEX.makers:
        how = COMPLEX.makers.get(name) or COMPLEX.table.get(name)
        if how is None:
            raise ConversionError(f"{b.origin}: complex values go through torch's {name!r}, which has no form in pairs")
        result = how(b, *args, **kwargs)
        if result is NotImplemented:
            raise ConversionError(f"{b.origin}: complex values in a form of torch's {name!r} that has none in pairs")
        note(name, b.origin)
        return result
    if name in _RANDOM:
        raise ConversionError(f"{b.origin}: is random ({name}); a converted model would freeze one draw: call eval()")
    constant = all(value.is_constant for value in values if isinstance(value, Value))
    how = None if constant else table.get(name)
    if how is not None:
        b.operation = name
        result = how(b, *args, **kwargs)
        if result is not NotImplemented:
            note(name, b.origin)
            return result
    try:
        result = b.op(target, *args, **kwargs)
    except (RuntimeError, IndexError, TypeError, ValueError) as exc:
        said = first_line(exc)
        raise ConversionError(f"{b.origin}: cannot be written out ({name}): {said}; report this net") from exc
    if constant and isinstance(result, Value) and result.tensor.is_complex():
        return complex_constant(b, result.tensor)
    return result


def _constant(b: Builder, value: Tensor) -> Any:
    value = value.detach()
    return complex_constant(b, value) if value.is_complex() else b.constant(value)
