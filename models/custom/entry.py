"""A custom net, the user's own, in the shape of a catalogue entry. Light: no torch, no numpy.

What a user says is in a geometry.toml (models/custom/geometry_toml.py reads it) or in a mapping of the same
shape; the net comes from a file or a module of theirs (models/custom/loading.py). Forms, by what forward takes and
gives:

    window   audio [1, window] -> scores [1, labels], or an embedding; with a front end, features instead of audio
    step     audio [1, hops x hop], states... -> out, states...; the user names the states
    causal   audio [1, n] -> [1, n] (or scores of every hop): an offline net that looks at no later sample;
             hearpack takes its state out (models/custom/causal/convert.py)
    keras    a .keras file that is called on windows
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from models.custom.shapes.inputs import Constant
from models.custom.shapes.outputs import ExtraOutput, Pick
from models.entry import ModelEntry
from models.geometry import TensorSpec
from models.layers.front_end_spec import FrontEndSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from models.weights.checkpoint import Arrays
    from models.weights.store import Origin, WeightsFile

Form = Literal["window", "step", "causal", "keras"]
Activation = Literal["none", "sigmoid", "softmax", "unit"]


@dataclass(frozen=True)
class CustomOriginal:
    """Which net a bundle was made of.

    Attributes:
        factory: "net.py:build" (the file's name alone: a bundle holds no path), "package.module:build" or "net.keras".
        source_sha256: over the user's sources that were loaded, and what of the geometry takes part in the arithmetic.
        weights_sha256: of every parameter and buffer, as a safetensors file would hold them.
        sources: path and sha256 of each of those sources, so that they can be compared before any is executed.
        taken_sha256: over what else was imported or read while the net was built, and what the net gives for noise:
            an export is known by it, a bundle does not hold it.
    """

    factory: str = ""
    source_sha256: str = ""
    weights_sha256: str = ""
    sources: tuple[tuple[str, str], ...] = ()
    taken_sha256: str = ""


@dataclass(frozen=True)
class CustomEntry(ModelEntry):
    """A catalogue entry for a custom net.

    Attributes:
        form: see the top of this file.
        layout: order of axes in which a net without front end takes its audio.
        activation: put behind a classifier that gives logits; "unit" gives an embedding unit length.
        lookahead: what becomes of a causal net's look-ahead: an error, or delay.
        lookahead_samples: that became delay; part of the geometry's delay_samples.
        front_end: features in front of the net.
        state_structure: of names of states, lists and mappings, as a step's forward takes them; None: one by one.
        state_dtypes: name and type of each state that is not float32 in the net.
        constants: tensors that forward takes, the same at every call: part of the graph.
        far_inputs: names of audio inputs beside the first.
        outputs_said: what its user says of several outputs: name, and key in a dict ("": by position).
        picks: where each output of its signature is in what forward returns; () where that is one tensor.
        extras: outputs beside the task's own.
        labels: of a classifier, in the order of its scores.
        fp32_named: submodules that the user wants in float32 in fp16 artefacts; `fp32_modules` names all, as the graph
            has them.
        licence, citation: what the user says of the weights.
        assumed: sentences on what the user did not say.
        insensitive: it hardly reacts to its input, and its user wanted to go on.
        original: which net this is.
        net: the loaded net (torch or a traced Keras model); no part of the entry's identity, which `original` is.
        weights_file, keras_file: where its weights were read from; no part of its identity either.
    """

    package: str = "models.custom"
    form: Form = "window"
    layout: str = "samples"
    activation: Activation = "none"
    lookahead: Literal["refuse", "delay"] = "refuse"
    lookahead_samples: int = 0
    front_end: FrontEndSpec | None = None
    state_structure: Any = None
    state_dtypes: tuple[tuple[str, str], ...] = ()
    constants: tuple[Constant, ...] = ()
    far_inputs: tuple[str, ...] = ()
    outputs_said: tuple[tuple[str, str], ...] = ()
    picks: tuple[Pick, ...] = ()
    extras: tuple[ExtraOutput, ...] = ()
    labels: tuple[str, ...] = ()
    fp32_named: tuple[str, ...] = ()
    licence: str = "not stated"
    citation: str = "not stated"
    assumed: tuple[str, ...] = ()
    insensitive: bool = False
    original: CustomOriginal = CustomOriginal()
    net: Any = field(default=None, compare=False, repr=False)
    weights_file: str = field(default="", compare=False, repr=False)
    keras_file: str = field(default="", compare=False, repr=False)

    def arithmetic(self) -> str:
        """What takes part in the arithmetic, as text: a change of it is another original."""
        parts = (self.form, self.layout, self.activation, self.front_end, self.geometry, self.states, self.output.shape)
        more = (self.outputs_said, self.constants, self.far_inputs, self.state_structure, self.state_dtypes)
        return repr(parts) + "".join(map(repr, filter(None, more)))

    def offline_key(self) -> str:
        """What decides its offline form, besides the net: nothing that hearpack finds out itself."""
        geometry = replace(self.geometry, delay_samples=0)
        parts = (self.form, self.layout, self.activation, self.front_end, geometry, self.fp32_named)
        more = (self.picks, self.constants, self.far_inputs, self.state_structure, self.state_dtypes)
        return repr((*parts, *more, self.output.shape, self.lookahead, () if self.form == "causal" else self.states))

    @property
    def source_sha256(self) -> str:
        """Over the user's sources, and what of the geometry takes part in the arithmetic."""
        return self.original.source_sha256

    @property
    def source_files(self) -> tuple[tuple[str, str], ...]:
        """Path and sha256 of each of the user's sources."""
        return self.original.sources

    def offline_shape(self, hops: int) -> tuple[int, ...]:
        """What the net gives for a recording of `hops` hops: samples (of a source), or scores of every hop."""
        if self.output_kind == "scores":
            return (1, hops, len(self.labels))
        return (1, *self.geometry.lead, hops * self.geometry.hop_samples)

    @property
    def far(self) -> tuple[str, ...]:
        """Audio inputs beside the first."""
        return self.far_inputs

    @property
    def constant_files(self) -> tuple[tuple[str, tuple[int, ...], str], ...]:
        """Name, shape and sha256 of each constant."""
        return tuple((c.name, c.shape, c.sha256) for c in self.constants)

    def extra_outputs(self, hops_per_call: int) -> tuple[TensorSpec, ...]:
        """What it gives beside the task's own output."""
        return tuple(extra.spec(hops_per_call) for extra in self.extras)

    def given_weights(self, file: Path | None) -> WeightsFile:  # noqa: ARG002 it was loaded and hashed with them
        """Those of the loaded net."""
        from models.weights.store import WeightsFile

        return WeightsFile(Path(self.original.factory), self.original.weights_sha256)

    def arrays(self, weights: WeightsFile) -> Arrays:  # noqa: ARG002 as above
        """Nothing: they are in the net."""
        return {}

    def origins(self, weights: WeightsFile) -> tuple[Origin, ...]:
        """As its author states them."""
        from models.weights.store import Origin

        return (Origin(f"the user's {self.original.factory}", "", weights.sha256, self.licence, self.citation),)

    def licence_text(self, weights: WeightsFile) -> str:  # noqa: ARG002 as above
        """As its author states it."""
        return f"Licence of {self.name} and its weights, as its author states it: {self.licence}\n{self.citation}\n"

    def label_names(self) -> tuple[str, ...]:
        """Those of the geometry.toml."""
        return self.labels

    def card_lines(self) -> list[str]:
        """What was assumed."""
        if not self.assumed:
            return []
        return ["## Assumed, because it was not said", "", *(f"- {sentence}" for sentence in self.assumed)]

    def load_net(self, weights: Mapping[str, np.ndarray[Any, Any]]) -> nn.Module:  # noqa: ARG002 the net has its own
        """The net over a whole recording; it was loaded with its weights."""
        net: nn.Module = self._module("forms").offline(self)
        return net

    def load_graph(self, net: nn.Module, hops_per_call: int) -> nn.Module:  # noqa: ARG002 made of the net in the entry
        """The form that is exported."""
        graph: nn.Module = self._module("forms").graph(self, hops_per_call)
        return graph
