"""Runs coremltools' own tests on the evaluator and writes the table: build/peer-tests/{ops,torch}.{md,json,jsonl}.

    python tests/peers/run.py                            the ops suite whole, a seeded tenth of the torch suite
    python tests/peers/run.py --suite ops --sample 0.05  a twentieth of the ops suite
    python tests/peers/run.py --suite rest               what else of coremltools predicts: images, functions, ...
    python tests/peers/run.py --fp32                     with coremltools' own switch for fp32 cases (tolerance 1e-4)

Exit code 0 when every share is at or above its floor, 1 when not, 2 when a suite did not run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TORCH, MIL = "converters/mil/frontend/torch/test", "converters/mil/mil"
SUITES = {
    "ops": [f"{MIL}/ops/tests"],
    "torch": [f"{TORCH}/test_torch_ops.py"],
    # What else of coremltools predicts: images, classifiers, several functions, states, compression, graph passes.
    "rest": [
        f"{TORCH}/test_torch_conversion_api.py",
        f"{TORCH}/test_torch_export_conversion_api.py",
        f"{TORCH}/test_torch_stateful_model.py",
        f"{TORCH}/test_torch_quantization_ops.py",
        f"{TORCH}/test_torch_export_quantization.py",
        f"{TORCH}/test_passes.py",
        f"{MIL}/passes/tests/test_passes.py",
        f"{MIL}/passes/tests/test_optimize_linear_passes.py",
        f"{MIL}/passes/tests/test_reduce_transposes_pass.py",
        f"{MIL}/passes/tests/test_quantization_passes.py",
        f"{MIL}/tests",
        "converters/mil/backend/mil",
        "converters/mil/frontend/milproto",
        "converters/mil/test_inputs_outputs_shape.py",
        "test/api/test_api_examples.py",
        "test/ml_program/test_utils.py",
        "test/optimize/coreml/test_post_training_quantization.py",
    ],
}
ALL = ("ops", "torch")
DEFAULT_SAMPLE = {"ops": 1.0, "torch": 0.1, "rest": 1.0}
FLOOR = {"ops": 0.99, "torch": 0.98, "rest": 0.98}
# Verdicts that count as predictions of ours; a refusal is a prediction that should have been one.
EQUAL, WRONG = "equal", ("different", "refused")


@dataclass(frozen=True)
class Known:
    """A difference that is explained in known.toml."""

    name: str
    case: re.Pattern[str]
    what: re.Pattern[str]
    reason: str

    def covers(self, row: dict[str, Any]) -> bool:
        return bool(self.case.search(row["case"]) and self.what.search(row.get("what", "")))


def known_differences(path: Path = HERE / "known.toml") -> list[Known]:
    """The entries of known.toml, in order."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("difference", [])
    return [
        Known(e["name"], re.compile(e["case"], re.DOTALL), re.compile(e.get("what", ""), re.DOTALL), e["reason"])
        for e in entries
    ]


def coremltools_root() -> Path:
    spec = importlib.util.find_spec("coremltools")
    if spec is None or spec.origin is None:
        raise SystemExit("coremltools is not installed; make setup installs it")
    return Path(spec.origin).parent


def verdict(trace: dict[str, Any], outcome: str, expected_failure: bool) -> str:
    """One word for what happened; docs/core-ml-anywhere.md explains each."""
    if trace["out_of_scope"]:
        return "out of scope"
    if trace["missing"]:
        return "unsupported"
    if trace["predictions"] and outcome == "passed":
        return "equal"
    if expected_failure:
        return "expected failure"
    if trace["refused"] and outcome in ("passed", "failed"):
        return "refused" if outcome == "failed" else "refused as expected"
    if trace["predictions"] and outcome == "failed":
        return "different"
    return f"no prediction, {outcome}"


def run_suite(
    suite: str, sample: float, seed: int, workers: int, mode: str, fp32: bool, out: Path
) -> list[dict[str, Any]]:
    """Run one suite in a process of its own.

    Returns:
        a row for each case that ran, and one for each group with cases out of scope.
    """
    root, lines = coremltools_root(), out / f"{suite}.jsonl"
    lines.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "plugin", "-c", str(HERE / "pytest.ini"), "--rootdir", str(root)]
    command += ["-q", "--no-header", "--tb=no", "-W", "ignore", "-p", "no:cacheprovider"]
    command += ["-n", str(workers)] if workers > 1 else ["-p", "no:xdist"]
    command += ["--peer-sample", str(sample), "--peer-seed", str(seed), "--peer-mode", mode, "--peer-out", str(lines)]
    paths = [str(HERE), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""}
    environment |= {"INCLUDE_MIL_FP32_UNIT_TESTS": "1"} if fp32 else {}
    with (out / f"{suite}.log").open("w", encoding="utf-8") as log:
        code = subprocess.run(
            [*command, *(str(root / path) for path in SUITES[suite])],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            check=False,
        ).returncode
    # 0: all passed, 1: some failed, 5: the sample was empty.
    if code not in (0, 1, 5) or not lines.is_file():
        raise SystemExit(f"{suite}: pytest stopped with code {code}; see {out / f'{suite}.log'}")
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def summary(rows: Iterable[dict[str, Any]], known: list[Known]) -> dict[str, Any]:
    """Counts by verdict, in all and by group, and the differences, explained or not."""
    rows = list(rows)
    total: Counter[str] = Counter()
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        count = row.get("count", 1)
        total[row["verdict"]] += count
        groups[row["group"]][row["verdict"]] += count
    wrong = [row for row in rows if row["verdict"] in WRONG]
    precisions = {
        p: {"predicted": len(of), "equal": sum(r["verdict"] == EQUAL for r in of)}
        for p in sorted({r["precision"] for r in rows if "precision" in r})
        if (of := [r for r in rows if r.get("precision") == p and r["verdict"] in (EQUAL, *WRONG)])
    }
    ops: defaultdict[str, Counter[str]] = defaultdict(Counter)
    opsets: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        for op in row.get("ops", []):
            ops[op][row["verdict"]] += 1
            opsets[op].add(row["opset"])
    explained = {k.name: [row["case"] for row in wrong if k.covers(row)] for k in known}
    unexplained = [row for row in wrong if not any(k.covers(row) for k in known)]
    predicted = total[EQUAL] + sum(total[w] for w in WRONG)
    return {
        "predicted": predicted,
        "equal": total[EQUAL],
        "share_equal": total[EQUAL] / predicted if predicted else None,
        "by_precision": precisions,
        "verdicts": dict(sorted(total.items())),
        "explained": {name: cases for name, cases in explained.items() if cases},
        "unexplained": [{"case": r["case"], "what": r["what"]} for r in unexplained],
        "missing_ops": dict(Counter(r["what"] for r in rows if r["verdict"] == "unsupported").most_common()),
        "groups": {g: dict(c) for g, c in sorted(groups.items())},
        "ops": {op: {"opsets": sorted(opsets[op]), **dict(c)} for op, c in sorted(ops.items())},
    }


def _row(name: str, counts: dict[str, int]) -> str:
    named = [counts.get("equal", 0), sum(counts.get(w, 0) for w in WRONG)]
    named += [counts.get("unsupported", 0), counts.get("out of scope", 0)]
    return f"| {name} | " + " | ".join(str(n) for n in (*named, sum(counts.values()) - sum(named))) + " |"


def table(suite: str, result: dict[str, Any]) -> str:
    """The result as markdown."""
    share = "nothing predicted" if result["share_equal"] is None else f"{result['share_equal']:.2%}"
    lines = [f"# coremltools' {suite} suite on runtimes.mil", ""]
    lines += [f"- {key}: {value}" for key, value in result["run"].items()]
    lines += ["", f"Predicted {result['predicted']}, equal {result['equal']} ({share}).", ""]
    for precision, counts in result["by_precision"].items():
        lines.append(f"- precision {precision or 'not named'}: {counts['equal']} of {counts['predicted']} equal")
    lines += [""]
    lines += ["| verdict | cases |", "|---|---:|", *(f"| {v} | {n} |" for v, n in result["verdicts"].items()), ""]
    columns = ("equal", "different", "unsupported", "out of scope", "other")
    lines += [f"| test class | {' | '.join(columns)} |", "|---|---:|---:|---:|---:|---:|"]
    lines += [_row(group, counts) for group, counts in result["groups"].items()]
    lines += ["", "By operation: cases whose program contains it, constants left out.", ""]
    lines += [f"| operation | opsets | {' | '.join(columns)} |", "|---|---|---:|---:|---:|---:|---:|"]
    for op, entry in result["ops"].items():
        counts = {k: n for k, n in entry.items() if k != "opsets"}
        lines.append(_row(f"{op} | {' '.join(o.removeprefix('CoreML') for o in entry['opsets'])}", counts))
    lines += ["", "## Differences", ""]
    lines += [f"- {name}: {len(cases)} (explained in known.toml)" for name, cases in result["explained"].items()]
    lines += [f"- not explained: `{r['case']}`: {' '.join(r['what'].split())[:300]}" for r in result["unexplained"]]
    lines += ["- none"] if not result["explained"] and not result["unexplained"] else []
    return "\n".join(lines) + "\n"


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all", help="all: ops and torch")
    parser.add_argument("--sample", type=float, help="fraction of the cases; default: ops 1, torch 0.1")
    parser.add_argument("--seed", type=int, default=0, help="which cases, and the values they draw")
    parser.add_argument("-n", "--workers", type=int, default=2)
    parser.add_argument("--mode", choices=("auto", "fp16", "fp32"), default="auto", help="auto: as each case converts")
    parser.add_argument("--fp32", action="store_true", help="also the fp32 cases, which coremltools leaves out")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "peer-tests")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    if options.sample is not None and not 0 < options.sample <= 1:
        parser.error(f"--sample must lie in (0, 1], got {options.sample}")
    options.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for suite in ALL if options.suite == "all" else [options.suite]:
        sample = options.sample or DEFAULT_SAMPLE[suite]
        start, used = time.monotonic(), _cpu_seconds()
        rows = run_suite(suite, sample, options.seed, options.workers, options.mode, options.fp32, options.out)
        result = summary(rows, known_differences())
        result["run"] = {
            "sample": sample,
            "seed": options.seed,
            "number mode": options.mode,
            "fp32 cases": options.fp32,
            "workers": options.workers,
            "seconds": round(time.monotonic() - start),
            "CPU seconds (user and system, all processes)": round(_cpu_seconds() - used),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        }
        results[suite] = result
        (options.out / f"{suite}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (options.out / f"{suite}.md").write_text(table(suite, result), encoding="utf-8")
        if not options.json:
            share = result["share_equal"]
            print(f"{suite}: {result['verdicts']}")
            print(f"{suite}: {result['equal']} of {result['predicted']} predictions equal", end="")
            print("" if share is None else f" ({share:.2%}, floor {FLOOR[suite]:.0%})", end="")
            print(f"; not explained: {len(result['unexplained'])}; table: {options.out / f'{suite}.md'}")
    if options.json:
        print(json.dumps(results, indent=1))
    return int(any((r["share_equal"] or 0.0) < FLOOR[s] for s, r in results.items()))


if __name__ == "__main__":
    sys.exit(main())
