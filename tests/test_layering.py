"""Imports point one way: models <- runtimes <- streaming <- converters <- hearpack. And light things stay light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("models", "runtimes", "streaming", "converters", "hearpack")
# Rooms of a package, ground floor first: imports point down, late ones too.
ROOMS = {
    "models": ("common", "geometry", "layers", "weights", "entry", "nets", "graph", "custom", "catalog", "pretrained"),
    "streaming": ("core", "files", "measure", "metrics", "tuning", "runs", "simulator", "advice", "report"),
}
MOST_MODULES = 12
HEAVY = {"torch", "coremltools", "litert_torch", "ai_edge_quantizer", "tensorflow", "librosa", "matplotlib", "onnx"}
LIGHT_FILES = ("models/geometry.py", "models/catalog.py", "runtimes/bundle/reader.py", "converters/spec.py")


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


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def module_imports() -> dict[str, set[str]]:
    """Every module of ours by name, and those of ours that it imports, late imports included."""
    files = {module_name(file): file for package in LAYERS for file in sources(package)}
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        found = graph.setdefault(name, set())
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= (full & files.keys()) or {node.module}
    return {name: {m for m in found if m in files and m != name} for name, found in graph.items()}


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_point_down(package: str) -> None:
    rooms = ROOMS[package]
    ours = {module.split(".")[1] for module in module_imports() if module.startswith(f"{package}.")}
    assert ours == set(rooms), "a room that is not in the order"
    wrong = [
        (importer, imported)
        for importer, found in module_imports().items()
        for imported in found
        if importer.startswith(f"{package}.") and imported.startswith(f"{package}.")
        if rooms.index(importer.split(".")[1]) < rooms.index(imported.split(".")[1])
    ]
    assert not wrong


def test_no_net_imports_another() -> None:
    nets = {m: i for m, i in module_imports().items() if m.startswith("models.nets.") and m.count(".") > 2}
    assert len({m.split(".")[2] for m in nets}) >= 7
    wrong = [
        (importer, imported)
        for importer, found in nets.items()
        for imported in found
        if imported.startswith("models.nets.") and imported.split(".")[2] != importer.split(".")[2]
    ]
    assert not wrong


def test_no_import_goes_round_in_a_circle() -> None:
    assert len(list(graphlib.TopologicalSorter(module_imports()).static_order())) > 200


@pytest.mark.parametrize("package", ROOMS)
def test_folders_stay_small(package: str) -> None:
    counts = Counter(f.parent for f in sources(package) if f.name != "__init__.py")
    assert not {str(folder.relative_to(ROOT)): n for folder, n in counts.items() if n > MOST_MODULES}


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
