"""What the torch original gives for a stream: the reference for artefacts, golden vectors and ports."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from converters.tolerances import extra_limits
from models.catalog import CATALOG
from models.common.errors import BundleError, WeightsError
from models.entry import ModelEntry
from runtimes.bundle import Artefact, Manifest
from runtimes.protocol import Runtime
from runtimes.torch import TorchRuntime, run_offline
from streaming.core.loop import make_loop, run_loop
from streaming.files.hearing import KeptOutputs
from streaming.metrics.parity import Check, Parity, audio_parity, embedding_parity, judge, ratio_db, score_parity

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[np.float32]


@dataclass(frozen=True)
class StreamOutput:
    """A whole stream's output.

    Attributes:
        values: float32 [samples + delay] of audio ([channels, samples + delay] of several), lead-in included;
            [windows, labels], [windows, d] of an embedder, or [sources, channels, samples + delay] of a separator.
        ends: int64, where each window ends; empty for audio.
        extras: outputs beside the task's own by name, float32 [calls, ...].
    """

    values: Array
    ends: NDArray[np.int64]
    extras: Mapping[str, Array] = field(default_factory=dict)


def entry_of(manifest: Manifest) -> ModelEntry:
    """The catalogue entry that a manifest's `original` names.

    Raises:
        WeightsError: it names a factory that is not in the catalogue; nothing else is ever imported from a file.
    """
    for entry in CATALOG.values():
        if entry.factory == manifest.original.factory:
            return entry
    known = ", ".join(e.factory for e in CATALOG.values())
    raise WeightsError(f"original.factory {manifest.original.factory!r:.80} is not one of this hearpack's: {known}")


def check_entry(manifest: Manifest, entry: ModelEntry) -> None:
    """Raise BundleError where a manifest does not describe the net that it says it was made of."""
    ours, theirs = entry.signature(manifest.buffer.hops_per_call), manifest.signature
    facts = {
        "task": (manifest.task, entry.task),
        "geometry": (manifest.stream_geometry, entry.geometry),
        "buffer": (manifest.buffer.kind, entry.buffer_kind),
        # How wide a state is may follow from the weights: U-Nets of any width.
        "inputs": ((theirs.input_names, theirs.input_shapes[:1]), (ours.input_names, ours.input_shapes[:1])),
        "outputs": ([(t.name, t.shape) for t in theirs.outputs], [(t.name, t.shape) for t in ours.outputs]),
    }
    for what, (came, expected) in facts.items():
        if came != expected:
            raise BundleError(
                f"{manifest.name}: the manifest's {what} is not that of {manifest.original.factory!r:.80}, which it "
                f"says it was made of; export the bundle again"
            )


def stream(manifest: Manifest, runtime: Runtime, samples: Array) -> StreamOutput:
    """A signal at the model's rate through a runtime, from reset to flush."""
    kept = KeptOutputs(runtime, [t.name for t in manifest.extra_outputs])
    results = run_loop(make_loop(manifest, kept, recover=False), samples)
    extras = kept.stacked()
    if manifest.gives_audio:
        return StreamOutput(np.concatenate([r.values for r in results], -1), np.zeros(0, np.int64), extras)
    ends = np.array([r.end_sample for r in results], np.int64)
    return StreamOutput(np.stack([r.values for r in results]), ends, extras)


def original(manifest: Manifest, net: nn.Module, samples: Array, entry: ModelEntry | None = None) -> StreamOutput:
    """The same signal through the torch original.

    A step net is run offline, all at once, which no streaming fault can touch; a windowed net sees the
    very windows that the loop cuts. Extra outputs are those of the graph in torch, call by call: of a causal net they
    were proved against the whole. `entry` is the manifest's own where it is not given.
    """
    entry = entry_of(manifest) if entry is None else entry
    if manifest.buffer.kind == "window":
        return stream(manifest, TorchRuntime(entry.load_graph(net, 1), entry.signature(1)), samples)
    hops, extras = manifest.buffer.hops_per_call, {}
    if manifest.extra_outputs:
        graph = TorchRuntime(entry.load_graph(net, hops), entry.signature(hops))
        extras = dict(stream(manifest, graph, samples).extras)
    delay = manifest.geometry.delay_samples
    total = samples.shape[-1] + delay
    padded = np.concatenate([samples, np.zeros((*samples.shape[:-1], delay), np.float32)], -1)
    values = run_offline(net, padded)
    if not manifest.gives_audio:  # scores of every hop; a call of several hops gives those of its last
        calls = -(-total // manifest.buffer.samples)
        ends = manifest.buffer.samples * np.arange(1, calls + 1, dtype=np.int64)
        return StreamOutput(values[hops - 1 :: hops][:calls], ends, extras)
    return StreamOutput(values[..., :total], np.zeros(0, np.int64), extras)


def compare_extras(artefact: Artefact, reference: StreamOutput, candidate: StreamOutput) -> tuple[Check, ...]:
    """A check or two for each output beside the task's own, "NAME snr_db": the whole stream's values as one signal."""
    checks = []
    for name, truth in reference.extras.items():
        came = candidate.extras[name]
        finite = np.isfinite(truth) & np.isfinite(came)
        energy = float(np.sum(np.square(truth, dtype=np.float64)[finite]))
        error = float(np.sum(np.square(np.subtract(came, truth, dtype=np.float64)[finite])))
        figures = {"snr_db": ratio_db(energy, error), "nan_count": float(np.count_nonzero(~finite))}
        found = judge(figures, extra_limits(artefact))
        checks += [dataclasses.replace(check, metric=f"{name} {check.metric}") for check in found]
    return tuple(checks)


def compare(manifest: Manifest, reference: StreamOutput, candidate: StreamOutput) -> Parity:
    """Figures of a candidate against the reference; the lead-in of audio is left out.

    Of a separator: all sources and channels as one signal, sample by sample beside each other. A ratio for each source
    would say little of one that is silent in the material: its error is rounding of the mix's size.
    """
    rate = manifest.geometry.sample_rate_hz
    if manifest.output_kind == "embedding":
        return embedding_parity(reference.values, candidate.values, reference.ends, rate)
    if not manifest.gives_audio:
        return score_parity(reference.values, candidate.values, reference.ends, rate)
    delay = manifest.geometry.delay_samples
    parts = [v.values[..., delay:] for v in (reference, candidate)]
    signals = [np.moveaxis(part, -1, 0).reshape(part.size) for part in parts]
    return audio_parity(signals[0], signals[1], rate * math.prod(parts[0].shape[:-1]))
