"""Imports point one way: models <- runtimes <- streaming <- converters <- hearpack. And light things stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("models", "runtimes", "streaming", "converters", "hearpack")
HEAVY = {"torch", "coremltools", "litert_torch", "ai_edge_quantizer", "tensorflow", "librosa", "matplotlib", "onnx"}
LIGHT_FILES = ("models/geometry.py", "models/catalog.py", "runtimes/bundle.py", "converters/spec.py")


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of everything a tree imports, late imports included."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def sources(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} has no sources"
    return files


@pytest.mark.parametrize("package", LAYERS)
def test_imports_point_one_way(package: str) -> None:
    above = set(LAYERS[LAYERS.index(package) + 1 :])
    wrong = {str(f.relative_to(ROOT)): sorted(imported(ast.parse(f.read_text())) & above) for f in sources(package)}
    assert not {file: names for file, names in wrong.items() if names}


def test_streaming_never_mentions_a_heavy_library() -> None:
    wrong = {str(f.relative_to(ROOT)): sorted(imported(ast.parse(f.read_text())) & HEAVY) for f in sources("streaming")}
    assert not {file: names for file, names in wrong.items() if names}


@pytest.mark.parametrize("file", LIGHT_FILES)
def test_light_files_import_nothing_heavy(file: str) -> None:
    assert not imported(ast.parse((ROOT / file).read_text())) & HEAVY


def test_only_net_files_and_few_others_import_torch() -> None:
    users = {
        str(f.relative_to(ROOT))
        for package in LAYERS
        for f in sources(package)
        if "torch" in imported(ast.parse(f.read_text()))
    }
    allowed = ("models/", "runtimes/torch.py", "runtimes/mil/", "converters/")
    assert not {u for u in users if not u.startswith(allowed)}


@pytest.mark.parametrize(
    "statement",
    ["import hearpack", "import hearpack.cli", "import streaming", "import runtimes.bundle", "import converters.spec"],
)
def test_importing_stays_light(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(','.join(sorted({HEAVY!r} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_help_loads_no_heavy_library_and_names_every_command() -> None:
    code = (
        "import sys\nfrom hearpack.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as e:\n    assert not e.code\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in (
        *("models", "pull", "export", "verify", "inspect", "run", "predict", "scaffold", "demo", "doctor"),
        *("coldstart", "calibrate", "tune", "advise", "gate", "report"),
    ):
        assert command in done.stdout
    for command in ("simulate", "devices", "fit-device"):
        assert command in done.stdout
