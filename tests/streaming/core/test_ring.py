"""The ring loses nothing unaccounted: written = read + held + dropped after every operation, samples in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from models.common.errors import UsageError
from streaming.core.ring import RingBuffer


class RingAgainstList(RuleBasedStateMachine):
    """The ring and a plain list do the same; every sample has a number, so none can be lost or doubled unseen."""

    @initialize(capacity=st.integers(1, 64), overflow=st.sampled_from(["oldest", "newest"]))
    def begin(self, capacity: int, overflow: str) -> None:
        self.ring = RingBuffer(capacity, overflow)  # type: ignore[arg-type]
        self.clear()

    def clear(self) -> None:
        self.model: list[float] = []
        self.next = 0
        self.out: list[float] = []
        self.lost = 0

    @rule(count=st.integers(0, 150))
    def write(self, count: int) -> None:
        block = np.arange(self.next, self.next + count, dtype=np.float32)
        self.next += count
        dropped = self.ring.write(block)
        surplus = max(0, len(self.model) + count - self.ring.capacity)
        joined = self.model + block.tolist()
        self.model = joined[surplus:] if self.ring.overflow == "oldest" else joined[: len(joined) - surplus]
        self.lost += surplus
        assert dropped == surplus

    @rule(count=st.integers(0, 100))
    def read(self, count: int) -> None:
        out = np.full(count, -1.0, np.float32)
        if self.ring.read_into(out):
            assert out.tolist() == self.model[:count]
            self.out += self.model[:count]
            self.model = self.model[count:]
        else:
            assert len(self.model) < count
            assert (out == -1.0).all()

    @rule()
    def reset(self) -> None:
        self.ring.reset()
        self.clear()

    @invariant()
    def conserves(self) -> None:
        ring = self.ring
        assert ring.written == self.next == ring.read + ring.held + ring.dropped
        assert (ring.read, ring.held, ring.dropped) == (len(self.out), len(self.model), self.lost)
        assert 0 <= ring.held <= ring.high_water <= ring.capacity
        assert ring.entered == ring.position + ring.held
        assert self.out == sorted(set(self.out))


TestRing = RingAgainstList.TestCase
TestRing.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("overflow", ["oldest", "newest"])
def test_a_million_operations_lose_nothing(overflow: str) -> None:
    generator = np.random.default_rng(5)
    ring = RingBuffer(1000, overflow)  # type: ignore[arg-type]
    steps = 500_000
    counts = generator.integers(0, 300, 2 * steps)
    source = np.arange(300, dtype=np.float32)
    out = np.zeros(300, np.float32)
    read = 0
    for i in range(0, 2 * steps, 2):
        ring.write(source[: counts[i]])
        if ring.read_into(out[: counts[i + 1]]):
            read += int(counts[i + 1])
        if ring.written != ring.read + ring.held + ring.dropped:
            pytest.fail(f"operation {i}: {ring.written} != {ring.read} + {ring.held} + {ring.dropped}")
    assert ring.written == int(counts[::2].sum())
    assert ring.read == read
    assert ring.overruns > 1000
    assert ring.underruns > 1000


def test_absurd_rings_are_refused() -> None:
    with pytest.raises(UsageError, match="capacity"):
        RingBuffer(0)
    with pytest.raises(UsageError, match="overflow"):
        RingBuffer(4, "random")  # type: ignore[arg-type]
