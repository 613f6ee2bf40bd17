"""What a net or an artefact must not do, checked before anybody ships it.

- A module whose buffers change in forward: both converters drop the change without a word.
- A forward that writes into its inputs: state is a value here, the caller's arrays stay the caller's.
- A net whose outputs do not depend on its input: parity on it proves nothing.
- An output that is an input handed through: LiteRT's CompiledModel computes garbage with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from models.common.errors import ConversionError
from models.geometry import GraphSignature
from runtimes.inspect.tflite import aliased_outputs, walk

if TYPE_CHECKING:
    import torch

# Smallest difference between outputs of two inputs, relative to the output's largest value.
_CALLS = 8
LEAST_DIFFERENCE = 1e-6


def example_inputs(signature: GraphSignature, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Noise of the signature's shapes, the same at every call: audio at -20 dBFS, states small but not zero.

    Args:
        signature: names and shapes of one call.
        seed: of torch's generator.

    Returns:
        float32 tensors, inputs then states, in the order of forward.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    return tuple(0.1 * torch.randn(shape, generator=generator) for shape in signature.input_shapes)


def refuse_mutation(
    graph: torch.nn.Module,
    signature: GraphSignature,
    example: Sequence[torch.Tensor] | None = None,
    writes: bool = False,
) -> None:
    """Run forward twice and refuse a module that keeps state or writes into its inputs.

    Args:
        graph: the module that is to be exported, in eval mode.
        signature: its names and shapes; what forward returns must fit it.
        example: tensors in the order of forward; noise if not given.
        writes: whether it may write into its inputs (a graph of it will not).

    Raises:
        ConversionError: naming the buffer or the tensor that changed, or what forward returned instead.
    """
    import torch

    example = example_inputs(signature) if example is None else example

    before = {name: value.detach().clone() for name, value in _tensors(graph).items()}
    kept = [value.clone() for value in example]
    results = []
    for _ in range(2):
        try:
            with torch.inference_mode(False), torch.no_grad():
                result = graph(*(value.clone() for value in example) if writes else example)
        except (RuntimeError, TypeError, ValueError, IndexError) as exc:
            shapes = ", ".join(str(list(value.shape)) for value in example)
            raise ConversionError(f"the net does not run on tensors of its own signature ({shapes}): {exc}") from exc
        results.append([value.clone() for value in (result if isinstance(result, tuple | list) else (result,))])
    after = _tensors(graph)
    changed = sorted(
        name
        for name in before.keys() | after.keys()
        if name not in before or name not in after or not _same(before[name], after[name])
    )
    if changed:
        raise ConversionError(
            f"forward changes {', '.join(map(repr, changed))}: a converted model would lose the change without a word; "
            "take the tensor as an input and return its new value as an output"
        )
    for name, value, original in zip(signature.input_names, example, kept, strict=True):
        if not _same(value, original):
            raise ConversionError(
                f"forward writes into its input {name!r}: return a new tensor instead of changing one in place"
            )
    wanted = tuple(t.shape for t in signature.outputs) + tuple(s.shape for s in signature.states)
    returned = [list(value.shape) for value in results[0]]
    if returned != [list(shape) for shape in wanted]:
        expected = ", ".join(
            f"{name} {list(shape)}" for name, shape in zip(signature.output_names, wanted, strict=True)
        )
        raise ConversionError(f"expected forward to return {expected}; it returned {len(returned)} tensors {returned}")
    for name, one, two in zip(signature.output_names, *results, strict=True):
        if not _same(one, two):
            raise ConversionError(
                f"output {name!r} differs between two equal calls: the net is random or keeps hidden state; call eval()"
            )


def refuse_insensitive(graph: torch.nn.Module, signature: GraphSignature) -> None:
    """Raise ConversionError where an output of a net in eval mode hardly depends on its first input."""
    one, two = (_after_calls(graph, signature, seed) for seed in (0, 1))
    for spec, a, b in zip(signature.outputs, one, two, strict=False):
        scale = max(float(a.abs().max()), float(b.abs().max()), 1e-12)
        difference = float((a - b).abs().max())
        if difference <= LEAST_DIFFERENCE * scale:
            raise ConversionError(
                f"output {spec.name!r} hardly depends on {signature.inputs[0].name!r}: two inputs of noise differ by "
                f"{difference:.3g} of {scale:.3g}, so parity would prove nothing; load real weights, or go on with "
                "--allow-insensitive"
            )


def _after_calls(graph: torch.nn.Module, signature: GraphSignature, seed: int) -> Sequence[torch.Tensor]:
    """The outputs of the last of several calls on noise: a net may be silent until what it looks ahead at has come."""
    import torch

    inputs = len(signature.inputs)
    states: Sequence[torch.Tensor] = example_inputs(signature)[inputs:]
    with torch.no_grad():
        for call in range(_CALLS if signature.states else 1):
            results = graph(*example_inputs(signature, seed=seed + 2 * call)[:inputs], *states)
            states = results[len(signature.outputs) :]
    return tuple(results)


def refuse_aliasing(tflite: bytes) -> None:
    """Refuse a .tflite in which an output is an input handed through.

    Raises:
        ConversionError: naming the tensors.
        ArtefactError: damaged file.
    """
    aliased = aliased_outputs(walk(tflite))
    if aliased:
        raise ConversionError(
            f"output {', '.join(map(repr, aliased))} is an input handed through unchanged, with which LiteRT's "
            "CompiledModel computes garbage; pass it through torch.index_select or torch.clamp(x, -1e30, 1e30), "
            "which survive conversion (clone and + 0 do not)"
        )


def _tensors(graph: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    return dict(graph.named_buffers()) | dict(graph.named_parameters())


def _same(one: torch.Tensor, two: torch.Tensor) -> bool:
    import torch

    return one.shape == two.shape and bool(torch.equal(torch.nan_to_num(one), torch.nan_to_num(two)))
