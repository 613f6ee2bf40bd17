"""Loading, number modes, errors and streams of the evaluator, on small packages made here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

from converters.coreml.convert import quiet_coremltools  # noqa: E402
from models.common.errors import ArtefactError, UsageError  # noqa: E402
from models.geometry import GraphSignature, StateSpec, TensorSpec  # noqa: E402
from runtimes.coreml import CoreMLRuntime  # noqa: E402
from runtimes.inspect.mlpackage import describe  # noqa: E402
from runtimes.mil import MilRuntime, Program  # noqa: E402
from runtimes.mil.package import open_package  # noqa: E402

SIGNATURE = GraphSignature(
    inputs=(TensorSpec("audio", (1, 64), (-1.0, 1.0), "waveform"),),
    outputs=(TensorSpec("enhanced", (1, 64), (-1.0, 1.0), "waveform"),),
    states=(StateSpec("h", (1, 32)),),
)


class MiniNet(torch.nn.Module):
    """Convolution, depthwise convolution and a written-out GRU cell with explicit state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = torch.nn.Conv1d(1, 8, 9, stride=4, padding=4)
        self.depth = torch.nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.x = torch.nn.Linear(8 * 16, 96)
        self.h = torch.nn.Linear(32, 96)
        self.out = torch.nn.Linear(32, 64)

    def forward(self, audio: Any, h: Any) -> Any:
        y = torch.relu(self.depth(torch.relu(self.conv(audio.unsqueeze(1)))))
        gx, gh = self.x(y.reshape(1, 128)), self.h(h)
        r, z = torch.sigmoid(gx[:, :64] + gh[:, :64]).split(32, 1)
        n = torch.tanh(gx[:, 64:] + r * gh[:, 64:])
        state = (1 - z) * n + z * h
        return audio * torch.tanh(self.out(state)), state


@pytest.fixture(scope="session")
def net() -> MiniNet:
    return MiniNet().eval()


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory, net: MiniNet) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mini")
    example = (torch.zeros(1, 64), torch.zeros(1, 32))
    paths = {}
    with quiet_coremltools() as ct:
        traced = torch.jit.trace(net, example)
        for precision in ("fp32", "fp16"):
            paths[precision] = folder / f"{precision}.mlpackage"
            ct.convert(
                traced,
                inputs=[ct.TensorType(n, s, dtype=np.float32) for n, s in (("audio", (1, 64)), ("h", (1, 32)))],
                outputs=[ct.TensorType(n, dtype=np.float32) for n in ("enhanced", "h_out")],
                minimum_deployment_target=ct.target.iOS16,
                compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
            ).save(str(paths[precision]))
    return paths


@pytest.fixture
def broken(packages: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(packages["fp32"], tmp_path / "broken.mlpackage"))


def make(path: Path, body: Callable[..., Any], specs: list[tuple[int, ...]], target: str = "iOS16") -> Path:
    """A package of one builder function with fp32 inputs."""
    with quiet_coremltools() as ct:
        from coremltools.converters.mil.mil import Builder

        opset = getattr(ct.target, target)
        one, two = (lambda a: body(Builder, a)), (lambda a, b: body(Builder, a, b))
        function = one if len(specs) == 1 else two
        program = Builder.program(input_specs=[Builder.TensorSpec(s) for s in specs], opset_version=opset)(function)
        ct.convert(
            program, minimum_deployment_target=opset, compute_precision=ct.precision.FLOAT32, convert_to="mlprogram"
        ).save(str(path))
    return path


def weight_file(package: Path) -> Path:
    return next(package.rglob("weight.bin"))


def speechlike(hops: int, seed: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [(0.3 * rng.standard_normal((1, 64))).astype(np.float32) for _ in range(hops)]


def test_import_is_light() -> None:
    code = "import sys, runtimes.mil, runtimes.coreml; print({'torch', 'coremltools'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "set()"


def test_loading_says_nothing(packages: dict[str, Path]) -> None:
    code = f"from runtimes.mil import Program; Program.load({str(packages['fp32'])!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stderr == ""


def test_a_stream_equals_torch(packages: dict[str, Path], net: MiniNet) -> None:
    runtime = MilRuntime(packages["fp32"], SIGNATURE)
    state, h, loudest = runtime.reset(), torch.zeros(1, 32), 0.0
    for block in speechlike(50, 0):
        outputs, state = runtime.step(block, state)
        with torch.no_grad():
            y, h = net(torch.from_numpy(block), h)
        np.testing.assert_allclose(outputs["enhanced"], y.numpy(), atol=1e-6)
        np.testing.assert_allclose(state["h"], h.numpy(), atol=1e-6)
        loudest = max(loudest, float(np.abs(outputs["enhanced"]).max()))
    assert loudest > 0.05


def test_modes_differ_only_by_rounding(packages: dict[str, Path], net: MiniNet) -> None:
    block = speechlike(1, 3)[0]
    with torch.no_grad():
        reference = net(torch.from_numpy(block), torch.zeros(1, 32))[0].numpy()
    errors = {}
    for mode in ("fp32", "fp16"):
        runtime = MilRuntime(packages["fp16"], SIGNATURE, mode=mode)
        outputs, _ = runtime.step(block, runtime.reset())
        errors[mode] = float(np.abs(outputs["enhanced"] - reference).max())
        halves = outputs["enhanced"].astype(np.float16).astype(np.float32)
        assert np.array_equal(halves, outputs["enhanced"]) == (mode == "fp16")
        assert runtime.info.engine == f"mil-{mode}"
        assert "emulated" in runtime.info.detail
    assert 0 < errors["fp32"] < errors["fp16"] < 2e-3


def test_half_saturates_and_keeps_denormals(tmp_path: Path) -> None:
    def body(mb: Any, a: Any) -> Any:
        return mb.cast(x=mb.mul(x=mb.cast(x=a, dtype="fp16"), y=np.float16(1.0009765625)), dtype="fp32")

    path = make(tmp_path / "half.mlpackage", body, [(1, 6)])
    x = np.array([[65504.0, -65519.0, 65520.0, 6e-8, 2e-8, np.nan]], np.float32)
    with np.errstate(over="ignore"):
        halves = x.astype(np.float16).astype(np.float32)
        expected = (halves * np.float32(1.0009765625)).astype(np.float16).astype(np.float32)
    program = Program.load(path, "fp16")
    got = program.run({"a": x})[program.outputs[0].name]
    np.testing.assert_array_equal(got, expected)
    assert np.isinf(got[0, :3]).all()
    assert got[0, 3] == 2.0**-24
    assert got[0, 4] == 0
    plain = Program.load(path, "fp32")
    np.testing.assert_allclose(plain.run({"a": x})[plain.outputs[0].name][0, :5], x[0, :5] * 1.0009765625, rtol=1e-6)


def test_values_move_without_a_call(tmp_path: Path) -> None:
    def body(mb: Any, a: Any) -> Any:
        constant = mb.add(x=np.float32([1, 2, 3]), y=np.float32([1, 1, 1]))
        return mb.mul(x=mb.cast(x=mb.identity(x=a), dtype="fp32"), y=constant)

    program = Program.load(make(tmp_path / "fold.mlpackage", body, [(1, 3)]))
    assert program.calls == 1
    out = program.run({"a": np.ones((1, 3), np.float32)})[program.outputs[0].name]
    np.testing.assert_array_equal(out, [[2, 3, 4]])


def test_two_streams_by_turns_do_not_mix(packages: dict[str, Path]) -> None:
    runtime = MilRuntime(packages["fp32"], SIGNATURE)
    streams = [speechlike(20, 1), speechlike(20, 2)]
    alone = []
    for blocks in streams:
        state, outs = runtime.reset(), []
        for block in blocks:
            out, state = runtime.step(block, state)
            outs.append(out["enhanced"])
        alone.append(outs)
    states = [runtime.reset(), runtime.reset()]
    for turn in range(20):
        for which in range(2):
            out, states[which] = runtime.step(streams[which][turn], states[which])
            np.testing.assert_array_equal(out["enhanced"], alone[which][turn])
    assert not np.array_equal(alone[0][-1], alone[1][-1])


def test_outputs_belong_to_the_caller(tmp_path: Path) -> None:
    path = make(
        tmp_path / "view.mlpackage", lambda mb, a: (mb.reshape(x=a, shape=[3, 1]), mb.add(x=a, y=1.0)), [(1, 3)]
    )
    program = Program.load(path)
    x = np.arange(3, dtype=np.float32)[None]
    view, plus = (program.run({"a": x})[p.name] for p in program.outputs)
    assert not np.shares_memory(view, x)
    view[:] = plus[:] = -5
    np.testing.assert_array_equal(x, [[0, 1, 2]])
    np.testing.assert_array_equal(program.run({"a": x})[program.outputs[1].name], [[1, 2, 3]])


def test_threads_are_put_back(packages: dict[str, Path]) -> None:
    before = torch.get_num_threads()
    runtime = MilRuntime(packages["fp32"], SIGNATURE, threads=1 if before > 1 else 2)
    runtime.step(speechlike(1, 0)[0], runtime.reset())
    assert torch.get_num_threads() == before


def test_core_ml_states(tmp_path: Path) -> None:
    class Accumulator(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(2))

        def forward(self, x: Any) -> Any:
            self.total.add_(x)
            return self.total * 1.0

    path = tmp_path / "state.mlpackage"
    with quiet_coremltools() as ct:
        ct.convert(
            torch.jit.trace(Accumulator().eval(), torch.zeros(2)),
            inputs=[ct.TensorType("x", (2,), dtype=np.float32)],
            states=[ct.StateType(ct.TensorType(shape=(2,)), name="total")],
            minimum_deployment_target=ct.target.iOS18,
        ).save(str(path))
    program = Program.load(path)
    one, other = program.make_state(), program.make_state()
    name, x = program.outputs[0].name, np.array([1, 2], np.float32)
    for turn in range(1, 4):
        np.testing.assert_array_equal(program.run({"x": x}, one)[name], turn * x)
    np.testing.assert_array_equal(program.run({"x": x}, other)[name], x)
    with pytest.raises(ArtefactError, match="make_state"):
        program.run({"x": x})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"audio": np.zeros((1, 64), np.float32)}, "expected inputs audio, h"),
        (
            {"audio": np.zeros((1, 63), np.float32), "h": np.zeros((1, 32), np.float32)},
            r"audio: fp32 \[1, 64\]; got float32",
        ),
        ({"audio": np.zeros((1, 64), np.int32), "h": np.zeros((1, 32), np.float32)}, "got int32"),
    ],
)
def test_wrong_inputs(packages: dict[str, Path], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        Program.load(packages["fp32"]).run(given)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (
            GraphSignature((TensorSpec("sound", (1, 64), (-1, 1), ""),), SIGNATURE.outputs, SIGNATURE.states),
            "no input 'sound'",
        ),
        (
            GraphSignature((TensorSpec("audio", (1, 65), (-1, 1), ""),), SIGNATURE.outputs, SIGNATURE.states),
            r"input 'audio' should be float32 \[1, 65\]",
        ),
        (GraphSignature(SIGNATURE.inputs, SIGNATURE.outputs), "input 'h' that the signature does not name"),
        (
            GraphSignature(SIGNATURE.inputs, SIGNATURE.outputs, (StateSpec("h", (1, 32), "float16"),)),
            "should be float16",
        ),
    ],
)
def test_wrong_signature(packages: dict[str, Path], signature: GraphSignature, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        MilRuntime(packages["fp32"], signature)


def test_unknown_mode(packages: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="fp64"):
        Program.load(packages["fp32"], "fp64")  # type: ignore[arg-type]


def test_closed_runtime(packages: dict[str, Path]) -> None:
    runtime = MilRuntime(packages["fp32"], SIGNATURE)
    runtime.close()
    runtime.close()
    with pytest.raises(ArtefactError, match="closed"):
        runtime.step(speechlike(1, 0)[0], runtime.reset())


def edit(package: Path, change: Callable[[Any], None]) -> None:
    opened = open_package(package)
    change(opened.spec)
    opened.model_path.write_bytes(opened.spec.SerializeToString())


def operations(spec: Any) -> Any:
    main = spec.mlProgram.functions["main"]
    return main.block_specializations[main.opset].operations


def test_missing_operation_names_its_place(broken: Path) -> None:
    def change(spec: Any) -> None:
        next(o for o in operations(spec) if o.type == "tanh").type = "hyper_tanh"

    edit(broken, change)
    with pytest.raises(ArtefactError, match=r"'hyper_tanh' of opset CoreML6 is not implemented.*output '"):
        Program.load(broken)


def test_truncated_weights(broken: Path) -> None:
    file = weight_file(broken)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ArtefactError, match=r"weight\.bin is truncated"):
        Program.load(broken)


def test_missing_weights(broken: Path) -> None:
    weight_file(broken).unlink()
    with pytest.raises(ArtefactError, match=r"weight\.bin' is missing"):
        Program.load(broken)


def test_overwritten_weights(broken: Path) -> None:
    file = weight_file(broken)
    data = bytearray(file.read_bytes())
    data[64:128] = bytes(64)
    file.write_bytes(bytes(data))
    with pytest.raises(ArtefactError, match="no weight record at byte 64"):
        Program.load(broken)


def test_weights_outside_the_package(broken: Path) -> None:
    def change(spec: Any) -> None:
        for operation in operations(spec):
            if operation.attributes["val"].WhichOneof("value") == "blobFileValue":
                operation.attributes["val"].blobFileValue.fileName = "@model_path/../../../../../../etc/hostname"

    edit(broken, change)
    with pytest.raises(ArtefactError, match="outside the package"):
        Program.load(broken)


def test_value_used_before_it_exists(broken: Path) -> None:
    def change(spec: Any) -> None:
        tanh = next(o for o in operations(spec) if o.type == "tanh")
        tanh.inputs["x"].arguments[0].name = tanh.outputs[0].name

    edit(broken, change)
    with pytest.raises(ArtefactError, match="unknown value"):
        Program.load(broken)


def test_declared_shape_that_lies(broken: Path) -> None:
    def change(spec: Any) -> None:
        for operation in operations(spec):
            if operation.type == "const" and operation.attributes["val"].WhichOneof("value") == "blobFileValue":
                operation.attributes["val"].type.tensorType.dimensions[0].constant.size = 1 << 60

    edit(broken, change)
    with pytest.raises(ArtefactError, match="more elements than a package of this size can hold"):
        Program.load(broken)


def test_newer_specification(broken: Path) -> None:
    edit(broken, lambda spec: setattr(spec, "specificationVersion", 99))
    with pytest.raises(ArtefactError, match="version 99 is newer"):
        Program.load(broken)


def test_garbage_specification(broken: Path) -> None:
    open_package(broken).model_path.write_bytes(b"\xff" * 100)
    with pytest.raises(ArtefactError, match="cannot be parsed"):
        Program.load(broken)


def test_not_a_package(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="does not exist"):
        Program.load(tmp_path / "nothing.mlpackage")
    with pytest.raises(ArtefactError, match=r"Manifest\.json"):
        Program.load(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ArtefactError, match="is a file"):
        Program.load(tmp_path / "notes.txt")


def test_neural_network_is_named(tmp_path: Path) -> None:
    with quiet_coremltools() as ct:
        spec = ct.proto.Model_pb2.Model()
    spec.specificationVersion = 4
    spec.neuralNetwork.layers.add().name = "first"
    path = tmp_path / "old.mlmodel"
    path.write_bytes(spec.SerializeToString())
    with pytest.raises(ArtefactError, match="a neural network, not an ML Program"):
        Program.load(path)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_core_ml_elsewhere(packages: dict[str, Path]) -> None:
    with pytest.raises(ArtefactError, match="only on macOS"):
        CoreMLRuntime(packages["fp32"], SIGNATURE)


def test_description(packages: dict[str, Path]) -> None:
    report = describe(packages["fp16"])
    assert [(t.name, t.shape, t.dtype) for t in report.inputs] == [("audio", (1, 64), "fp32"), ("h", (1, 32), "fp32")]
    assert [t.name for t in report.outputs] == ["enhanced", "h_out"]
    assert report.opset == "CoreML6"
    assert report.minimum_ios == "16"
    counts = dict(report.operations)
    assert counts["conv"] == 2
    assert counts["tanh"] == 2
    assert "const" not in counts
    assert {w.dtype for w in report.weights} == {"fp16"}
    assert 0 < report.weight_bytes <= weight_file(packages["fp16"]).stat().st_size
    assert report.lints == ()


def test_description_finds_weak_points(tmp_path: Path) -> None:
    def body(mb: Any, a: Any, b: Any) -> Any:
        count = mb.reduce_argmax(x=a, axis=1)
        wide = mb.tile(x=a, reps=[1, 20_000])
        deep = mb.reshape(x=b, shape=[1, 1, 1, 1, 2])
        looped = mb.while_loop(
            _cond=lambda v: mb.less(x=mb.reduce_sum(x=v, keep_dims=False), y=9.0),
            _body=lambda v: mb.add(x=v, y=1.0),
            loop_vars=(b,),
        )
        return count, mb.reduce_sum(x=wide, axes=[1]), mb.square(x=looped), deep

    path = make(tmp_path / "weak.mlpackage", body, [(1, 3), (1, 2)])
    report = describe(path)
    assert {"waveform-axis", "control-flow", "integer-operations", "high-rank"} <= {lint.rule for lint in report.lints}
    assert all(lint.source for lint in report.lints)
