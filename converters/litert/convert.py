"""Graph -> .tflite, by litert-torch, with our names for every input and output.

fp16 means: weights stored as halves, arithmetic in float32. Weights that belong to the modules named
in `fp32_modules` stay float32 (a DFT or mel matrix rounded to half moves YAMNet's scores by up to 0.065).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from converters.checks import example_inputs, refuse_aliasing, refuse_mutation
from converters.litert.names import recorded_name, recorded_names
from converters.litert.tflite_edit import MIN_HALF_ELEMENTS, HalfReport, cast_to_half
from models.common.errors import ConversionError, MissingDependencyError
from models.geometry import GraphSignature
from runtimes.litert import Engine, LiteRTRuntime
from runtimes.native_output import Captured, quiet

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "fp16"]
# What a message of the libraries tells about the cause, and what helps. First match wins.
_ADVICE = (
    (
        ("stft", "_fft_", "fft_r2c", "fft_c2c", "complex"),
        "complex transforms are not lowered: write the DFT as a matrix or a strided conv1d",
    ),
    (
        ("lhs_dilation", "mhlo.convolution", "conv_transpose"),
        "a strided ConvTranspose is not lowered: insert zeros and use an ordinary conv",
    ),
    (("gru", "lstm"), "write the recurrent cell out (Linear, slices, sigmoid, tanh) for one step"),
    (("data-dependent", "GuardOnDataDependent"), "control flow depends on data: use torch.where"),
)


def convert(
    graph: torch.nn.Module, signature: GraphSignature, precision: Precision, fp32_modules: tuple[str, ...] = ()
) -> bytes:
    """Convert one graph and prove that the result loads and runs in both LiteRT engines.

    Args:
        graph: forward takes inputs then states positionally and returns outputs then states.
        signature: their names and shapes.
        precision: "fp32", or "fp16" for half weights.
        fp32_modules: dotted names of submodules of `graph` whose weights stay float32 in fp16.

    Returns:
        the .tflite; equal arguments give equal bytes.

    Raises:
        ConversionError: the net cannot be converted as it stands, with the op where it is known.
        MissingDependencyError: the export extra is not installed.
    """
    if precision not in ("fp32", "fp16"):
        raise ConversionError(f"expected precision fp32 or fp16, got {precision!r}")
    segments = module_segments(graph, fp32_modules)
    example = example_inputs(signature)
    refuse_mutation(graph, signature, example)
    tflite = _lower(graph, signature, example)
    refuse_aliasing(tflite)
    if precision == "fp16":
        return _halve(tflite, graph, signature, segments).tflite
    prove_runs(tflite, signature)
    return tflite


def halve(
    tflite: bytes, graph: torch.nn.Module, signature: GraphSignature, fp32_modules: tuple[str, ...] = ()
) -> HalfReport:
    """The fp16 form of a file that `convert` made in fp32, without converting again.

    Args:
        tflite: result of `convert(graph, signature, "fp32")`.
        graph: the same graph.
        signature: its names and shapes.
        fp32_modules: dotted names of submodules whose weights stay float32.

    Returns:
        the new file, and which constants were cast or kept, and why.

    Raises:
        ConversionError: a named module does not exist, or holds tensors and left no constant in the file.
        ArtefactError: damaged file.
    """
    return _halve(tflite, graph, signature, module_segments(graph, fp32_modules))


def _halve(tflite: bytes, graph: torch.nn.Module, signature: GraphSignature, segments: dict[str, str]) -> HalfReport:
    hit: set[str] = set()

    def keep(names: str) -> str | None:
        scopes = {segment for name in names.split(";") for segment in name.split("/")}
        owners = [module for module, segment in segments.items() if segment in scopes]
        hit.update(owners)
        return f"belongs to {owners[0]}" if owners else None

    report = cast_to_half(tflite, keep)
    # LiteRT computes in float32 anyway, and small constants are never cast: only matrices can have been missed.
    missed = sorted(
        m
        for m in set(segments) - hit
        if any(t.numel() >= MIN_HALF_ELEMENTS for t in _own_tensors(graph.get_submodule(m)))
    )
    if missed:
        raise ConversionError(
            f"no constant of {', '.join(map(repr, missed))} was found in the converted graph, "
            "so it cannot be kept in float32; name a submodule whose forward is called and which holds matrices"
        )
    prove_runs(report.tflite, signature)
    return report


def _own_tensors(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def prove_runs(tflite: bytes, signature: GraphSignature) -> None:
    """Load a file in both LiteRT engines and run one call in each; they must agree to the last bit.

    Raises:
        ConversionError: it does not load, does not run, or the engines disagree.
    """
    import numpy as np

    from models.common.errors import ArtefactError

    arrays = [value.numpy() for value in example_inputs(signature)]
    state = dict(zip(signature.input_names[1:], arrays[1:], strict=True))
    results = []
    engines: tuple[Engine, ...] = ("interpreter", "compiled")
    for engine in engines:
        try:
            runtime = LiteRTRuntime(tflite, signature, engine, tried=True)
            outputs, states = runtime.step(arrays[0], state)
            runtime.close()
        except ArtefactError as exc:
            raise ConversionError(f"the converted file does not run in LiteRT's {engine}: {exc}") from exc
        results.append({**outputs, **states})
    for name, value in results[0].items():
        if not np.array_equal(value, results[1][name], equal_nan=True):
            worst = float(np.abs(value - results[1][name]).max())
            raise ConversionError(
                f"{name!r} differs by {worst:.3g} between LiteRT's interpreter and CompiledModel; report this net"
            )


def module_segments(graph: torch.nn.Module, modules: tuple[str, ...]) -> dict[str, str]:
    """How each submodule is spelled in the names that litert-torch gives to tensors: class, "_", attribute.

    Raises:
        ConversionError: no such submodule.
    """
    known = dict(graph.named_modules())
    segments = {}
    for name in modules:
        if not name or name not in known:
            children = ", ".join(child for child, _ in graph.named_children()) or "none"
            raise ConversionError(
                f"fp32_modules names {name!r}, which is no submodule of the graph; its children are: {children}"
            )
        kind = ".".join(recorded_name(type(known[name])))
        segments[name] = f"{kind}_{name.rpartition('.')[2]}"
    return segments


def _lower(graph: torch.nn.Module, signature: GraphSignature, example: tuple[torch.Tensor, ...]) -> bytes:
    """Through litert-torch: the one seam where its errors become ours."""
    import torch

    captured = Captured()
    try:
        with _progress_off(), quiet() as captured:
            import litert_torch

            kwargs = dict(zip(signature.input_names, example, strict=True))
            with torch.no_grad(), _constants_kept_alive(), recorded_names(graph):
                model = litert_torch.convert(_named(graph, signature), sample_kwargs=kwargs)
            tflite: bytes = model.model_content()
    except ImportError as exc:
        raise MissingDependencyError("litert-torch", "export", "converting to .tflite") from exc
    except Exception as exc:  # the converter raises anything, bare Exception included
        raise ConversionError(_explain(exc, captured.text)) from exc
    return tflite


@contextlib.contextmanager
def _constants_kept_alive() -> Iterator[None]:
    """Keep every constant that litert-torch lowers until it is done.

    litert-torch 0.10 knows constants again by shape and address. For one that is not contiguous that is the address of
    a copy it frees at once; the next copy of that shape may lie there too and silently becomes the first one.
    """
    from litert_torch.backend import inline_consts

    fingerprint: Any = getattr(inline_consts, "_ConstantFingerprint", None)
    if fingerprint is None:  # a version that does it otherwise
        yield
        return
    original = fingerprint.__dict__["from_tensor"]
    kept: list[torch.Tensor] = []

    def from_tensor(cls: Any, tensor: torch.Tensor) -> Any:
        kept.append(tensor)
        return original.__func__(cls, tensor)

    fingerprint.from_tensor = classmethod(from_tensor)
    try:
        yield
    finally:
        fingerprint.from_tensor = original


def _named(graph: torch.nn.Module, signature: GraphSignature) -> torch.nn.Module:
    """`graph` taking keywords and returning a dict: that is how litert-torch learns names."""
    import torch

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrapped = graph  # not "graph": torch.fx owns that attribute

        def forward(self, **tensors: Any) -> dict[str, Any]:
            results = self.wrapped(*(tensors[name] for name in signature.input_names))
            if not isinstance(results, tuple | list):
                results = (results,)
            return dict(zip(signature.output_names, results, strict=True))

    Named.__module__, Named.__qualname__ = "hearpack", "Graph"  # both end up in tensor names
    return Named().eval()


def _explain(exc: Exception, log: str) -> str:
    lines = [line.strip() for line in str(exc).strip().splitlines() if line.strip()]
    errors = [line.strip() for line in log.splitlines() if "error:" in line]
    cause = (errors or lines or [type(exc).__name__])[0]
    text = f"{exc}\n{log}".lower()
    for words, advice in _ADVICE:
        found = [word for word in words if word.lower() in text]
        if found:
            return f"litert-torch cannot convert the net ({found[0]}): {cause[:300]}; {advice}"
    return f"litert-torch cannot convert the net: {cause[:300]}"


@contextlib.contextmanager
def _progress_off() -> Iterator[None]:
    """litert-torch prints its progress to stdout unless this is set; it reads it at every line."""
    name = "LITERT_TORCH_SHOW_PROGRESS"
    before = os.environ.get(name)
    os.environ[name] = "no"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
