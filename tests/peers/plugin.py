"""pytest plugin: coremltools' own tests, with predictions made by runtimes.mil instead of Core ML.

coremltools compares Core ML's predictions with torch or numpy only on macOS. This plugin tells it that it is on macOS
26 and puts the evaluator where its native proxy would be: patch_coremltools, and so the public MLModel. Everything
else is theirs: the conversion, the inputs, the expected values, the comparison and its tolerances; `MLModel.predict`
and `make_state` themselves are their code.

Run it through run.py (or `make peer-tests`); docs/core-ml-anywhere.md says what the verdicts mean.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import pytest
from run import verdict  # tests/peers/run.py: this folder is on the path

from models.common.errors import ArtefactError
from runtimes.mil.graph import read_function
from runtimes.mil.mlmodel import MLModel, MLState
from runtimes.mil.package import open_package
from runtimes.mil.patch import EvaluatorProxy, patch_coremltools

COREMLTOOLS = Path(coremltools.__file__).resolve().parent
CASES_BETWEEN_FREEZES = 250


class OutOfScopeError(Exception):
    """A prediction that no ML Program makes."""


@dataclass
class Trace:
    """What the evaluator saw during one test."""

    predictions: int = 0
    out_of_scope: str = ""
    missing: str = ""
    refused: str = ""
    mode: Any = "fp16"
    precision: str = ""
    opset: str = ""
    ops: list[str] = field(default_factory=list)
    cases: int = 0

    def restart(self, mode: str, precision: str) -> None:
        """Forget the last test."""
        self.predictions, self.out_of_scope, self.missing, self.refused = 0, "", "", ""
        self.mode, self.precision, self.opset, self.ops = mode, precision, "", []


@dataclass
class Settings:
    """The run's choices, the same in every worker."""

    mode: Any = "auto"
    sample: float = 1.0
    seed: int = 0
    out_of_scope: Counter[str] = field(default_factory=Counter)


TRACE = Trace()
SETTINGS = Settings()


# ---------------------------------------------------------------------------- the proxy


class TracedProxy(EvaluatorProxy):
    """The public proxy, and so `MLModel` itself, with notes of what it did."""

    def loaded(self) -> MLModel:
        if self._model is None:
            if not Path(self._path).is_dir():
                TRACE.out_of_scope = "not an ML Program"
                raise OutOfScopeError(f"{Path(self._path).name} is not an ML Program package")
            self.options = {"mode": TRACE.mode}
            try:
                model = super().loaded()
            except ArtefactError as exc:
                if "not an ML Program" in str(exc) or "this is a pipeline" in str(exc):
                    TRACE.out_of_scope = "not an ML Program"
                raise
            function = read_function(open_package(self._path), self._function or None)
            TRACE.opset = function.opset
            TRACE.ops = sorted({*TRACE.ops, *(o.type for o in function.walk() if o.type != "const")})
            return model
        return self._model

    def predict(self, data: dict[str, Any], state: MLState | None = None) -> dict[str, Any]:
        with _noted():
            results = super().predict(data, state)
        TRACE.predictions += 1
        return results

    def newState(self) -> MLState:  # noqa: N802  their name
        with _noted():
            return super().newState()


@contextlib.contextmanager
def _noted() -> Iterator[None]:
    """Whatever stops the evaluator counts against it, a fault of ours like a refusal."""
    try:
        yield
    except OutOfScopeError:
        raise
    except Exception as exc:
        missing = re.search(r"operation '(\w+)' .* is not implemented by the evaluator", str(exc))
        TRACE.missing, TRACE.refused = missing[1] if missing else "", str(exc) or type(exc).__name__
        raise


def believe_in_macos() -> None:
    """Tell coremltools that predictions are possible; called before any of its test modules is imported."""
    from coremltools import _deps
    from coremltools.models import utils

    _deps._IS_MACOS = True
    patch_coremltools(proxy=TracedProxy)
    coremltools.utils._is_macos, coremltools.utils._macos_version = utils._is_macos, utils._macos_version
    # Imported after the change, so that their copies of the names are true as well.
    from coremltools.converters.mil import testing_utils
    from coremltools.converters.mil.frontend.torch.test import testing_utils as torch_testing_utils

    if not (testing_utils._IS_MACOS and torch_testing_utils._IS_MACOS):
        raise RuntimeError("coremltools' test utilities were imported before the plugin; load it with -p")


# ---------------------------------------------------------------------------- pytest's hooks


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("peers")
    group.addoption("--peer-sample", type=float, default=1.0, help="fraction of the cases to run")
    group.addoption("--peer-seed", type=int, default=0, help="which cases, and their random values")
    group.addoption(
        "--peer-mode",
        choices=("auto", "fp16", "fp32"),
        default="auto",
        help="number mode of runtimes.mil; auto takes a case's precision",
    )
    group.addoption("--peer-out", default="", help="JSON lines, one per case")


def pytest_configure(config: pytest.Config) -> None:
    SETTINGS.mode = config.getoption("--peer-mode")
    SETTINGS.sample, SETTINGS.seed = config.getoption("--peer-sample"), config.getoption("--peer-seed")
    believe_in_macos()
    if not hasattr(config, "workerinput") and config.getoption("--peer-out"):
        config.pluginmanager.register(_Writer(Path(config.getoption("--peer-out"))), "peer-writer")


def case_name(item: pytest.Item) -> str:
    """File inside coremltools, class, function and parameters: the same on every machine."""
    try:
        file = item.path.resolve().relative_to(COREMLTOOLS).as_posix()
    except ValueError:
        file = item.path.name
    return f"{file}::{item.nodeid.partition('::')[2]}"


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def backend_of(item: pytest.Item) -> tuple[str, str]:
    """The backend and the precision that a case names in its parameters; empty where it names none."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    for value in parameters.values():
        if isinstance(value, tuple) and len(value) >= 2 and value[0] in ("neuralnetwork", "mlprogram"):
            return str(value[0]), str(value[1])
        if hasattr(value, "backend") and hasattr(value, "precision"):
            return str(value.backend), str(value.precision)
    return "", ""


def mode_of(item: pytest.Item) -> str:
    """Number mode for a case: what the run says, or the precision that the case converts with."""
    if SETTINGS.mode != "auto":
        return str(SETTINGS.mode)
    return "fp32" if backend_of(item)[1] == "fp32" else "fp16"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept, dropped = [], []
    for item in items:
        # A case is in the sample by its own name: the order and the other cases do not matter.
        if _number(f"{SETTINGS.seed}:{case_name(item)}") >= SETTINGS.sample * 2.0**64:
            dropped.append(item)
        elif backend_of(item)[0] == "neuralnetwork":
            dropped.append(item)
            SETTINGS.out_of_scope[group_of(case_name(item))] += 1
        else:
            kept.append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


def pytest_collection_finish(session: pytest.Session) -> None:
    # coremltools collects garbage after every conversion, which walks all of torch and every case: 0.33 of 0.39 s.
    # What lives now lives to the end; frozen, it is not walked.
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown(item: pytest.Item) -> None:
    TRACE.cases += 1
    if TRACE.cases % CASES_BETWEEN_FREEZES == 0:  # what was imported meanwhile
        gc.collect()
        gc.freeze()


def group_of(case: str) -> str:
    """The row of the table: folder, file and class."""
    file, _, rest = case.partition("::")
    parts = Path(file).parts
    folder = f"{parts[-2]}/" if parts[-2].startswith(("iOS", "coreml_")) else ""
    return f"{folder}{Path(file).stem}::{rest.partition('[')[0].split('::')[0]}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    TRACE.restart(mode_of(item), backend_of(item)[1])
    # Their tests draw from the global generators: a case gets the same values alone, in a sample, and in a worker.
    seed = _number(f"values:{SETTINGS.seed}:{case_name(item)}") % 2**32
    random.seed(seed)
    np.random.seed(seed)
    import torch

    torch.manual_seed(seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    if report.when == "call" or report.outcome != "passed":
        text = "" if call.excinfo is None else f"{call.excinfo.typename}: {call.excinfo.value}"
        entry = {"case": case_name(item), "trace": asdict(TRACE), "error": text[:2000]}
        report.user_properties = [p for p in report.user_properties if p[0] != "peer"] + [("peer", entry)]
    return report


class _Writer:
    """In the process that sees all reports: one JSON line per case, then the counts."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._out_of_scope: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        entry = dict(report.user_properties).get("peer")
        if not isinstance(entry, dict) or (report.when == "teardown" and report.passed):
            return
        trace = entry["trace"]
        word = verdict(trace, report.outcome, hasattr(report, "wasxfail"))
        line = {
            "case": entry["case"],
            "group": group_of(entry["case"]),
            "verdict": word,
            "precision": trace["precision"],
            "opset": trace["opset"],
            "ops": trace["ops"],
            "s": round(report.duration, 3),
        }
        if word != "equal":
            line |= {"what": trace["missing"] or trace["refused"] or trace["out_of_scope"] or entry["error"]}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    @pytest.hookimpl(optionalhook=True)  # xdist's
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        counts = getattr(node, "workeroutput", {}).get("peer_out_of_scope")
        # Every worker collects everything, so each has the same counts.
        self._out_of_scope = Counter(counts or self._out_of_scope)

    def pytest_unconfigure(self) -> None:
        for group, count in (self._out_of_scope or SETTINGS.out_of_scope).items():
            line = {"case": "", "group": group, "verdict": "out of scope", "count": count}
            self._file.write(json.dumps(line) + "\n")
        self._file.close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peer_out_of_scope"] = dict(SETTINGS.out_of_scope)
