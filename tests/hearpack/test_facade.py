"""What `import hearpack` offers: every command as a function, each name from one list, loaded when first used."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

import hearpack
from hearpack.cli import PANELS, app
from models.common.errors import HearpackError
from runtimes.bundle import Bundle
from streaming.files.wav import write_wav

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = sorted(name for name in hearpack.__all__ if inspect.isfunction(getattr(hearpack, name)))
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_command_is_a_function() -> None:
    assert len(COMMANDS) == sum(map(len, PANELS.values())) == 26
    assert {command.replace("-", "_") for command in COMMANDS} <= set(FUNCTIONS)


def test_the_package_says_all_its_commands() -> None:
    assert {c.replace("-", "_") for c in COMMANDS} <= set(re.findall(r"\w+", hearpack.__doc__ or ""))


def test_every_name_is_written_once_and_resolves() -> None:
    lines = [n for n in ast.parse((ROOT / "hearpack/__init__.pyi").read_text()).body if isinstance(n, ast.ImportFrom)]
    names = [alias.name for line in lines for alias in line.names]
    assert {"export", "verify", "run", "Bundle", "HearpackError", "__version__"} <= set(names)
    assert not [name for name, count in Counter(names).items() if count > 1]
    assert all(alias.asname == alias.name for line in lines for alias in line.names), "a stub hands on `X as X` alone"
    assert dir(hearpack) == sorted(names)
    for name in names:
        assert getattr(hearpack, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hearpack.nothing  # noqa: B018 -- the access itself is tested


def test_importing_it_loads_nothing_of_ours() -> None:
    code = "import sys, hearpack; print(sorted(m for m in sys.modules if m.split('.')[0] in {'models', 'runtimes', "
    code += "'streaming', 'converters', 'numpy', 'pydantic', 'typer'} or m.startswith('hearpack.')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_function_stays_one_where_a_folder_has_its_name() -> None:
    code = "import hearpack.demo.run, hearpack.doctor, hearpack; print(type(hearpack.demo).__name__, hearpack.doctor)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("function <function doctor")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_and_gives(name: str) -> None:
    function = getattr(hearpack, name)
    text, parameters = inspect.getdoc(function) or "", inspect.signature(function).parameters
    assert "Returns:" in text
    missing = [p for p in parameters if not re.search(rf"^    .*\b{p}\b.*: ", text, re.M)]
    assert not missing
    assert not parameters or "Args:" in text
    for p in ("bundle", "bundles"):
        if p in parameters:
            assert str(parameters[p].annotation).startswith("Bundle | str | Path")


def _install(bundle: Bundle | Path, folder: Path) -> Any:
    (folder / "bundle-schema.txt").write_text("hearpack/1\n")
    return hearpack.install(bundle, android=folder)


def _gate(bundle: Bundle | Path, folder: Path) -> Any:
    (folder / "budget.toml").write_text("[budget]\nsize_mb = 20\n")
    report = hearpack.gate(bundle, folder / "budget.toml")
    report.save(folder / "junit.xml")
    assert (folder / "junit.xml").read_text().startswith("<?xml")
    return report


def _calibrate(bundle: Bundle | Path, folder: Path) -> Any:
    calibration, _ = hearpack.calibrate(bundle, seconds=0.1)
    calibration.save(folder / "calibration.json")
    assert (folder / "calibration.json").read_text() == calibration.dump()
    return [entry.artefact_sha256 for entry in calibration.entries]


def _partitions(bundle: Bundle | Path, folder: Path) -> Any:
    return hearpack.check_partitions(bundle, folder / "in.wav", trials=1)


def _run(bundle: Bundle | Path, folder: Path) -> Any:
    return hearpack.run(bundle, folder / "in.wav", output=folder / "out.wav").calls


CALLS: dict[str, Callable[[Bundle | Path, Path], Any]] = {
    "inspect": lambda bundle, _: hearpack.inspect(bundle),
    "install": _install,
    "gate": _gate,
    "calibrate": _calibrate,
    "check_partitions": _partitions,
    "run": _run,
    "simulate": lambda bundle, folder: hearpack.simulate(bundle, hearpack.Simulate(folder / "in.wav", compute_ms=1.0)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_bundle_is_given_open_or_as_its_folder(name: str, exported: dict[str, Path], tmp_path: Path) -> None:
    write_wav(tmp_path / "in.wav", np.zeros(8000, np.float32), 16000)
    call, folder = CALLS[name], exported["dtln"]
    assert call(Bundle.open(folder), tmp_path) == call(folder, tmp_path)


def test_errors_are_one_tree() -> None:
    with pytest.raises(HearpackError, match="did you mean dtln"):
        hearpack.export("dtn")
    with pytest.raises(HearpackError, match="formats: expected one or more of litert, coreml"):
        hearpack.export("dtln", formats=("onnx",))
