"""What every net declares, and where its parts are. Light: no torch, no numpy."""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from models.common.errors import UsageError
from models.geometry import (
    OUTPUT_KINDS,
    GraphSignature,
    OutputKind,
    StateSpec,
    StreamGeometry,
    Task,
    TensorSpec,
    check_buffer,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from models.weights.checkpoint import Arrays
    from models.weights.fetch import Item
    from models.weights.store import Origin, WeightsFile

Material = Literal["street", "speech"]
BufferKind = Literal["step", "window"]


@dataclass(frozen=True)
class ModelEntry:
    """One net of the catalogue.

    Attributes:
        name: short name, also the prefix of a bundle's folder.
        task: what the outputs mean.
        summary: one line for `hearpack models`.
        factory: the original's name in manifests; bundles of earlier versions are found by it, so it never changes.
            Its last part is the function of net.py that builds the offline net.
        package: the net's folder as a package, "models.nets.NAME".
        geometry: rates and hops.
        buffer_kind: "step" (hops in, hops out, state) or "window" (the host keeps the overlap).
        max_hops: most hops a call may take ("window": 1).
        output: the stream's output tensor for one hop; its last axis grows with hops for a step net.
        states: tensors carried from call to call.
        fp32_modules: dotted names of submodules of the graph that stay in float32 in fp16 artefacts,
            because a measurement says so.
        uncompressed: submodules whose weights stay float32 in compressed artefacts; None: those of `fp32_modules`.
        decisions: defaults of the manifest's `decisions` (classifiers).
        parameters_millions: trainable parameters.
        material: what it is verified with: the street, or speech in it; None: see `test_material`.
        paper: where the net is described.
        weights_from: where the weights are published, for nets whose weights no package holds; "" where one does.
        labels_file: the labels of such a classifier, a file in its folder.
        card_file: what is known of it, a file in its folder.
        sources: names of a separator's outputs, each of the shape of `output`; () for the others.
    """

    name: str
    task: Task
    summary: str
    factory: str
    geometry: StreamGeometry
    buffer_kind: BufferKind
    max_hops: int
    output: TensorSpec
    parameters_millions: float
    paper: str
    states: tuple[StateSpec, ...] = ()
    fp32_modules: tuple[str, ...] = ()
    decisions: Mapping[str, object] = field(default_factory=dict)
    material: Material | None = None
    weights_from: str = ""
    labels_file: str = ""
    card_file: str = "card.md"
    sources: tuple[str, ...] = ()
    package: str = ""
    uncompressed: tuple[str, ...] | None = None

    @property
    def output_kind(self) -> OutputKind:
        """What comes out."""
        return OUTPUT_KINDS[self.task]

    @property
    def test_material(self) -> Material:
        """The real audio it is verified with: for scores the street, for the others speech in the street."""
        return self.material or ("street" if self.output_kind == "scores" else "speech")

    @property
    def source_sha256(self) -> str | None:
        """Of the sources of a custom net; the catalogue's nets are those of this hearpack."""
        return None

    @property
    def source_files(self) -> tuple[tuple[str, str], ...]:
        """Path and sha256 of each source of a custom net in Python."""
        return ()

    @property
    def insensitive(self) -> bool:
        """Whether a custom net hardly reacts to its input, and its user wanted to go on."""
        return False

    @property
    def assumed(self) -> tuple[str, ...]:
        """Sentences on what was not said of a custom net."""
        return ()

    def buffer_samples(self, hops_per_call: int) -> int:
        """Samples one call of the graph takes."""
        if self.buffer_kind == "window":
            return self.geometry.window_samples
        return hops_per_call * self.geometry.hop_samples

    def hops_for(self, buffer_samples: int) -> int:
        """Hops per call of a buffer in samples; UsageError with the nearest valid two."""
        if self.buffer_kind == "window":
            if buffer_samples != self.geometry.window_samples:
                raise UsageError(
                    f"{self.name} takes a window of exactly {self.geometry.window_samples} samples per call "
                    f"({self.geometry.ms(self.geometry.window_samples):g} ms), got {buffer_samples}; "
                    f"leave --buffer-ms and --hops out"
                )
            return 1
        return check_buffer(buffer_samples, self.geometry.hop_samples, self.max_hops)

    def signature(self, hops_per_call: int) -> GraphSignature:
        """Names and shapes of one call at `hops_per_call`."""
        if not 1 <= hops_per_call <= self.max_hops:
            valid = f"1 to {self.max_hops} hops" if self.max_hops > 1 else "one hop"
            raise UsageError(f"{self.name} takes {valid} per call, got {hops_per_call}")
        samples = self.buffer_samples(hops_per_call)
        rate = self.geometry.sample_rate_hz
        channels = self.geometry.channels
        shape, kind = ((1, samples), "mono") if channels == 1 else ((1, channels, samples), f"{channels}-channel")
        audio = TensorSpec("audio", shape, (-1.0, 1.0), f"{kind} waveform at {rate} Hz, full scale 1.0")
        out = self.output
        if self.buffer_kind == "step" and self.output_kind in ("audio", "sources"):
            out = TensorSpec(out.name, (*out.shape[:-1], samples), out.range, out.meaning)
        outs = tuple(TensorSpec(name, out.shape, out.range, f"{name}: {out.meaning}") for name in self.sources)
        inputs = (audio, *self.further_inputs(samples))
        return GraphSignature(inputs, (*(outs or (out,)), *self.extra_outputs(hops_per_call)), self.states)

    @property
    def far(self) -> tuple[str, ...]:
        """Audio inputs of a custom net beside `audio`, one channel each."""
        return ()

    @property
    def constant_files(self) -> tuple[tuple[str, tuple[int, ...], str], ...]:
        """Name, shape and sha256 of each constant that a custom net was given."""
        return ()

    def further_inputs(self, samples: int) -> tuple[TensorSpec, ...]:
        """Of calls that take so many samples."""
        rate, shape = self.geometry.sample_rate_hz, (1, samples)
        meaning = f"mono waveform at {rate} Hz, of the same time as `audio`"
        return tuple(TensorSpec(name, shape, (-1.0, 1.0), meaning) for name in self.far)

    def extra_outputs(self, hops_per_call: int) -> tuple[TensorSpec, ...]:  # noqa: ARG002 a custom net's may grow with it
        """What a custom net gives beside the task's own output."""
        return ()

    def load_net(self, weights: Mapping[str, np.ndarray[Any, Any]]) -> nn.Module:
        """The offline net, in eval mode; its net.py imports torch.

        Args:
            weights: arrays by the net's own key names (models.pretrained.load gives them).

        Raises:
            WeightsError: the weights are another net's.
        """
        build = getattr(self._module("net"), self.factory.partition(":")[2])
        net: nn.Module = build(weights)
        return net.eval()

    def load_graph(self, net: nn.Module, hops_per_call: int) -> nn.Module:
        """The form of `net` that is exported: fixed buffer in, fixed buffer out, external state."""
        graph: nn.Module = self._module("net").graph(net, hops_per_call)
        return graph.eval()

    def given_weights(self, file: Path | None) -> WeightsFile | None:
        """A checkpoint of the user's, verified; None: the pretrained weights are wanted.

        Raises:
            WeightsError: no such file, or not the one that was published.
        """
        from models.weights.store import check_sidecar, user_file

        if file is None:
            return None
        weights = user_file(file)
        if self.weights_from:
            check_sidecar(weights, self.weights_from)
        return weights

    def arrays(self, weights: WeightsFile) -> Arrays:
        """What `load_net` takes."""
        from models.weights.checkpoint import load_file

        return load_file(weights.path)

    def origins(self, weights: WeightsFile) -> tuple[Origin, ...]:
        """Where its weights come from and under which licence, as far as it is known; at least one."""
        from models.weights.store import Origin

        if not weights.sources:
            return (Origin("user file", "", weights.sha256, "supplied by the user", "supplied by the user"),)
        return tuple(Origin(s.package, s.version, s.sha256, s.licence, s.citation) for s in weights.sources)

    def licence_text(self, weights: WeightsFile) -> str:
        """What LICENSES/ says where no file came with the weights; "" where one did."""
        return (
            "" if weights.licences else "The weights were supplied by the user; their licence is the user's to state.\n"
        )

    def label_names(self) -> tuple[str, ...]:
        """What each score of a classifier means, in order; empty for other nets. Raises as models.pretrained.pull."""
        from models.weights.assets import STREET
        from models.weights.fetch import ensure

        if self.output_kind != "scores":
            return ()
        if self.labels_file:
            return tuple(self.text(self.labels_file).splitlines())
        item = self.pretrained()
        if item is None:
            raise UsageError(f"{self.name}: no package holds its labels; its entry has to name a labels_file")
        return tuple((ensure(item, also=(STREET,)) / "labels.txt").read_text(encoding="utf-8").splitlines())

    def card_lines(self) -> list[str]:
        """What is known of it, for the model card."""
        return self.text(self.card_file).splitlines()

    def pretrained(self) -> Item | None:
        """The package that brings the weights (ITEM of the folder's pretrained.py); None where none does."""
        if not self.package or importlib.util.find_spec(f"{self.package}.pretrained") is None:
            return None
        item: Item = self._module("pretrained").ITEM
        return item

    def text(self, file: str) -> str:
        """A text file of the net's folder."""
        return (importlib.resources.files(self.package) / file).read_text(encoding="utf-8")

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{self.package}.{name}")
