"""The nets hearpack knows. Light: importing this must not import torch.

A net is a folder in models/nets and a line here. Its folder has entry.py (what it declares), net.py with

    build(weights: Mapping[str, ndarray]) -> nn.Module           the offline form: forward(audio [1, n])
    graph(net, hops_per_call: int) -> nn.Module                  the form that is exported

where `build` raises WeightsError unless the weights are the net's by name, shape and type, `graph` raises UsageError
where it does not take so many hops, and a graph's forward takes and returns the tensors of
`entry.signature(hops_per_call)` in order; card.md; and pretrained.py with ITEM where a package brings its weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from models.common.errors import UsageError
from models.entry import ModelEntry
from models.nets.deepfilternet3.entry import DEEPFILTERNET3
from models.nets.dtln.entry import DTLN
from models.nets.gtcrn.entry import GTCRN
from models.nets.panns.entry import PANNS_CNN14, PANNS_MOBILENET
from models.nets.silero_vad.entry import SILERO_VAD
from models.nets.unet.entry import UNET_SEPARATOR
from models.nets.yamnet.entry import YAMNET

CATALOG: Mapping[str, ModelEntry] = {
    entry.name: entry
    for entry in (YAMNET, DTLN, GTCRN, DEEPFILTERNET3, SILERO_VAD, PANNS_CNN14, PANNS_MOBILENET, UNET_SEPARATOR)
}


def find(name: str) -> ModelEntry:
    """The entry called `name`, or UsageError offering the nearest names."""
    if name in CATALOG:
        return CATALOG[name]
    near = difflib.get_close_matches(name, CATALOG, n=3, cutoff=0.4)
    offer = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(f"unknown model {name!r}; {offer}known models: {', '.join(sorted(CATALOG))}")
