"""TorchScript run by Python: options, lists, loops and branches on shapes; state and errors are told."""

from __future__ import annotations

from typing import Any, Optional

import pytest
import torch
from torch import Tensor, nn

from models.common.errors import ConversionError
from models.graph.capture import capture
from models.graph.scripted import ScriptReader

_script: Any = torch.jit.script


class Cell(nn.Module):
    """A cell whose state may be missing, over a list of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor, state: Optional[Tensor] = None) -> tuple[Tensor, Tensor]:  # noqa: UP045 TorchScript
        if state is None or len(state) == 0:
            h, c = torch.zeros(1, 6), torch.zeros(1, 6)
        else:
            h, c = state[0], state[1]
        outs: list[Tensor] = []
        for part in torch.chunk(x, 3, 1):
            h, c = self.cell(part, (h, c))
            outs.append(h * self.scale)
        for turn in range(x.shape[1] // 4):
            if turn > 1:
                outs.append(outs[turn - 2] + float(turn))
        return torch.cat(outs, 1), torch.stack([h, c])


class Outer(nn.Module):
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Any:
        return self.inner(*inputs)


def test_it_gives_what_the_script_gives_and_can_be_captured() -> None:
    torch.manual_seed(0)
    script = _script(Cell().eval())
    reader = ScriptReader(script, "net")
    x, state = torch.randn(1, 12), torch.randn(2, 1, 6)
    for given in ((x,), (x, state), (x, state[:0])):
        for one, two in zip(script(*given), reader(*given), strict=True):
            assert one.shape == two.shape == (1, 24) or one.shape == two.shape == (2, 1, 6)
            assert torch.equal(one, two)
    names = {str(node.target) for node in capture(Outer(script), (x, state), "net").graph.nodes}
    assert any("lstm_cell" in name or "sigmoid" in name for name in names)


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        return 2.0 * x


class Strict(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != 5:
            raise ValueError("five samples, not more")
        return 2.0 * x


@pytest.mark.parametrize(("net", "told"), [(Remembering(), "changes 'last'"), (Strict(), "five samples")])
def test_state_and_what_it_raises_are_told(net: nn.Module, told: str) -> None:
    with pytest.raises(ConversionError, match=told):
        ScriptReader(_script(net.eval()), "net")(torch.ones(1, 4))
