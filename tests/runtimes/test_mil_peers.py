"""The evaluator before other people's tests: a seeded sample of coremltools' own suite, predicted by runtimes.mil.

`make peer-tests` runs it whole. HEARPACK_PEER_SAMPLE (a factor) enlarges the samples.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

coremltools = pytest.importorskip("coremltools")
pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "tests" / "peers"
SEED, FACTOR = 11, float(os.environ.get("HEARPACK_PEER_SAMPLE", "1"))
SHARES = {"ops": 0.04, "torch": 0.01}
# These samples predict 675 and 182; fewer than this and the judge has stopped judging.
FEWEST_PREDICTIONS = {"ops": 600, "torch": 150}


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"peer_{name}", PEERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


run = _load("run")


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("peers")
    answer: dict[str, Any] = {}
    for suite, share in SHARES.items():
        # --fp32: the cases that compare within 1e-4; those of the default switches allow 0.5.
        command = [sys.executable, str(PEERS / "run.py"), "--suite", suite, "--sample", str(min(share * FACTOR, 1.0))]
        command += ["--seed", str(SEED), "-n", "1", "--fp32", "--json", "--out", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        answer |= json.loads(done.stdout)
    return answer


def test_the_sample_is_not_trivial(results: dict[str, Any]) -> None:
    for suite, fewest in FEWEST_PREDICTIONS.items():
        assert results[suite]["predicted"] >= fewest * min(FACTOR, 1.0)
    assert len(results["ops"]["groups"]) >= 80
    assert len(results["ops"]["ops"]) >= 60
    assert results["ops"]["missing_ops"] == {}


def test_predictions_equal_what_coremltools_expects(results: dict[str, Any]) -> None:
    for suite, result in results.items():
        explained = sum(len(cases) for cases in result["explained"].values())
        assert len(result["unexplained"]) <= 0.01 * result["predicted"], (suite, result["unexplained"])
        # known.toml may name differences; it may not become a place to hide them.
        assert explained <= 0.1 * result["predicted"], (suite, result["explained"])


def test_a_wrong_operation_is_found_out(tmp_path: Path) -> None:
    # The predictions come from our table: a sigmoid that is off by 1 must turn equal into different.
    (tmp_path / "sabotage.py").write_text(
        "import torch\nfrom runtimes.mil.ops.table import TABLE, simple\n"
        "simple('sigmoid', lambda x: torch.sigmoid(x) + 1.0, 'x')\n"
    )
    root = Path(coremltools.__file__).parent
    lines = tmp_path / "cases.jsonl"
    command = [sys.executable, "-m", "pytest", "-p", "plugin", "-p", "sabotage", "-c", str(PEERS / "pytest.ini")]
    command += ["-q", "-W", "ignore", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(root)]
    command += ["--peer-out", str(lines), "-k", "test_builder_to_backend_smoke and (TestSigmoid or TestReLU)"]
    command += [str(root / run.SUITES["ops"][0] / "iOS14" / "test_activation.py")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PEERS), str(ROOT), str(tmp_path)])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    verdicts = {r["group"].rpartition(":")[2]: r["verdict"] for r in rows if "mlprogram" in r["case"]}
    assert done.returncode == 1, done.stdout
    assert verdicts["TestSigmoid"] == "different"
    assert verdicts["TestReLU"] == "equal"
    assert verdicts["TestSigmoidHard"] == "equal"


def _trace(**changes: Any) -> dict[str, Any]:
    return {"predictions": 0, "out_of_scope": "", "missing": "", "refused": ""} | changes


@pytest.mark.parametrize(
    ("trace", "outcome", "expected_failure", "word"),
    [
        (_trace(predictions=1), "passed", False, "equal"),
        (_trace(predictions=2), "failed", False, "different"),
        (_trace(refused="x"), "failed", False, "refused"),
        (_trace(missing="resize"), "failed", False, "unsupported"),
        (_trace(out_of_scope="neural network"), "failed", False, "out of scope"),
        (_trace(predictions=1), "skipped", True, "expected failure"),
        (_trace(), "passed", False, "no prediction, passed"),
        (_trace(), "failed", False, "no prediction, failed"),
    ],
)
def test_verdicts(trace: dict[str, Any], outcome: str, expected_failure: bool, word: str) -> None:
    assert run.verdict(trace, outcome, expected_failure) == word


def test_the_summary_counts_a_refusal_against_us() -> None:
    known = [run.Known("named", run.re.compile("b$"), run.re.compile("off"), "because")]
    rows = [{"case": "f::a", "group": "g", "verdict": "equal"}]
    rows += [
        {"case": f"f::{c}", "group": "g", "verdict": v, "what": "off"}
        for c, v in (("b", "different"), ("c", "refused"))
    ]
    rows += [{"case": "", "group": "g", "verdict": "out of scope", "count": 5}]
    result = run.summary(rows, known)
    assert (result["predicted"], result["equal"]) == (3, 1)
    assert result["explained"] == {"named": ["f::b"]}
    assert [r["case"] for r in result["unexplained"]] == ["f::c"]
    assert result["verdicts"]["out of scope"] == 5


def test_every_known_difference_has_a_reason() -> None:
    known = run.known_differences()
    assert known
    assert all(len(k.reason.split()) >= 8 for k in known)
    assert len({k.name for k in known}) == len(known)
