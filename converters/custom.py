"""From a user's file and geometry.toml to an entry that can be exported."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.checks import example_inputs, refuse_insensitive, refuse_mutation
from models.common.errors import ConversionError, UsageError, WeightsError
from models.common.hashing import sha256_bytes
from models.custom.entry import CustomEntry, CustomOriginal
from models.custom.geometry_toml import parse, read_toml
from models.custom.loading import Loaded, Sources, Target, load, parse_target
from models.custom.shapes.states import ROUGH
from models.geometry import GraphSignature, StreamGeometry, TensorSpec
from models.weights.checkpoint import load_file
from runtimes.mil.deps import require_torch

if TYPE_CHECKING:
    from torch import nn

GeometrySource = str | Path | Mapping[str, Any] | StreamGeometry | None

# Least agreement of a step net with the offline form that its author wrote, in dB.
OFFLINE_DB = 100.0
_OFFLINE_HOPS = 24
# Largest difference between a net as it was written and its graph, of the value's size, in float32.
LOWERING_LIMIT = 1e-3
ROUGH_LIMIT = 1e-2  # where the net rounds its states to half, and the graph does not


def open_custom(
    target_text: str,
    geometry: GeometrySource = None,
    weights: Path | None = None,
    *,
    allow_insensitive: bool = False,
) -> CustomEntry:
    """Load a user's net, prove what can be proved before converting, and describe it as an entry.

    Args:
        target_text: "path/net.py:build", "package.module:build", "path/model.keras" or "path/model.pt" (TorchScript).
        geometry: a geometry.toml, a mapping of its shape, or a StreamGeometry; None: geometry.toml beside the file,
            else GEOMETRY in the user's module.
        weights: a checkpoint that is loaded into the net.
        allow_insensitive: go on with a net that hardly reacts to its input; the entry says so.

    Raises:
        UsageError: the file, the module or the geometry is not usable.
        ConversionError: the net does not do what the geometry says, keeps hidden state, looks ahead, or ignores its
            input.
        WeightsError: the checkpoint is another net's.
    """
    target = parse_target(target_text)
    if target.is_keras:
        from converters.litert.keras import open_keras

        if weights is not None:
            raise UsageError(f"{target.factory}: a .keras file holds its weights; leave --weights out")
        require_torch("loading a net of your own")
        tables, where = _tables(target, None, geometry)
        entry, net, source = open_keras(target, tables, where)
        entry = dataclasses.replace(entry, keras_file=str(Path(target.module).resolve()))
        return _heard(complete(entry, target, source, net), "", allow_insensitive)
    require_torch("loading a net of your own")
    loaded = load(target)
    tables, where = _tables(target, loaded, geometry)
    entry = parse(tables, where, target.stem)
    net = net_of(loaded, target)
    if weights is not None:
        _load_weights(net, weights)
    entry = complete(entry, target, loaded.source_sha256, net, weights, loaded.sources)
    return _heard(entry, loaded.taken_sha256, allow_insensitive)


def complete(
    entry: CustomEntry,
    target: Target,
    source_sha256: str,
    net: nn.Module,
    weights: Path | None = None,
    sources: Sources = (),
) -> CustomEntry:
    """The entry with its net in it, checked."""
    from models.custom.forms import exported, parameters_millions
    from models.custom.shapes.found import with_outputs
    from models.custom.shapes.inputs import check_arguments

    net = net.eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    source = sha256_bytes(f"{source_sha256}\n{entry.arithmetic()}".encode())
    entry = dataclasses.replace(
        entry,
        factory=target.factory,
        # A loaded Keras model has state that its file has not (a Dropout's seed): the file stands for its weights.
        original=CustomOriginal(
            target.factory, source, source_sha256 if target.is_keras else _state_sha256(net), sources
        ),
        parameters_millions=parameters_millions(net),
        net=net,
        weights_file="" if weights is None else str(weights.resolve()),
    )
    if entry.constants or entry.far_inputs:
        check_arguments(net, (*entry.far_inputs, *(c.name for c in entry.constants)), target.factory)
    entry = with_outputs(entry)
    if entry.form == "causal":
        entry = _causal(entry)
    else:
        _known_modules(entry)
        entry = dataclasses.replace(entry, fp32_modules=exported(entry, 1).fp32_modules)
    _check(entry)
    return entry


def _tables(target: Target, loaded: Loaded | None, geometry: GeometrySource) -> tuple[Mapping[str, Any], str]:
    """What describes the net, and where it stands."""
    if geometry is None and target.is_file:
        beside = Path(target.module).with_name("geometry.toml")
        geometry = beside if beside.is_file() else None
    if geometry is None and loaded is not None:
        geometry = getattr(loaded.module, "GEOMETRY", None)
    if geometry is None:
        raise UsageError(
            f"{target.factory}: its geometry is not known; give --geometry geometry.toml, put one beside the file, "
            f"or set GEOMETRY in it (hearpack scaffold NAME writes a beginning)"
        )
    if isinstance(geometry, StreamGeometry):
        geometry = {"geometry": geometry, **getattr(loaded.module if loaded else None, "HEARPACK", {})}
    if isinstance(geometry, Mapping):
        return geometry, f"{target.factory}, GEOMETRY"
    if not isinstance(geometry, str | Path):
        raise UsageError(f"{target.factory}: GEOMETRY must be a StreamGeometry or a mapping, got {geometry!r}")
    return read_toml(Path(geometry)), Path(geometry).name


def net_of(loaded: Loaded, target: Target) -> nn.Module:
    """What the factory returned, if it is a net in float32; raises UsageError."""
    import torch

    net = loaded.result
    if not isinstance(net, torch.nn.Module):
        raise UsageError(f"{target.factory}: expected a torch.nn.Module, it returned {type(net).__name__}")
    floats = [p for p in net.parameters() if p.is_floating_point()]  # Keras keeps a Dropout's seed among parameters
    if any(p.dtype != torch.float32 or p.is_meta for p in floats):
        raise UsageError(f"{target.factory}: expected float32 parameters on the CPU; call .float() in the factory")
    return net


def _load_weights(net: nn.Module, file: Path) -> None:
    import torch

    arrays = load_file(file)
    try:
        net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in arrays.items()})
    except RuntimeError as exc:
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        raise WeightsError(f"{file}: is of another net: {' '.join(lines[1:3] or lines)[:300]}") from exc


def _state_sha256(net: nn.Module) -> str:
    """sha256 of all parameters and buffers: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        array = value.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()


def _heard(entry: CustomEntry, taken_sha256: str, allow_insensitive: bool) -> CustomEntry:
    """The entry with what noise shows of its net: whether it reacts, and a hash of what it gives, to the last bit.

    The hash finds what has changed since an export where no file tells.

    Args:
        entry: complete.
        taken_sha256: over what the net was built of.
        allow_insensitive: as in `open_custom`.
    """
    import torch

    from models.custom.forms import as_written, offline

    causal = entry.form == "causal"
    net = offline(entry) if causal else as_written(entry, 1)
    signature = _offline_signature(entry) if causal else entry.signature(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of additions is the machine's otherwise
    try:
        with torch.no_grad():
            values = net(*example_inputs(signature))
        try:
            refuse_insensitive(net, signature)
        except ConversionError as exc:
            if not allow_insensitive:
                raise
            sentence = f"--allow-insensitive: {str(exc).partition(';')[0]}"
            entry = dataclasses.replace(entry, insensitive=True, assumed=(*entry.assumed, sentence))
    finally:
        torch.set_num_threads(threads)
    gives = b"".join(value.contiguous().numpy().tobytes() for value in ((values,) if causal else values))
    taken = sha256_bytes(taken_sha256.encode() + gives)
    return dataclasses.replace(entry, original=dataclasses.replace(entry.original, taken_sha256=taken))


def _known_modules(entry: CustomEntry) -> None:
    """Every module that the user wants in float32 must be there."""
    known = dict(entry.net.named_modules())
    for name in entry.fp32_named:
        if name not in known or not name:
            children = ", ".join(child for child, _ in entry.net.named_children()) or "none"
            raise UsageError(f"{entry.name}: fp32_modules names {name!r}, which the net has not; it has: {children}")


def _causal(entry: CustomEntry) -> CustomEntry:
    """Take the state out, prove the result, and learn names of states and what stays in float32."""
    from models.custom.causal.convert import to_external_state
    from models.custom.causal.proof import prove
    from models.custom.forms import offline

    refuse_mutation(offline(entry), _offline_signature(entry))
    one = to_external_state(entry, 1)
    prove(entry, one)
    several = min(entry.max_hops, 3)
    if several > 1:
        prove(entry, to_external_state(entry, several))
    if one.lookahead_samples:
        geometry = dataclasses.replace(
            entry.geometry, delay_samples=entry.geometry.delay_samples + one.lookahead_samples
        )
        said = f"delay: {one.lookahead_samples} samples of look-ahead became delay (net.lookahead = 'delay')"
        entry = dataclasses.replace(
            entry, geometry=geometry, lookahead_samples=one.lookahead_samples, assumed=(*entry.assumed, said)
        )
    return dataclasses.replace(entry, states=one.states, fp32_modules=one.fp32_modules)


def _offline_signature(entry: CustomEntry) -> GraphSignature:
    shape = entry.offline_shape(8)
    if entry.sources:
        shape = (1, len(entry.sources), entry.geometry.channels, shape[-1])
    return GraphSignature(_longer(entry, 8), (TensorSpec(entry.output.name, shape, (-1.0, 1.0), ""),))


def _longer(entry: CustomEntry, hops: int) -> tuple[TensorSpec, ...]:
    """The inputs for a recording of so many hops."""
    samples = hops * entry.geometry.hop_samples
    return tuple(dataclasses.replace(t, shape=(*t.shape[:-1], samples)) for t in entry.signature(1).inputs)


def _check(entry: CustomEntry) -> None:
    """Run the graph once or twice and refuse what would not survive a conversion."""
    import torch

    from models.custom.forms import as_written, graph

    signature = entry.signature(1)
    if entry.form != "causal":
        refuse_mutation(as_written(entry, 1), signature, writes=True)
    built = graph(entry, 1)
    refuse_mutation(built, signature)
    if entry.form != "causal":
        rough = any(kind in ROUGH for _, kind in entry.state_dtypes)
        _check_lowering(as_written(entry, 1), built, signature, ROUGH_LIMIT if rough else LOWERING_LIMIT)
    with torch.no_grad():
        out = built(*example_inputs(signature))[0]
    if entry.output_kind == "scores" and (float(out.min()) < -1e-6 or float(out.max()) > 1.0 + 1e-6):
        raise ConversionError(
            f"{entry.original.factory}: scores must lie in 0 to 1, noise gives {float(out.min()):.3g} to "
            f"{float(out.max()):.3g}; set net.activation to 'sigmoid' or 'softmax' if the net gives logits"
        )
    _check_offline(entry)


def _check_lowering(written: nn.Module, built: nn.Module, signature: GraphSignature, limit: float) -> None:
    """What is exported must be what was written."""
    import torch

    example = example_inputs(signature)
    with torch.no_grad():
        one, two = written(*(value.clone() for value in example)), built(*example)
    for name, a, b in zip(signature.output_names, one, two, strict=True):
        error = float((a - b).abs().max() / a.abs().max().clamp(min=1e-6))
        if not error <= limit:
            raise ConversionError(
                f"{name}: a lowering of hearpack's changed it by {error:.2g} of its size; report this net"
            )


def _check_offline(entry: CustomEntry) -> None:
    """A step net with an offline form of its author's: both must say the same."""
    import torch

    from models.custom.forms import Stepwise, has_offline, offline

    if not has_offline(entry):
        return
    generator = torch.Generator().manual_seed(0)
    lanes = entry.geometry.channels + len(entry.far_inputs)
    lead = (lanes,) if entry.far_inputs else entry.geometry.lead
    audio = 0.1 * torch.randn(1, *lead, _OFFLINE_HOPS * entry.geometry.hop_samples, generator=generator)
    with torch.no_grad():
        whole, stepped = offline(entry)(audio), Stepwise(entry)(audio)
    time = 1 if entry.output_kind == "scores" else stepped.dim() - 1
    if whole.dim() != stepped.dim() or whole.shape[time] < stepped.shape[time]:
        raise ConversionError(
            f"{entry.original.factory}: offline() gives {list(whole.shape)}, the steps give {list(stepped.shape)}"
        )
    error = (whole.narrow(time, 0, stepped.shape[time]) - stepped).double().square().sum()
    ratio = 10.0 * float(torch.log10(stepped.double().square().sum() / error.clamp(min=1e-300)))
    if ratio < OFFLINE_DB:
        raise ConversionError(
            f"{entry.original.factory}: the steps and offline() agree by {ratio:.1f} dB only, expected at least "
            f"{OFFLINE_DB:g}: a state is not carried as offline() has it"
        )
