"""torch -> .mlpackage: names, precision by module, refusals, reproducible bytes, and the values, executed."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")

from converters.coreml.convert import CoreMLMetadata, convert  # noqa: E402
from converters.coreml.precision import quiet_coremltools  # noqa: E402
from models.common.errors import ArtefactError, ConversionError, UsageError  # noqa: E402
from models.geometry import GraphSignature, StateSpec, StreamGeometry, TensorSpec  # noqa: E402
from runtimes.mil import Program  # noqa: E402
from runtimes.mil.graph import read_function  # noqa: E402
from runtimes.mil.package import open_package  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests" / "fixtures" / "coreml"
GEOMETRY = StreamGeometry(16000, 1, 256, 128, 0)


def _load_nets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hearpack_coreml_nets", FIXTURES / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


nets = _load_nets()


def _pair() -> GraphSignature:
    """audio and a state h, eight wide."""
    audio = TensorSpec("audio", (1, 8), (-1.0, 1.0), "waveform")
    return GraphSignature((audio,), (TensorSpec("y", (1, 8), (-1.0, 1.0), "result"),), (StateSpec("h", (1, 8)),))


def _metadata(labels: tuple[str, ...] = ()) -> CoreMLMetadata:
    return CoreMLMetadata("a test net", "nobody", "MIT", "1.2", GEOMETRY, labels)


def _refused(module: Any, folder: Path, signature: GraphSignature | None = None, **options: Any) -> str:
    """Convert what must be refused; the message, after checking that nothing was left behind."""
    arguments = {"precision": "fp32", "fp32_modules": (), "metadata": _metadata()} | options
    with pytest.raises(ConversionError) as caught:
        convert(module.eval(), signature or _pair(), destination=folder / "net.mlpackage", **arguments)
    assert list(folder.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small operations on a busy machine: a second thread costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small streaming classifier in fp32, in all fp16, and with its front end in float32."""
    folder = tmp_path_factory.mktemp("coreml")
    labels = tuple(f"label, {i}" for i in range(10))
    kinds: dict[str, tuple[Any, tuple[str, ...]]] = {
        "fp32": ("fp32", ()),
        "fp16": ("fp16", ()),
        "mixed": ("fp16", ("front_end",)),
        "mixed-cell": ("fp16", ("front_end", "cell")),
    }
    for name, (precision, kept) in kinds.items():
        path = folder / f"{name}.mlpackage"
        convert(nets.Classifier().eval(), nets.SIGNATURE, precision, kept, path, _metadata(labels))
    return {name: folder / f"{name}.mlpackage" for name in kinds}


def _spec(package: Path) -> Any:
    with quiet_coremltools() as ct:
        return ct.utils.load_spec(str(package))


def _types(package: Path) -> dict[str, Counter[str]]:
    """How many operations of each kind give which type; of constants, how many elements."""
    types: dict[str, Counter[str]] = {}
    for operation in read_function(open_package(package)).block.operations:
        kind = operation.outputs[0].type
        count = math.prod(kind.static_shape or ()) if operation.type == "const" else 1
        types.setdefault(operation.type, Counter())[kind.dtype] += count
    return types


def _computed(types: dict[str, Counter[str]]) -> set[str]:
    return {dtype for op, counts in types.items() if op not in ("const", "cast") for dtype in counts}


def _floats(types: dict[str, Counter[str]], op: str) -> set[str]:
    return {dtype for dtype in types[op] if dtype.startswith("fp")}


# --- what is in a package ---------------------------------------------------------------------------------


def test_names_shapes_and_float32_io(small: dict[str, Path]) -> None:
    for package in small.values():
        description = _spec(package).description
        for features, names in (
            (description.input, nets.SIGNATURE.input_names),
            (description.output, nets.SIGNATURE.output_names),
        ):
            assert tuple(f.name for f in features) == names
            assert {f.type.multiArrayType.dataType for f in features} == {65568}  # FLOAT32
        assert [tuple(f.type.multiArrayType.shape) for f in description.input] == list(nets.SIGNATURE.input_shapes)


def test_metadata_names_units_labels_and_no_date(small: dict[str, Path]) -> None:
    from models.common.version import __version__

    spec = _spec(small["mixed"])
    metadata = spec.description.metadata
    assert (metadata.shortDescription, metadata.author, metadata.license, metadata.versionString) == (
        "a test net",
        "nobody",
        "MIT",
        "1.2",
    )
    own = dict(metadata.userDefined)
    assert own["hearpack.schema"] == "hearpack/1"
    assert own["hearpack.created_by"] == f"hearpack {__version__}"
    assert own["hearpack.labels"].split("\n") == [f"label, {i}" for i in range(10)]
    assert own["hearpack.sample_rate_hz"] == "16000"
    assert own["hearpack.hop_samples"] == "128"
    assert own["hearpack.buffer_samples"] == "256"
    assert not [key for key in own if "date" in key]
    descriptions = {f.name: f.shortDescription for f in (*spec.description.input, *spec.description.output)}
    assert descriptions["audio"] == "mono waveform at 16000 Hz, full scale 1.0; -1 to 1"
    assert "h1_out of the call before; zeros" in descriptions["h1"]
    assert "as h1" in descriptions["h1_out"]
    assert spec.specificationVersion == 7  # iOS 16


def test_fp16_keeps_the_named_modules_in_float32_weights_and_arithmetic(small: dict[str, Path]) -> None:
    full, half, mixed = (_types(small[name]) for name in ("fp32", "fp16", "mixed"))
    assert not any("fp16" in counts for counts in full.values())
    assert "fp32" not in _computed(half)
    for op in ("sqrt", "log", "matmul" if "matmul" in mixed else "stack"):
        assert _floats(mixed, op) == {"fp32"}, op
    for op in ("conv", "relu", "tanh", "sigmoid", "reduce_mean"):
        assert _floats(mixed, op) == {"fp16"}, op
    # the front end's matrices and nothing large beside them: two DFT matrices and the mel matrix
    front = sum(t.numel() for t in (*nets.Front().buffers(), *nets.Front().parameters()))
    assert front <= mixed["const"]["fp32"] < front + 500
    assert mixed["const"]["fp16"] > 10_000


def test_a_state_is_not_rounded_on_its_way_to_or_from_a_float32_module(tmp_path: Path) -> None:
    """The graph's own split and concatenation of the states stay in float32 where the cell between them does."""
    path = tmp_path / "joined.mlpackage"
    convert(nets.JoinedState().eval(), nets.JOINED, "fp16", ("keep",), path, _metadata())
    rng = np.random.default_rng(4)
    values = {name: rng.standard_normal((1, 8)).astype(np.float32) for name in nets.JOINED.input_names}
    outputs = Program.load(path, mode="fp16").run(values)
    with torch.no_grad():
        expected = nets.JoinedState().eval()(*[torch.from_numpy(v) for v in values.values()])
    np.testing.assert_allclose(outputs["h_out"], expected[1].numpy(), rtol=1e-6)
    assert 1e-5 < float(np.abs(outputs["y"] - expected[0].numpy()).max()) < 1e-2  # the rest is half
    assert "fp16" in _computed(_types(path))


# --- what it computes -------------------------------------------------------------------------------------


def _step_error(package: Path, mode: Any, calls: int = 20) -> dict[str, float]:
    """Largest difference from torch over a stream, state fed back, per output."""
    program, net = Program.load(package, mode=mode), nets.Classifier().eval()
    rng = np.random.default_rng(5)
    mine = theirs = {s.name: np.zeros(s.shape, np.float32) for s in nets.SIGNATURE.states}
    worst = dict.fromkeys(nets.SIGNATURE.output_names, 0.0)
    for _ in range(calls):
        audio = rng.standard_normal((1, 256)).astype(np.float32)
        got = program.run({"audio": audio, **mine})
        with torch.no_grad():
            results = net(*[torch.from_numpy(v) for v in (audio, *theirs.values())])
        expected = dict(zip(nets.SIGNATURE.output_names, (r.numpy() for r in results), strict=True))
        worst = {name: max(worst[name], float(np.abs(got[name] - expected[name]).max())) for name in worst}
        mine = {s.name: got[s.out_name] for s in nets.SIGNATURE.states}
        theirs = {s.name: expected[s.out_name] for s in nets.SIGNATURE.states}
    return worst


def test_executed_values_equal_torch(small: dict[str, Path]) -> None:
    assert max(_step_error(small["fp32"], "fp32").values()) <= 1e-5
    halved = [max(_step_error(small[name], "fp16").values()) for name in ("fp16", "mixed", "mixed-cell")]
    assert all(1e-6 < error < 2e-2 for error in halved)
    assert halved[2] < halved[0]


def _street() -> np.ndarray:
    import soundfile

    from models.weights.assets import pull_asset

    samples, rate = soundfile.read(pull_asset("street-wav"), dtype="float32")
    assert rate == 16000
    return samples


def _clips(seconds: float) -> np.ndarray:
    """Real speech, looped."""
    import soundfile

    from models.weights.assets import pull_asset

    files = sorted(pull_asset("speech").glob("en/*.wav"))
    assert files
    return np.resize(np.concatenate([soundfile.read(f, dtype="float32")[0] for f in files]), round(seconds * 16000))


def test_yamnet_on_a_street_in_both_precisions(tmp_path: Path) -> None:
    from models import pretrained
    from models.nets.yamnet import net as yamnet
    from models.nets.yamnet.entry import YAMNET
    from streaming.metrics.parity import score_parity

    graph = yamnet.graph(yamnet.build(pretrained.load("yamnet")))
    samples = _street()
    starts = range(0, len(samples) - 15600 + 1, 7680)
    windows = [samples[None, s : s + 15600] for s in starts]
    with torch.inference_mode():
        expected = np.concatenate([graph(torch.from_numpy(w.copy()))[0].numpy() for w in windows])
    ends = np.asarray([s + 15600 for s in starts])
    assert len(windows) == 123
    assert expected.max() > 0.9  # something is heard

    figures = {}
    for precision, kept, every in (("fp32", (), 8), ("fp16", YAMNET.fp32_modules, 1)):
        path = tmp_path / f"{precision}.mlpackage"
        metadata = CoreMLMetadata(YAMNET.summary, "", "", "", YAMNET.geometry, pretrained.labels("yamnet"))
        convert(graph, YAMNET.signature(1), precision, kept, path, metadata)
        program = Program.load(path, mode=precision)
        scores = np.concatenate([program.run({"audio": w})["scores"] for w in windows[::every]])
        figures[precision] = score_parity(expected[::every], scores, ends[::every], 16000)
    assert figures["fp32"].score_max_abs_error <= 1e-5
    assert figures["fp16"].score_max_abs_error <= 1e-2
    assert figures["fp16"].score_max_abs_error > 1e-4  # half was computed at all
    assert figures["fp16"].top5_agreement >= 0.97
    assert figures["fp16"].top5_clear_flips == 0
    types = _types(tmp_path / "fp16.mlpackage")
    assert types["const"]["fp16"] > 3_000_000
    assert types["conv"] == {"fp32": 1, "fp16": 26}


@pytest.mark.parametrize(("hops", "precision", "least_db"), [(1, "fp32", 110.0), (1, "fp16", 55.0), (3, "fp32", 110.0)])
def test_dtln_on_speech(hops: int, precision: Any, least_db: float, tmp_path: Path) -> None:
    from models import pretrained
    from models.nets.dtln import net as dtln
    from models.nets.dtln.entry import DTLN
    from streaming.metrics.parity import audio_parity

    net = dtln.build(pretrained.load("dtln"))
    graph, signature = dtln.graph(net, hops), DTLN.signature(hops)
    path = tmp_path / "dtln.mlpackage"
    kept = DTLN.fp32_modules if precision == "fp16" else ()
    convert(graph, signature, precision, kept, path, CoreMLMetadata(DTLN.summary, "", "", "", DTLN.geometry))
    program = Program.load(path, mode=precision)
    step = DTLN.geometry.hop_samples * hops
    samples = _clips(4.0)
    samples = samples[: len(samples) // step * step]
    state = {s.name: np.zeros(s.shape, np.float32) for s in signature.states}
    blocks = []
    for start in range(0, len(samples), step):
        result = program.run({"audio": samples[None, start : start + step], **state})
        blocks.append(result["enhanced"][0])
        state = {s.name: result[s.out_name] for s in signature.states}
    with torch.inference_mode():
        expected = net(torch.from_numpy(samples[None].copy()))[0].numpy()
    figures = audio_parity(expected, np.concatenate(blocks), 16000)
    assert figures.snr_db >= least_db
    assert figures.nan_count == 0


# --- bytes ------------------------------------------------------------------------------------------------


def _tree(package: Path) -> dict[str, bytes]:
    files = {p.relative_to(package).as_posix(): p.read_bytes() for p in package.rglob("*") if p.is_file()}
    assert files
    return files


def test_another_process_with_another_hash_seed_writes_the_same_bytes(small: dict[str, Path], tmp_path: Path) -> None:
    """A fresh process, seed 1, against this one: random seed, other conversions before."""
    path = tmp_path / "mixed.mlpackage"
    environment = {"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)}
    command = [sys.executable, str(FIXTURES / "nets.py"), str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout + done.stderr == ""  # no progress bars, no version warnings, no log lines
    assert _tree(path).keys() == {
        "Manifest.json",
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
    }
    assert _tree(path) == _tree(small["mixed"])


def test_package_has_the_layout_that_coremltools_writes(small: dict[str, Path], tmp_path: Path) -> None:
    ours = small["mixed"]
    with quiet_coremltools() as ct:
        model = ct.models.MLModel(str(ours), skip_model_load=True)
        model.save(str(tmp_path / "theirs.mlpackage"))
        again = ct.models.MLModel(str(tmp_path / "theirs.mlpackage"), skip_model_load=True)
        assert again.get_spec() == model.get_spec()
    theirs = _tree(tmp_path / "theirs.mlpackage")
    assert _tree(ours).keys() == theirs.keys()

    def without_identifiers(text: bytes) -> Any:
        manifest = json.loads(text)
        root = manifest["itemInfoEntries"][manifest.pop("rootModelIdentifier")]
        items = manifest.pop("itemInfoEntries").values()
        return manifest, root, sorted(items, key=lambda item: item["path"])

    manifest = _tree(ours)["Manifest.json"]
    assert without_identifiers(manifest) == without_identifiers(theirs["Manifest.json"])
    assert len(json.loads(manifest)["itemInfoEntries"]) == 2


def test_another_content_gets_other_identifiers(small: dict[str, Path]) -> None:
    manifests = [json.loads((small[name] / "Manifest.json").read_text()) for name in ("fp32", "mixed")]
    assert not manifests[0]["itemInfoEntries"].keys() & manifests[1]["itemInfoEntries"].keys()


def test_a_failed_conversion_leaves_the_package_that_was_there(small: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "net.mlpackage"
    convert(nets.Classifier().eval(), nets.SIGNATURE, "fp32", (), path, _metadata())
    before = _tree(path)
    with pytest.raises(ConversionError):
        convert(nets.Loop().eval(), _pair(), "fp32", (), path, _metadata())
    assert _tree(path) == before
    convert(nets.Classifier().eval(), nets.SIGNATURE, "fp16", (), path, _metadata())
    assert _tree(path) != before
    assert [p.name for p in tmp_path.iterdir()] == ["net.mlpackage"]


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("Loop", "write the cell out"),
        ("Unsupported", r"linalg_svd"),
        ("PassThrough", "output h_out is an input|input is returned unchanged"),
        ("SameTwice", "two outputs are the same tensor"),
        ("ConstantOutput", "output h_out"),
        ("UnreadState", "nothing reads h"),
        ("Mutates", "acc"),
        ("Raises", "cannot be traced|does not run"),
    ],
)
def test_a_net_that_cannot_be_shipped_is_refused(net: str, message: str, tmp_path: Path) -> None:
    import re

    text = _refused(getattr(nets, net)(), tmp_path)
    assert re.search(message, text), text


def test_an_unsupported_operation_is_named_with_its_place(tmp_path: Path) -> None:
    text = _refused(nets.Unsupported(), tmp_path)
    assert "'linalg_svd'" in text
    assert "in inner" in text
    assert "nets.py, line " in text


def test_names_modules_and_labels_are_checked_first(tmp_path: Path) -> None:
    (audio,) = _pair().inputs
    equal = GraphSignature((audio,), (TensorSpec("audio", (1, 8), (0, 1), "same name"),), (StateSpec("h", (1, 8)),))
    assert "equal names among inputs and outputs: audio" in _refused(nets.Sum(), tmp_path, equal)
    spaced = GraphSignature((audio,), (TensorSpec("my y", (1, 8), (0, 1), "a space"),), (StateSpec("h", (1, 8)),))
    assert "my y" in _refused(nets.Sum(), tmp_path, spaced)
    text = _refused(nets.Classifier(), tmp_path, nets.SIGNATURE, precision="fp16", fp32_modules=("frontend",))
    assert "no submodule frontend" in text
    assert "front_end" in text
    assert "8 classes, got 2 labels" in _refused(nets.Sum(), tmp_path, metadata=_metadata(("a", "b")))
    broken = (*tuple("abcdefg"), "h\ni")
    assert "one line" in _refused(nets.Sum(), tmp_path, metadata=_metadata(broken))
    with pytest.raises(ConversionError, match="training mode"):
        convert(nets.Sum().train(), _pair(), "fp32", (), tmp_path / "net.mlpackage", _metadata())
    with pytest.raises(UsageError, match=r"\.mlpackage"):
        convert(nets.Sum().eval(), _pair(), "fp32", (), tmp_path / "net.mlmodel", _metadata())


def test_what_is_no_package_is_not_opened(tmp_path: Path) -> None:
    broken = tmp_path / "x.mlpackage"
    broken.mkdir()
    (broken / "Manifest.json").write_text("{}")
    with pytest.raises(ArtefactError, match="no usable Manifest"):
        open_package(broken)
