"""Every reader on damaged files: one clear error or a result; no traceback, no death, no hang, no full memory.

Bounded and seeded; `make fuzz` goes on with other seeds. What a long run finds becomes a case here or in the reader's
own tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.__main__ import as_table, bad_cases
from tests.fuzz.kinds import kinds
from tests.fuzz.mutate import damage_bytes, damage_json, damage_text
from tests.fuzz.pool import Tally, attempt

SEED = 22


@pytest.mark.parametrize("name", kinds())
def test_damaged_files_are_refused_in_one_line_or_read(name: str, tmp_path: Path) -> None:
    kind = kinds()[name]
    tally = attempt(kind, SEED, 0, kind.suite, tmp_path)
    assert sum(tally.counts.values()) == kind.suite
    assert tally.counts["clean"] > 0, "no damage was noticed: nothing was tried"
    assert tally.bad == [], bad_cases([tally])


@pytest.mark.parametrize("damage", [damage_bytes, damage_text, damage_json])
def test_the_same_seed_makes_the_same_damage(damage: object) -> None:
    good = json.dumps({"a": [1, 2.5, "x"], "b": {"c": None}}).encode()
    made = [[damage(Random(seed), good) for seed in range(200)] for _ in range(2)]  # type: ignore[operator]
    assert made[0] == made[1]
    assert len(set(made[0])) > 50


def test_the_table_has_a_line_a_kind_and_a_sum() -> None:
    tally = Tally("toml", 1)
    tally.add(0, "ok", "")
    tally.add(1, "hang", "20 s")
    lines = as_table([tally]).splitlines()
    assert lines[2] == "| toml | 2 | 1 | 0 | 0 | 0 | 0 | 1 | 0 |"
    assert lines[3].startswith("| all | 2 |")
    assert bad_cases([tally]) == "toml --seed 1 --only 1: hang: 20 s"
