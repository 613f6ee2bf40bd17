"""docs/formats.md: its tables name the fields of what is written, all of them and no others."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from converters.verify import _NOT_KEPT, ArtefactReport, VerifyReport
from streaming.advice.advise import Candidate
from streaming.advice.budget import FIGURES
from streaming.files.events import TimedEvent
from streaming.measure.calibration import CalibrationEntry
from streaming.measure.cold_start import ColdRun, ColdStart
from streaming.runs.record import LEDGER_COLUMNS, Counts, EventRecord, PlayoutRecord, RunRecord
from streaming.simulator.device.profile import DeviceProfile

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
TRACE = json.loads((ROOT / "docs" / "device-trace.schema.json").read_text(encoding="utf-8"))


def fields(kind: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set(kind.model_fields)


def named(after: str, column: int = 0, page: str = PAGE) -> set[str]:
    """The names in a column of the first table after a text."""
    lines = page.partition(after)[2].splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("|"))
    found: set[str] = set()
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        found.update(re.findall(r"`(\w+)`", line.split("|")[column + 1]))
    return found


TABLES = [
    ("## Events: events.csv", 0, fields(TimedEvent)),
    ("### run.json", 0, fields(RunRecord)),
    ("exact to 0.1 %. `counts`:", 0, fields(Counts)),
    ("`playout`, at the device's output rate:", 0, fields(PlayoutRecord)),
    ("### ledger.csv", 0, set(LEDGER_COLUMNS)),
    ("## Calibration", 0, fields(CalibrationEntry)),
    ("## Cold start", 0, fields(ColdStart)),
    ("Each of `runs`:", 0, fields(ColdRun)),
    ("## Advice", 0, fields(Candidate)),
    ("## A budget, and JUnit", 0, set(FIGURES)),
    ("## parity/MACHINE.json", 0, fields(VerifyReport) - set(_NOT_KEPT)),
    ("Each of `artefacts`:", 0, fields(ArtefactReport)),
    ("## A device profile", 1, fields(DeviceProfile) - {"name", "title", "sources"}),
    ("## A device trace", 0, set(TRACE["properties"]) - {"schema"}),
]


@pytest.mark.parametrize(("after", "column", "expected"), TABLES, ids=[after for after, _, _ in TABLES])
def test_a_table_has_every_field_and_no_other(after: str, column: int, expected: set[str]) -> None:
    assert PAGE.count(after) == 1
    assert named(after, column) == expected


def test_the_fields_of_an_event_of_a_run_are_named() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `events` |"))
    assert set(re.findall(r"`(\w+)`", row)) - {"events"} == fields(EventRecord)


def test_a_field_that_is_not_there_would_be_found() -> None:
    page = PAGE.replace("| `total_ns` |", "| `sum_ns` |")
    assert named("### ledger.csv", page=page) != set(LEDGER_COLUMNS)
