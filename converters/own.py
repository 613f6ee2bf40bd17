"""From a user's file and geometry.toml to an entry that can be exported, and from a bundle back to that file.

A bundle holds no path. Where its original lay is kept in the cache of this machine; `verify` looks at the place that
the user names, else at that one, else beside the bundle and in the working folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.checks import example_inputs, refuse_insensitive, refuse_mutation
from converters.folders import write_text_atomic
from models import weights as weights_store
from models.errors import ConversionError, MissingDependencyError, UsageError, WeightsError
from models.geometry import GraphSignature, StreamGeometry, TensorSpec
from models.hashing import sha256_bytes
from models.own import OwnEntry, OwnOriginal
from models.own_loading import Loaded, Target, load, parse_target
from models.own_toml import parse, read_toml
from models.parsing import parse_json
from runtimes.bundle import Bundle

if TYPE_CHECKING:
    from torch import nn

GeometrySource = str | Path | Mapping[str, Any] | StreamGeometry | None

# Least agreement of a step net with the offline form that its author wrote, in dB.
OFFLINE_DB = 100.0
_OFFLINE_HOPS = 24


def open_own(target_text: str, geometry: GeometrySource = None, weights: Path | None = None) -> OwnEntry:
    """Load a user's net, prove what can be proved before converting, and describe it as an entry.

    Args:
        target_text: "path/net.py:build", "package.module:build" or "path/model.keras".
        geometry: a geometry.toml, a mapping of its shape, or a StreamGeometry; None: geometry.toml beside the file,
            else GEOMETRY in the user's module.
        weights: a checkpoint that is loaded into the net.

    Raises:
        UsageError: the file, the module or the geometry is not usable.
        ConversionError: the net does not do what the geometry says, keeps hidden state, looks ahead, or ignores its
            input.
        WeightsError: the checkpoint is another net's.
    """
    target = parse_target(target_text)
    if target.is_keras:
        from converters.keras import open_keras

        if weights is not None:
            raise UsageError(f"{target.factory}: a .keras file holds its weights; leave --weights out")
        _need_torch()
        tables, where = _tables(target, None, geometry)
        entry, net, source = open_keras(target, tables, where)
        return complete(dataclasses.replace(entry, keras_file=str(Path(target.module).resolve())), target, source, net)
    _need_torch()
    loaded = load(target)
    tables, where = _tables(target, loaded, geometry)
    entry = parse(tables, where, target.stem)
    net = _net(loaded, target)
    if weights is not None:
        _load_weights(net, weights)
    return complete(entry, target, loaded.source_sha256, net, weights)


def complete(
    entry: OwnEntry, target: Target, source_sha256: str, net: nn.Module, weights: Path | None = None
) -> OwnEntry:
    """The entry with its net in it, checked."""
    from models.own_graph import parameters_millions

    net = net.eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    source = sha256_bytes(f"{source_sha256}\n{entry.arithmetic()}".encode())
    entry = dataclasses.replace(
        entry,
        factory=target.factory,
        # A loaded Keras model has state that its file has not (a Dropout's seed): the file stands for its weights.
        original=OwnOriginal(target.factory, source, source_sha256 if target.is_keras else _state_sha256(net)),
        parameters_millions=parameters_millions(net),
        net=net,
        weights_file="" if weights is None else str(weights.resolve()),
    )
    if entry.form == "causal":
        entry = _causal(entry)
    else:
        entry = dataclasses.replace(entry, fp32_modules=_fp32_modules(entry))
    _check(entry)
    return entry


def _need_torch() -> None:
    try:
        import torch
    except ImportError as exc:
        raise MissingDependencyError("torch", "export", "loading a net of your own") from exc
    del torch


def _where(target: Target, geometry: GeometrySource) -> str:
    return Path(geometry).name if isinstance(geometry, str | Path) else target.factory


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


def _net(loaded: Loaded, target: Target) -> nn.Module:
    import torch

    net = loaded.result
    if not isinstance(net, torch.nn.Module):
        raise UsageError(f"{target.factory}: expected a torch.nn.Module, it returned {type(net).__name__}")
    if any(p.dtype != torch.float32 for p in net.parameters()) or any(p.is_meta for p in net.parameters()):
        raise UsageError(f"{target.factory}: expected float32 parameters on the CPU; call .float() in the factory")
    return net


def _load_weights(net: nn.Module, file: Path) -> None:
    import torch

    arrays = weights_store.load_file(file)
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


def _fp32_modules(entry: OwnEntry) -> tuple[str, ...]:
    known = dict(entry.net.named_modules())
    for name in entry.fp32_named:
        if name not in known or not name:
            children = ", ".join(child for child, _ in entry.net.named_children()) or "none"
            raise UsageError(f"{entry.name}: fp32_modules names {name!r}, which the net has not; it has: {children}")
    always = ("front_end",) if entry.front_end is not None else ()
    head = ("head",) if entry.activation != "none" else ()
    return (*always, *head, *(f"net.{name}" for name in entry.fp32_named))


def _causal(entry: OwnEntry) -> OwnEntry:
    """Take the state out, prove the result, and learn names of states and what stays in float32."""
    from models.causal import externalise
    from models.causal_proof import prove
    from models.own_graph import offline

    refuse_mutation(offline(entry), _offline_signature(entry))
    one = externalise(entry, 1)
    prove(entry, one)
    several = min(entry.max_hops, 3)
    if several > 1:
        prove(entry, externalise(entry, several))
    return dataclasses.replace(entry, states=one.states, fp32_modules=one.fp32_modules)


def _offline_signature(entry: OwnEntry) -> GraphSignature:
    samples = 8 * entry.geometry.hop_samples
    out = (1, samples) if entry.task == "enhancer" else (1, 8, len(entry.labels))
    return GraphSignature(
        (TensorSpec("audio", (1, samples), (-1.0, 1.0), ""),), (TensorSpec(entry.output.name, out, (-1.0, 1.0), ""),)
    )


def _check(entry: OwnEntry) -> None:
    """Run the graph once or twice and refuse what would not survive a conversion."""
    import torch

    from models.own_graph import graph

    signature = entry.signature(1)
    built = graph(entry, 1)
    refuse_mutation(built, signature)
    refuse_insensitive(built, signature)
    with torch.no_grad():
        out = built(*example_inputs(signature))[0]
    if entry.task == "classifier" and (float(out.min()) < -1e-6 or float(out.max()) > 1.0 + 1e-6):
        raise ConversionError(
            f"{entry.original.factory}: scores must lie in 0 to 1, noise gives {float(out.min()):.3g} to "
            f"{float(out.max()):.3g}; set net.activation to 'sigmoid' or 'softmax' if the net gives logits"
        )
    _check_offline(entry)


def _check_offline(entry: OwnEntry) -> None:
    """A step net with an offline form of its author's: both must say the same."""
    import torch

    from models.own_graph import Stepwise, has_offline, offline

    if not has_offline(entry):
        return
    generator = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(1, _OFFLINE_HOPS * entry.geometry.hop_samples, generator=generator)
    with torch.no_grad():
        whole, stepped = offline(entry)(audio), Stepwise(entry)(audio)
    if whole.shape[1] < stepped.shape[1] or whole.shape[2:] != stepped.shape[2:]:
        raise ConversionError(
            f"{entry.original.factory}: offline() gives {list(whole.shape)}, the steps give {list(stepped.shape)}"
        )
    error = (whole[:, : stepped.shape[1]] - stepped).double().square().sum()
    ratio = 10.0 * float(torch.log10(stepped.double().square().sum() / error.clamp(min=1e-300)))
    if ratio < OFFLINE_DB:
        raise ConversionError(
            f"{entry.original.factory}: the steps and offline() agree by {ratio:.1f} dB only, expected at least "
            f"{OFFLINE_DB:g}: a state is not carried as offline() has it"
        )


# --- finding an original again -----------------------------------------------------------------------------


def _record(original: OwnOriginal | Any) -> Path:
    key = sha256_bytes(f"{original.factory}\n{original.source_sha256}\n{original.weights_sha256}".encode())
    return weights_store.cache_dir() / "originals" / f"{key[:32]}.json"


def remember(entry: OwnEntry, target_text: str, geometry: GeometrySource) -> None:
    """Keep where the original lies, on this machine only; nothing of it goes into a bundle."""
    target = parse_target(target_text)
    where = {
        "target": f"{Path(target.module).resolve()}:{target.callable_name}" if target.is_file else target_text,
        "geometry": str(Path(geometry).resolve()) if isinstance(geometry, str | Path) else None,
        "weights": entry.weights_file or None,
    }
    if target.is_keras:
        where["target"] = str(Path(target.module).resolve())
    write_text_atomic(_record(entry.original), json.dumps(where, indent=2, sort_keys=True) + "\n")


def is_own_bundle(bundle: Bundle) -> bool:
    """Whether a bundle was made from a net of a user's own."""
    return bundle.manifest.original.source_sha256 is not None


def reopen(
    bundle: Bundle, target_text: str | None = None, geometry: str | Path | None = None, weights: Path | None = None
) -> OwnEntry:
    """The original of a bundle, found again and proven to be the same.

    Args:
        bundle: made by `export` of a net of one's own.
        target_text: where the original is, if the user says so.
        geometry: its geometry.toml, if the user says so.
        weights: the checkpoint it was exported with, if the user says so.

    Raises:
        WeightsError: it is not to be found, or is not the one that was exported; says which.
        HearpackError: as `open_own`.
    """
    original = bundle.manifest.original
    candidates: list[tuple[str, str | Path | None, Path | None]] = []
    if target_text is not None:
        candidates.append((target_text, geometry, weights))
    else:
        candidates += _remembered(original, geometry, weights)
        candidates += [(text, geometry, weights) for text in _beside(bundle)]
    for text, toml, checkpoint in candidates[:1]:
        entry = open_own(text, toml, checkpoint)
        _same_original(entry, original)
        return entry
    raise WeightsError(
        f"the original {original.factory} is not where it was exported from, nor beside the bundle; "
        f"give its place with --original PATH"
    )


def _remembered(
    original: Any, geometry: str | Path | None, weights: Path | None
) -> list[tuple[str, str | Path | None, Path | None]]:
    try:
        where = parse_json(_record(original).read_text(encoding="utf-8"))
        text, toml, checkpoint = where["target"], where["geometry"], where["weights"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    is_file = text.endswith(".keras") or ".py:" in text
    if is_file and not Path(text.removesuffix(":" + text.rpartition(":")[2]) if ".py:" in text else text).is_file():
        return []
    if weights is None and checkpoint is not None:
        if not Path(checkpoint).is_file():
            raise WeightsError(f"the checkpoint that {original.factory} was exported with is gone; give --weights")
        weights = Path(checkpoint)
    return [(text, geometry if geometry is not None else toml, weights)]


def _beside(bundle: Bundle) -> list[str]:
    factory = bundle.manifest.original.factory
    name, _, function = factory.partition(":")
    if not name.endswith((".py", ".keras")):
        return [factory]
    files = [folder / name for folder in (bundle.path.resolve().parent, Path.cwd())]
    return [f"{file}:{function}" if function else str(file) for file in files if file.is_file()]


def _same_original(entry: OwnEntry, original: Any) -> None:
    came = entry.original
    if came.weights_sha256 != original.weights_sha256:
        raise WeightsError(
            f"the weights of {original.factory} have changed since the export (sha256 "
            f"{original.weights_sha256[:12]}… then, {came.weights_sha256[:12]}… now); "
            f"export again, or give the old ones with --weights"
        )
    if came.source_sha256 != original.source_sha256:
        raise WeightsError(
            f"{original.factory}, what it imports or its geometry has changed since the export (sha256 "
            f"{original.source_sha256[:12]}… then, {came.source_sha256[:12]}… now); export again"
        )
