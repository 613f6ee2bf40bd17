"""hearpack.coreml in a project that has packages `models` and `runtimes` of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("google.protobuf")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("models", "runtimes"):
        (tmp_path / name / "mil").mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text(f"OWNER = 'project {name}'\n")
    (tmp_path / "models" / "net.py").write_text("SIZE = 3\n")
    return tmp_path


def run(project: Path, code: str) -> str:
    # The project's folder comes first on the path, as for a script in it; hearpack's comes after.
    program = f"import sys; sys.path[:0] = [{str(project)!r}, {str(ROOT)!r}]\n{code}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, cwd=project, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


USE = """
from hearpack.coreml import MLModel, HearpackError, PredictionError, InputTypeError
try:
    MLModel("no.mlpackage")
except HearpackError as exc:
    print(str(exc)[:30])
try:
    MLModel(3)
except TypeError as exc:
    print(isinstance(exc, HearpackError))
"""
THEIRS = """
import models, runtimes
from models.net import SIZE
print(models.OWNER, runtimes.OWNER, SIZE)
"""
USED = "no.mlpackage does not exist; e\nTrue"


@pytest.mark.parametrize("order", ["before", "after", "between"])
def test_a_projects_own_packages_stay_its_own(order: str, project: Path) -> None:
    parts = {"before": (THEIRS, USE), "after": (USE, THEIRS), "between": (THEIRS, USE, THEIRS)}[order]
    texts = {THEIRS: "project models project runtimes 3", USE: USED}
    assert run(project, "".join(parts)) == "\n".join(texts[p] for p in parts)


def test_a_program_runs_with_late_imports_in_such_a_project(project: Path) -> None:
    code = (
        THEIRS
        + """
import numpy as np
import hearpack.coreml as c
from hearpack._kit.runtimes.mil.graph import Block, Function, Named, Operation, ValueType
t = ValueType("tensor", "fp32", (2,))
block = Block((Named("x", t),), (Operation("square", {"x": ("x",)}, (Named("y", t),), ()),), ("y",))
print(c.Program(Function("main", "CoreML7", block), "fp16").run({"x": np.float32([3, 4])})["y"].tolist())
print(sorted(m for m in sys.modules if m.split(".")[0] in ("models", "runtimes")))
"""
    )
    out = run(project, code).splitlines()
    assert out[1] == "[9.0, 16.0]"
    assert out[2] == "['models', 'models.net', 'runtimes']"


def test_what_is_imported_already_is_used(project: Path) -> None:
    code = f"""
sys.path.remove({str(project)!r})
import runtimes.mil, models.common.errors, hearpack.coreml
print(hearpack.coreml.MLModel is runtimes.mil.MLModel)
print(hearpack.coreml.HearpackError is models.common.errors.HearpackError)
"""
    assert run(project, code) == "True\nTrue"


def test_namespace_folders_do_no_harm(project: Path) -> None:
    for name in ("models", "runtimes"):
        (project / name / "__init__.py").unlink()
    assert run(project, "import models\n" + USE) == USED


def test_its_names_are_what_it_says() -> None:
    import hearpack.coreml

    assert set(hearpack.coreml.__all__) == {n for names in hearpack.coreml._SOURCES.values() for n in names}
    assert all(hasattr(hearpack.coreml, name) for name in hearpack.coreml.__all__)
