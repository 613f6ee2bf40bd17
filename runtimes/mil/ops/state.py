"""Core ML's own state (iOS 18). A state is a cell that holds one tensor; what is read never changes afterwards."""

from __future__ import annotations

from torch import Tensor

from runtimes.mil.ops.table import Kernel, Node, op

Cell = list[Tensor]


@op("read_state", rounds=False, pure=False)
def read_state(_node: Node) -> Kernel:
    """The tensor in the state."""
    return Kernel(lambda cell: cell[0], ("input",))


@op("write_state", rounds=False, pure=False)
def write_state(_node: Node) -> Kernel:
    """Replace the tensor in the state."""

    def run(cell: Cell, data: Tensor) -> tuple[()]:
        if data.shape != cell[0].shape:
            raise ValueError(f"a state of shape {list(cell[0].shape)} is written with {list(data.shape)}")
        cell[0] = data
        return ()

    return Kernel(run, ("input", "data"))
