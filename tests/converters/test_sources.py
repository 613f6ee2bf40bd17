"""An export's key follows the files that decide its bytes, and no others."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from converters import sources
from models.catalog import CATALOG

ROOT = Path(__file__).resolve().parents[2]
DTLN = "models.nets.dtln"
TAKES_PART = (
    "converters/export.py",
    "converters/bundle/test_audio.py",
    "converters/coreml/precision.py",
    "converters/litert/keras_worker.py",
    "converters/litert/metadata.py",
    "models/layers/recurrent.py",
    "models/nets/dtln/card.md",
    "models/nets/dtln/step.py",
    "models/weights/licences/DTLN-MIT.txt",
    "runtimes/mil/ops/elementwise.py",
    "streaming/core/loop.py",
)
DOES_NOT = (
    "converters/install/install.py",
    "converters/verify.py",
    "models/catalog.py",
    "models/nets/gtcrn/step.py",
    "streaming/advice/advise.py",
    "streaming/report/page.py",
    "streaming/report/report.css",
    "streaming/simulator/simulate.py",
    "streaming/tuning/tune.py",
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our packages that a test may change."""
    for package in ("models", "runtimes", "streaming", "converters", "hearpack"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    return tmp_path


def test_a_changed_line_makes_a_new_key_only_where_it_takes_part(checkout: Path) -> None:
    before = sources.sources_digest(DTLN)
    for name in (*DOES_NOT, "hearpack/cli.py"):
        file = checkout / name
        file.write_text(file.read_text() + "\n# changed\n")
        assert sources.sources_digest(DTLN) == before, name
    for name in TAKES_PART:
        file = checkout / name
        file.write_text(file.read_text() + "\n# changed\n")
        after = sources.sources_digest(DTLN)
        assert after != before, name
        before = after


@pytest.mark.parametrize("package", [*sorted({entry.package for entry in CATALOG.values()}), "models.custom"])
def test_no_import_is_missed(package: str) -> None:
    """Compared with Python's own syntax trees: whatever a file that takes part imports takes part too."""
    files = sources.export_files(package)
    assert len(files) > 80
    assert any(name.startswith(package.replace(".", "/")) for name in files)
    for name, file in files.items():
        for module in imports(file) if file.suffix == ".py" else ():
            place = ROOT.joinpath(*module.split("."))
            of_module = [f for f in (place.with_name(f"{place.name}.py"), place / "__init__.py") if f.is_file()]
            assert module == "models.catalog" or {str(f.relative_to(ROOT)) for f in of_module} <= files.keys(), name


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] in ("models", "runtimes", "streaming", "converters")}
