"""What a budget says, and what is refused."""

from __future__ import annotations

import math

import pytest

from converters.search.budget import Budget, parse_budget
from models.common.errors import UsageError


def test_a_budget_of_an_enhancer() -> None:
    budget = parse_budget("size=1MB, pesq=-0.05,si-sdr=0.2", "audio", False)
    assert (budget.size_bytes, dict(budget.losses)) == (1_000_000, {"pesq": 0.05, "si_sdr": 0.2})
    assert budget.used({"pesq": 0.05, "si_sdr": -1.0}) == pytest.approx(1.0)
    assert budget.used({"pesq": 0.01, "si_sdr": 0.3}) == pytest.approx(1.5)
    assert budget.used({"pesq": 0.01}) == math.inf  # what was not measured is not within
    assert Budget(1).used({}) == 0.0


def test_a_budget_of_a_classifier() -> None:
    budget = parse_budget("size=350kB,decisions=99.5", "scores", False)
    assert (budget.size_bytes, dict(budget.losses)) == (350_000, {"decisions": 0.5})
    assert dict(parse_budget("top1=-0.5", "scores", False).losses) == {"top1": 0.5}
    assert dict(parse_budget("top1=-0.5,map=-1", "scores", True).losses) == {"accuracy": 0.5, "map": 1.0}
    assert parse_budget("size=2MiB", "scores", False).size_bytes == 2 * 1024**2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected size=..., a figure, or both"),
        ("size", "expected NAME=VALUE of size, pesq"),
        ("volume=3", "got 'volume=3'"),
        ("size=0MB", "expected such as 1MB"),
        ("size=1TB", "got '1TB'"),
        ("pesq=0", "not 0, such as -0.05"),
        ("pesq=x", "got 'x'"),
        ("decisions=99.5", "its figures are pesq, si-sdr, stoi, lsd"),
    ],
)
def test_what_is_no_budget_of_an_enhancer(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_budget(text, "audio", False)


def test_what_is_no_budget_of_a_classifier() -> None:
    with pytest.raises(UsageError, match="give --labelled FOLDER"):
        parse_budget("map=-1", "scores", False)
    with pytest.raises(UsageError, match="a share in %"):
        parse_budget("decisions=100", "scores", False)
