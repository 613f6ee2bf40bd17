"""A budget for CI: figures with limits in a TOML file, compared with a run or a bundle, reported as JUnit XML.

    [budget]                      # every figure is a limit from above
    size_mb = 4.5
    compute_p99_ms = 2.0
    ...

A figure that the budget names and nothing measured is an error, never a pass.
"""

from __future__ import annotations

import difflib
import math
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.common.errors import UsageError
from models.common.files import read_text, save_text
from models.common.parsing import parse_toml
from models.common.printable import printable

# name: (unit, what it is)
FIGURES: Mapping[str, tuple[str, str]] = {
    "size_mb": ("MB", "bytes of the artefact / 1,000,000"),
    "compute_p99_ms": ("ms", "99th percentile of a call's computing time, paced"),
    "rtf": ("", "mean computing time of a call / the hop it has: below 1 keeps up"),
    "delay_ms": ("ms", "end-to-end delay from microphone to result, 95th percentile"),
    "cold_start_ms": ("ms", "launch of a process to ready, median of fresh processes, caches cold"),
    "first_decision_ms": ("ms", "launch of a process to its first decision, median, caches cold"),
    "memory_mb": ("MB", "peak resident memory of a fresh process, median"),
    "misses": ("", "calls that were not done when the next one was due"),
    "lost_samples": ("", "input samples that overload policies or overruns dropped"),
}
Kind = Literal["measured", "modelled", "counted"]


def number(value: float) -> str:
    """For people: four digits, thousands whole: 0.01234, 4.5, 12,345."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.4g}"


@dataclass(frozen=True)
class Figure:
    """A value with where it comes from.

    Attributes:
        value: in the figure's unit.
        kind: "measured" on this machine, "modelled" by a profile, or "counted" in a file.
        how: in a few words, from what.
    """

    value: float
    kind: Kind
    how: str


@dataclass(frozen=True)
class Check:
    """One line of a budget."""

    name: str
    limit: float
    figure: Figure
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the value is at most the limit; NaN is not."""
        return self.figure.value <= self.limit

    @property
    def sentence(self) -> str:
        """The check as a sentence."""
        verb = "within" if self.passed else "past"
        unit = f" {self.unit}" if self.unit else ""
        source = f"{self.figure.kind}: {self.figure.how}"
        return f"{self.name} {number(self.figure.value)}{unit} is {verb} {number(self.limit)}{unit} ({source})"


@dataclass(frozen=True)
class GateReport:
    """A run or a bundle, compared with a budget."""

    subject: str
    budget: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def save(self, path: str | Path) -> None:
        """Write the report as JUnit XML; OutputError if it cannot be written."""
        save_text(path, junit(self))


def read_budget(path: Path) -> dict[str, float]:
    """The limits of a budget file, in its order.

    Raises:
        UsageError: no such file, no TOML, no [budget], a figure that is unknown, or a limit that is no number.
    """
    try:
        data = parse_toml(read_text(path))
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: the budget cannot be read: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"{path}: no TOML: {exc}") from exc
    budget = data.get("budget")
    if not isinstance(budget, dict) or not budget:
        raise UsageError(f"{path}: expected a table [budget] with limits; figures: {', '.join(FIGURES)}")
    if set(data) != {"budget"}:
        raise UsageError(f"{path}: expected [budget] alone, got also {', '.join(sorted(set(data) - {'budget'}))}")
    for name, limit in budget.items():
        if name not in FIGURES:
            near = difflib.get_close_matches(name, FIGURES, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UsageError(f"{path}: unknown figure {name!r}{hint}; valid figures: {', '.join(FIGURES)}")
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit) or limit < 0:
            raise UsageError(f"{path}: {name}: expected a number of at least 0, got {limit!r}")
    return {name: float(limit) for name, limit in budget.items()}


def compare(subject: str, budget_name: str, budget: Mapping[str, float], figures: Mapping[str, Figure]) -> GateReport:
    """Compare figures with a budget.

    Raises:
        UsageError: the budget names a figure that nothing gave.
    """
    missing = [name for name in budget if name not in figures]
    if missing:
        raise UsageError(
            f"{subject}: the budget asks for {', '.join(missing)}, which it does not hold; it has: "
            f"{', '.join(figures) or 'none'}. Gate the bundle itself, or give what is missing "
            f"(--bundle BUNDLE, --coldstart FILE)"
        )
    checks = tuple(Check(name, limit, figures[name], FIGURES[name][0]) for name, limit in budget.items())
    return GateReport(subject, budget_name, checks)


def junit(report: GateReport) -> str:
    """The report as JUnit XML: one test case a figure; the same report gives the same bytes."""
    failed = sum(not c.passed for c in report.checks)
    totals = {"tests": str(len(report.checks)), "failures": str(failed), "errors": "0", "skipped": "0"}
    suites = ET.Element("testsuites", {"name": "hearpack gate", **totals})
    suite = ET.SubElement(suites, "testsuite", {"name": f"{report.subject} against {report.budget}", **totals})
    for check in report.checks:
        case = ET.SubElement(suite, "testcase", {"classname": f"hearpack.gate.{report.subject}", "name": check.name})
        properties = ET.SubElement(case, "properties")
        for key, value in (("value", f"{check.figure.value:.6g}"), ("limit", f"{check.limit:g}"), ("unit", check.unit),
                           ("kind", check.figure.kind), ("how", check.figure.how)):  # fmt: skip
            ET.SubElement(properties, "property", {"name": key, "value": value})
        if not check.passed:
            failure = ET.SubElement(case, "failure", {"type": "budget", "message": check.sentence})
            failure.text = FIGURES[check.name][1]
        ET.SubElement(case, "system-out").text = check.sentence
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{printable(ET.tostring(suites, encoding="unicode"), lines=True)}\n'
