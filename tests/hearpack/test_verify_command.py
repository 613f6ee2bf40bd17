"""`hearpack verify` at the command line: figures first, whatever becomes of the file; what failed, and against what."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hearpack.cli import app
from tests.fixtures.hostile_bundles import edit, make_good


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_good(tmp_path, coreml=False)


def verify(bundle: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["verify", str(bundle), *options])


def test_a_bundle_that_cannot_be_written_shows_its_figures(bundle: Path) -> None:
    (bundle / "parity").write_text("no folder")
    done = verify(bundle)
    assert done.exit_code == 0
    assert "score_max_abs_error" in done.stdout
    assert "passed" in done.stdout
    assert "the figures were not kept in the bundle" in done.stderr
    assert '"passed": true' in verify(bundle, "--json").stdout
    assert (bundle / "parity").read_text() == "no folder"


def test_against_golden_it_says_what_that_is_worth(bundle: Path) -> None:
    done = verify(bundle)
    assert "passed, against the bundle's own golden vectors and nothing else" in done.stdout
    assert "not where it was exported from" in " ".join(done.stdout.split())
    assert len(list((bundle / "parity").iterdir())) == 1


def test_a_lax_manifest_fails_by_name(bundle: Path) -> None:
    edit(bundle, lambda m: m["artefacts"][0]["tolerance"].pop())
    done = verify(bundle)
    assert done.exit_code == 1
    assert "FAILED: tolerance of litert-fp32: nan_count is missing, expected at most 0" in done.stdout
