"""models.custom.causal.offline: the offline net at a length, and a graph that grows without bound."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.common.errors import ConversionError
from models.custom.causal import offline
from models.custom.causal.offline import record, recording
from tests.models.custom.causal.nets import Do, Wrapped, entry_for


def every_sample(x: Tensor) -> Tensor:
    level, rows = torch.zeros(1, 8), []
    for t in range(x.shape[-1]):
        level = 0.5 * level + x[..., t]
        rows.append(level)
    return torch.stack(rows, -1)


def test_a_graph_that_grows_without_bound_is_stopped_at_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "MOST_OPERATIONS", 100)
    entry = entry_for(Wrapped(Do(every_sample)))
    assert len(recording(entry, 12).nodes) > 12
    with pytest.raises(
        ConversionError,
        match=r"more than 100 operations for 40 hops of audio \(test_offline.py, line \d+\): the graph grows",
    ):
        recording(entry, 40)


def test_every_value_is_what_the_net_computes() -> None:
    net = Wrapped(nn.ReLU())
    short = recording(entry_for(net), 12)
    audio = torch.linspace(-1.0, 1.0, 12 * 32)[None]
    values = record(short.module, audio)
    assert list(values) == short.nodes
    (output,) = list(values.values())[-1]
    torch.testing.assert_close(output, net(audio[:, None]))
    with pytest.raises(ConversionError, match=r"'encoder' \(Conv1d\) does not run on audio \[1, 1, 384\]"):
        record(short.module, audio[None])
