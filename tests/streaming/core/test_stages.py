"""Several nets on one stream: any partition gives the same calls, gates spare calls, ports have a golden file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import ArtefactError, UsageError
from streaming.core.stages import StageNet, StageOutput, Stages
from tests.fixtures.stages import make_golden as toys

GOLDEN: dict[str, Any] = json.loads(toys.GOLDEN.read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in GOLDEN["cases"]}
INPUT = (np.array(GOLDEN["input"]) / 32768.0).astype(np.float32)


def stages_of(case: dict[str, Any]) -> Stages:
    return Stages([toys.net(fields) for fields in case["nets"]], case["rate_hz"])


def streamed(stages: Stages, sizes: list[int]) -> list[StageOutput]:
    outputs, at = [], 0
    for size in [*sizes, len(INPUT)]:
        outputs += stages.push(INPUT[at : at + size])
        at = min(at + size, len(INPUT))
    return outputs + stages.flush()


def test_the_golden_file_is_what_its_generator_writes() -> None:
    assert toys.golden() == GOLDEN
    assert len(CASES) == 5
    assert all(len(case["events"]) >= 2 for case in CASES.values())
    assert all(any(case["audio"].values()) for case in CASES.values())


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(st.integers(0, 60), max_size=60))
def test_any_partition_gives_the_same_calls_in_the_same_order(name: str, sizes: list[int]) -> None:
    case = CASES[name]
    stages = stages_of(case)
    for _ in range(2):  # a reset begins anew
        got = toys.told(case["nets"], streamed(stages, sizes))
        assert {k: case[k] for k in got} == got
        assert list(stages.calls) == case["calls"]
        assert list(stages.in_samples) == case["in_samples"]
        stages.reset()


def test_one_net_alone_and_two_beside_each_other_give_the_same() -> None:
    beside = CASES["beside"]
    both = streamed(stages_of(beside), [])
    for index, fields in enumerate(beside["nets"]):
        alone = streamed(Stages([toys.net(fields)], beside["rate_hz"]), [7] * 40)
        of_both = [o for o in both if o.stage == index]
        assert [o.end_sample for o in alone] == [o.end_sample for o in of_both]
        assert [o.events for o in alone] == [o.events for o in of_both]
        assert all(np.array_equal(a.values, b.values) for a, b in zip(alone, of_both, strict=True))


def test_what_hears_an_enhancer_has_the_streams_own_times() -> None:
    """The toy gives its input unchanged, a call late: a classifier behind it hears what one beside it hears."""
    beside, behind = (CASES[name]["events"] for name in ("beside", "behind"))
    assert [e[:5] for e in beside] == [e[:5] for e in behind]
    lead_in, samples = 6, len(INPUT)
    assert CASES["behind"]["in_samples"] == [samples, samples]
    assert np.array_equal(np.array(CASES["behind"]["audio"]["0"], np.uint32).view(np.float32)[lead_in:], INPUT)


def test_a_shut_gate_spares_the_calls_and_gives_silence() -> None:
    case = CASES["gated"]
    stages = stages_of(case)
    outputs = streamed(stages, [])
    enhancer = [o for o in outputs if o.stage == 1]
    on, silent = False, 0
    for output in outputs:
        if output.stage == 0:
            for event in output.events:
                if event.index == 1 and len(output.values):
                    on = event.offset_sample is None
        elif not on:
            assert not output.values.any()
            silent += 1
    assert 0 < silent < len(enhancer)
    assert stages.calls[1] == len(enhancer) - silent


def test_a_gate_that_opens_begins_from_the_reset_state() -> None:
    case = CASES["gated"]
    outputs = streamed(stages_of(case), [])
    before, spoken = True, []
    for output in outputs:
        if output.stage == 0 and any(e.index == 1 and e.offset_sample is None for e in output.events):
            before = True
        elif output.stage == 1:
            if before:
                spoken.append(output.values)
            before = False
    assert len(spoken) >= 3
    assert not any(first.any() for first in spoken)  # nothing of what was heard before the gate shut


def test_a_runtime_that_fails_ends_the_stream_until_a_reset() -> None:
    case = CASES["beside"]
    nets = [toys.net(fields) for fields in case["nets"]]
    toy = nets[1].runtime
    assert isinstance(toy, toys.Toy)
    toy.fails = True
    stages = Stages(nets, 16_000)
    with pytest.raises(ArtefactError, match="out of luck"):
        stages.push(INPUT)
    with pytest.raises(UsageError, match="reset"):
        stages.push(INPUT)
    toy.fails = False
    stages.reset()
    assert toys.told(case["nets"], streamed(stages, []))["events"] == case["events"]
    with pytest.raises(UsageError, match="flushed"):
        stages.push(INPUT)


def net(task: str, **places: Any) -> StageNet:
    fields = {"task": task, "rate_hz": 16_000, "samples": 8, "hop": 8, "hears": None, "gate": None}
    return toys.net(fields | places)


@pytest.mark.parametrize(
    ("nets", "message"),
    [
        ([], "at least one net"),
        ([net("classifier"), net("enhancer", hears=0)], "gives no sound"),
        ([net("enhancer", hears=0)], "before it only"),
        ([net("enhancer", gate=(0, 0))], "before it only"),
        ([net("classifier"), net("enhancer", gate=(0, 2))], "no label 2"),
        ([net("enhancer"), net("enhancer", gate=(0, 0))], "no label 0"),
    ],
)
def test_what_does_not_fit_is_named(nets: list[StageNet], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Stages(nets, 16_000)


def test_what_no_net_may_be_given_never_reaches_one() -> None:
    case = CASES["beside"]
    stages = stages_of(case)
    spoilt = INPUT.copy()
    spoilt[100], spoilt[200] = np.nan, 99.0
    stages.push(spoilt)
    quiet = [o for o in stages.flush() if len(o.values)]
    assert all(np.isfinite(o.values).all() for o in quiet)
