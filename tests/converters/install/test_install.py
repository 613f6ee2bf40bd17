"""`hearpack install`: what is checked, what is copied, and that a failure changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from converters.install.install import install
from hearpack.cli import app
from models.common.errors import ArtefactError, BundleError, UsageError
from runtimes.bundle import Bundle

ROOT = Path(__file__).resolve().parents[3]
ASSETS = "app/src/main/assets/bundles"
Copy = Callable[[str], Path]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    folder = tmp_path / "android-sample"
    folder.mkdir()
    shutil.copyfile(ROOT / "android-sample" / "bundle-schema.txt", folder / "bundle-schema.txt")
    return folder


def _edit(bundle: Path, change: Callable[[dict], None]) -> None:
    file = bundle / "manifest.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    file.write_text(json.dumps(data), encoding="utf-8")


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_android_gets_one_artefact_and_all_that_goes_with_it(exported: dict[str, Path], sample: Path) -> None:
    bundle = Bundle.open(exported["yamnet"])
    (report,) = install(bundle, android=sample)
    target = sample / ASSETS / "yamnet-15600.hearpack"
    assert report.folder == str(target)
    assert report.artefacts == ("litert-fp32",)
    names = _files(target)
    assert {"manifest.json", "labels.txt", "MODEL_CARD.md", "litert/yamnet.fp32.tflite", "golden/golden.json"} <= names
    assert not [n for n in names if n.startswith("coreml/") or "fp16" in n]
    assert any(n.startswith("LICENSES/") for n in names)
    assert report.files == len(names)
    for name in names:
        assert (target / name).read_bytes() == (bundle.path / name).read_bytes(), name


def test_two_bundles_lie_side_by_side_and_one_is_replaced(exported: dict[str, Path], sample: Path) -> None:
    install(Bundle.open(exported["yamnet"]), android=sample)
    (report,) = install(Bundle.open(exported["dtln"]), android=sample, artefacts=["litert-fp16"])
    assert report.others == ("yamnet-15600.hearpack",)
    target = sample / ASSETS / "dtln-128.hearpack"
    assert (target / "litert/dtln.fp16.tflite").is_file()
    install(Bundle.open(exported["dtln"]), android=sample)
    assert not (target / "litert/dtln.fp16.tflite").exists()
    assert (target / "litert/dtln.fp32.tflite").is_file()
    assert sorted(p.name for p in (sample / ASSETS).iterdir()) == ["dtln-128.hearpack", "yamnet-15600.hearpack"]


def test_a_damaged_model_is_refused_and_what_was_there_stays(
    exported: dict[str, Path], copy_of: Copy, sample: Path
) -> None:
    install(Bundle.open(exported["dtln"]), android=sample)
    damaged = copy_of("dtln")
    model = damaged / "litert/dtln.fp32.tflite"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    with pytest.raises(BundleError, match="does not match the manifest"):
        install(Bundle.open(damaged), android=sample)
    there = sample / ASSETS / "dtln-128.hearpack/litert/dtln.fp32.tflite"
    assert there.read_bytes() == (exported["dtln"] / "litert/dtln.fp32.tflite").read_bytes()


def test_a_schema_that_the_app_does_not_know_is_refused(exported: dict[str, Path], sample: Path) -> None:
    (sample / "bundle-schema.txt").write_text("hearpack/0\n", encoding="utf-8")
    with pytest.raises(BundleError, match=r"reads hearpack/0, the bundle is hearpack/1; update the sample"):
        install(Bundle.open(exported["dtln"]), android=sample)
    assert not (sample / "app").exists()


def test_a_minor_version_of_a_known_schema_is_taken(copy_of: Copy, sample: Path) -> None:
    bundle = copy_of("dtln")
    _edit(bundle, lambda d: d.update(schema="hearpack/1.3"))
    assert install(Bundle.open(bundle), android=sample)[0].files > 5


def test_a_state_that_the_model_does_not_have_is_refused(copy_of: Copy, sample: Path) -> None:
    bundle = copy_of("dtln")
    _edit(bundle, lambda d: d["states"].pop())
    with pytest.raises(ArtefactError, match="cell"):
        install(Bundle.open(bundle), android=sample)
    assert not (sample / "app").exists()


def test_missing_golden_vectors_and_labels_are_refused(copy_of: Copy, sample: Path) -> None:
    bundle = copy_of("yamnet")
    golden = (bundle / "golden/input.f32").rename(bundle / "golden/aside.f32")
    with pytest.raises(BundleError, match="golden"):
        install(Bundle.open(bundle), android=sample)
    golden.rename(bundle / "golden/input.f32")
    (bundle / "labels.txt").unlink()
    with pytest.raises(BundleError, match="labels"):
        install(Bundle.open(bundle), android=sample)


def test_an_artefact_of_the_other_platform_is_refused(exported: dict[str, Path], sample: Path) -> None:
    with pytest.raises(UsageError, match=r"android runs litert; this bundle has: litert-fp32, litert-fp16"):
        install(Bundle.open(exported["dtln"]), android=sample, artefacts=["coreml-fp32"])
    with pytest.raises(BundleError, match="no artefact 'x'"):
        install(Bundle.open(exported["dtln"]), android=sample, artefacts=["x"])


def test_a_folder_that_is_no_sample_is_refused(exported: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a sample app's folder"):
        install(Bundle.open(exported["dtln"]), android=tmp_path)


def test_command(exported: dict[str, Path], sample: Path) -> None:
    run = CliRunner()
    done = run.invoke(app, ["install", str(exported["dtln"]), "--android", str(sample), "--json"])
    assert done.exit_code == 0, done.output
    (report,) = json.loads(done.stdout)
    assert report["platform"] == "android"
    assert report["artefacts"] == ["litert-fp32"]
    told = run.invoke(app, ["install", str(exported["dtln"]), "--android", str(sample)])
    assert "android: litert-fp32 in" in told.stdout
    assert "litert-fp32 on litert-compiled, golden vectors: snr_db" in told.stdout
    (golden,) = report["golden"]
    assert (golden["engine"], golden["not_run"]) == ("litert-compiled", "")
    assert {c["metric"]: c["passed"] for c in golden["checks"]} == {"snr_db": True, "nan_count": True}
    nothing = run.invoke(app, ["install", str(exported["dtln"])])
    assert isinstance(nothing.exception, UsageError)
    both = run.invoke(
        app,
        ["install", str(exported["dtln"]), "--android", str(sample), "--ios", str(sample), "--artefact", "litert-fp32"],
    )
    assert isinstance(both.exception, UsageError)


@pytest.mark.parametrize(("given", "wanted"), [("ios", "android"), ("android", "ios")])
def test_the_other_platforms_project_is_refused(
    exported: dict[str, Path], given: str, wanted: str, tmp_path: Path
) -> None:
    folder = tmp_path / f"{given}-sample"
    folder.mkdir()
    for name in ("bundle-schema.txt", "settings.gradle.kts" if given == "android" else "HearpackKit"):
        (folder / name).write_text("hearpack/1\n")
    before = _files(folder)
    with pytest.raises(
        UsageError, match=f"--{wanted} expects the folder {wanted}-sample, and this one goes with --{given}"
    ):
        install(
            exported["dtln"], android=folder if wanted == "android" else None, ios=folder if wanted == "ios" else None
        )
    assert _files(folder) == before
