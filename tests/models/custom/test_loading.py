"""models.own_loading: a user's code never meets ours, ours is as it was afterwards, and mistakes are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import models.geometry
from models.common.errors import ConversionError, UsageError
from models.custom.loading import is_custom, load, parse_target

ROOT = Path(__file__).resolve().parents[3]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_what_is_the_users_own() -> None:
    assert [is_custom(t) for t in ("dtln", "net.py", "a/net.py:make", "pkg.mod:make", "m.keras", "m.pt")] == [False] + [
        True
    ] * 5


def test_a_users_own_models_package_never_meets_ours(tmp_path: Path) -> None:
    write(tmp_path / "models" / "__init__.py", "WHOSE = 'theirs'\n")
    write(tmp_path / "models" / "blocks.py", "VALUE = 41\n")
    write(tmp_path / "helper.py", "from models.blocks import VALUE\n")
    file = write(
        tmp_path / "net.py",
        "import models\nfrom helper import VALUE\n"
        "def build():\n    from models import blocks\n    return models.WHOSE, VALUE + 1, blocks.VALUE\n",
    )
    ours = sys.modules["models"]
    loaded = load(parse_target(f"{file}:build"))
    assert loaded.result == ("theirs", 42, 41)
    assert sys.modules["models"] is ours
    assert sys.modules["models.geometry"] is models.geometry
    assert not [n for n in sys.modules if n in ("helper", "models.blocks")]
    assert str(tmp_path) not in sys.path


def test_a_package_called_models_needs_no_init_file(tmp_path: Path) -> None:
    """EfficientAT's has none."""
    write(tmp_path / "models" / "mn" / "model.py", "from models.mn.utils import VALUE\n")
    write(tmp_path / "models" / "mn" / "utils.py", "VALUE = 41\n")
    file = write(tmp_path / "net.py", "from models.mn.model import VALUE\ndef build(): return VALUE + 1\n")
    for _ in range(2):
        loaded = load(parse_target(str(file)))
        assert loaded.result == 42
        assert [path for path, _ in loaded.sources] == ["models/mn/model.py", "models/mn/utils.py", "net.py"]
        assert sys.modules["models.geometry"] is models.geometry
        assert "models.mn" not in sys.modules


def test_a_package_called_models_may_lie_where_the_users_code_says(tmp_path: Path) -> None:
    blocks = write(tmp_path / "repo" / "models" / "blocks.py", "VALUE = 41\n")
    file = write(
        tmp_path / "mine" / "net.py",
        f"import sys\nsys.path.insert(0, {str(tmp_path / 'repo')!r})\n"
        "from models.blocks import VALUE\ndef build(): return VALUE\n",
    )
    first = load(parse_target(str(file)))
    blocks.write_text("VALUE = 4242\n")
    second = load(parse_target(str(file)))
    assert (first.result, second.result) == (41, 4242)
    assert first.taken_sha256 != second.taken_sha256
    assert sys.modules["models.geometry"] is models.geometry
    assert str(tmp_path / "repo") not in sys.path


def test_what_hearpack_offers_is_there_beside_a_package_called_models(tmp_path: Path) -> None:
    """Also in a process that has not imported hearpack itself, only the packages below it."""
    write(tmp_path / "models" / "blocks.py", "VALUE = 41\n")
    write(
        tmp_path / "net.py",
        "from models.blocks import VALUE\nfrom hearpack import CumulativeNorm, StreamGeometry\n"
        "def build(): return VALUE, CumulativeNorm, StreamGeometry\n",
    )
    code = (
        "from models.custom.loading import load, parse_target; from models.geometry import StreamGeometry; "
        "value, _, offered = load(parse_target('net.py')).result; print(value, offered is StreamGeometry)"
    )
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "41 True", done.stderr


def test_ours_are_found_where_the_user_has_no_such_package(tmp_path: Path) -> None:
    file = write(tmp_path / "net.py", "from models import geometry\ndef build(): return geometry\n")
    assert load(parse_target(str(file))).result is models.geometry


def test_neighbours_are_imported_by_name_and_relatively(tmp_path: Path) -> None:
    write(tmp_path / "parts.py", "A = 1\n")
    file = write(
        tmp_path / "net.py", "import parts\nfrom . import parts as same\ndef build(): return parts.A, same.A\n"
    )
    assert load(parse_target(str(file))).result == (1, 1)


def test_the_digest_covers_what_was_imported(tmp_path: Path) -> None:
    parts = write(tmp_path / "parts.py", "A = 1\n")
    file = write(tmp_path / "net.py", "import parts\ndef build(): return parts.A\n")
    write(tmp_path / "unrelated.py", "B = 1\n")
    first = load(parse_target(str(file)))
    write(tmp_path / "unrelated.py", "B = 222\n")
    assert load(parse_target(str(file))).source_sha256 == first.source_sha256
    parts.write_text("A = 1234\n")
    second = load(parse_target(str(file)))
    assert (second.result, first.result) == (1234, 1)
    assert second.source_sha256 != first.source_sha256


def test_a_module_is_imported_from_the_working_folder(tmp_path: Path) -> None:
    write(tmp_path / "mypackage" / "__init__.py", "")
    write(tmp_path / "mypackage" / "nets.py", "def make(): return 7\n")
    code = (
        "from models.custom.loading import load, parse_target; print(load(parse_target('mypackage.nets:make')).result)"
    )
    # -P: as the installed command, which has no working folder on its path
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "7", done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing/net.py:build", "no such file"),
        ("models.yamnet:build", r"begins with the name of a package of hearpack's own; give the file instead"),
        ("not a module:build", "expected path/net.py:build"),
        ("missing.keras", "no such file"),
    ],
)
def test_wrong_targets_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_target(text)


def test_mistakes_in_a_users_file_are_told_with_their_line(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.py", "import torch\nimport nowhere_to_be_found\n")
    with pytest.raises(UsageError, match=r"broken.py: cannot be loaded: ModuleNotFoundError.*\(broken.py, line 2\)"):
        load(parse_target(str(broken)))
    fails = write(tmp_path / "fails.py", "def build():\n    raise ValueError('no weights here')\ndef other(): pass\n")
    with pytest.raises(ConversionError, match=r"build\(\) failed: ValueError: no weights here \(fails.py, line 2\)"):
        load(parse_target(str(fails)))
    with pytest.raises(UsageError, match="no callable 'make'; it offers: build, other"):
        load(parse_target(f"{fails}:make"))


def test_a_missing_file_is_told_with_the_folder_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(tmp_path / "net" / "config.yaml", "gain: 1\n")
    for opener, beside in (("open('config.yaml')", True), ("__import__('numpy').load('weights.npy')", False)):
        file = write(tmp_path / "net" / "net.py", f"def build():\n    return {opener}\n")
        with pytest.raises(ConversionError) as caught:
            load(parse_target(str(file)))
        said = caught.value.args[0]
        assert f"no {'config.yaml' if beside else 'weights.npy'!r} in the working folder {tmp_path / 'here'}" in said
        offer = "beside net.py it is: open it by Path(__file__).parent" if beside else "nor is it beside net.py"
        assert offer in said


def test_torch_load_works_in_a_factory(tmp_path: Path) -> None:
    import torch

    torch.save({"gain": torch.ones(2)}, tmp_path / "weights.pt")
    file = write(
        tmp_path / "net.py",
        "import torch\nfrom pathlib import Path\n"
        "def build(): return torch.load(Path(__file__).with_name('weights.pt'), weights_only=True)['gain']\n",
    )
    first = load(parse_target(str(file)))
    torch.save({"gain": torch.zeros(2)}, tmp_path / "weights.pt")
    assert first.result.tolist() == [1.0, 1.0]
    assert load(parse_target(str(file))).taken_sha256 != first.taken_sha256


def test_a_lazy_module_of_the_users_is_not_asked_for_what_it_would_import(tmp_path: Path) -> None:
    file = write(
        tmp_path / "net.py",
        "import sys, types\n"
        "class Lazy(types.ModuleType):\n"
        "    def __getattr__(self, name):\n        raise ImportError('no such optional package')\n"
        "sys.modules['lazy_of_theirs'] = Lazy('lazy_of_theirs')\n"
        "def build():\n    return 3\n",
    )
    try:
        assert load(parse_target(str(file))).result == 3
    finally:
        sys.modules.pop("lazy_of_theirs", None)
