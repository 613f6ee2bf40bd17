"""Checkpoints without torch: equal to what torch reads, and hostile ones are one line (reliability review, F4)."""

from __future__ import annotations

import io
import pickle
import random
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common.errors import WeightsError
from models.weights import torch_pickle
from models.weights.checkpoint import load_file

torch = pytest.importorskip("torch")


def tensors() -> dict[str, Any]:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tied = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    return {
        "plain": base.clone(),
        "view": base[1:3, 2:],
        "transposed": base.t(),
        "stepped": base[::2, ::3],
        "expanded": torch.ones(1, 3).expand(4, 3),
        "scalar": torch.tensor(7.5),
        "empty": torch.zeros(0, 3),
        "count": torch.tensor(3),
        "double": torch.ones(3, dtype=torch.float64) / 3,
        "half": torch.ones(3, dtype=torch.float16) / 3,
        "bfloat16": torch.randn(2, 3, generator=torch.Generator().manual_seed(1)).bfloat16().t(),
        "bfloat16 scalar": torch.tensor(0.1).bfloat16(),
        "bool scalar": torch.tensor(True),
        "bool": torch.tensor([True, False, True]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "int16": torch.arange(-2, 3, dtype=torch.int16),
        "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "tied.a": tied,
        "tied.b": tied,
    }


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_tensors_are_what_torch_reads(tmp_path: Path, new: bool) -> None:
    file, held = tmp_path / "net.pt", tensors()
    if not new:
        del held["uint16"]  # the old form cannot hold it
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    held |= net.state_dict()
    beside = {"epoch": 3, "optimizer": {"state": [torch.ones(9), (torch.ones(2),)]}, "best": np.float64(0.5)}
    beside |= {"sampler": {"indexes": np.arange(50), "state": np.random.RandomState(0).get_state(), "seen": {1, 2}}}
    torch.save({"model": OrderedDict(held), **beside}, file, _use_new_zipfile_serialization=new)
    read = load_file(file)
    assert list(read) == list(held)
    for name, tensor in held.items():
        wanted = (tensor.detach().float() if tensor.is_floating_point() else tensor).numpy()
        np.testing.assert_array_equal(read[name], wanted, strict=True)
        assert read[name].flags.writeable
        assert read[name].flags.c_contiguous


def test_torch_is_not_imported(tmp_path: Path) -> None:
    import subprocess
    import sys

    file = tmp_path / "net.pt"
    torch.save(tensors(), file)
    code = (
        "import sys; from models.weights.checkpoint import load_file\n"
        f"load_file({str(file)!r}); print('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Programs, byte by byte: what torch.save never writes.
def name(text: str) -> bytes:
    module, _, attribute = text.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


def row(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def storage(count: int, key: str = "0", kind: str = "FloatStorage") -> bytes:
    return row(text("storage"), name(f"torch.{kind}"), text(key), text("cpu"), number(count)) + b"Q"


def tensor(count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], key: str = "0") -> bytes:
    sizes = (row(*map(number, shape)), row(*map(number, strides)))
    arguments = row(storage(count, key), number(offset), *sizes, b"\x89", name("collections.OrderedDict") + b")R")
    return name("torch._utils._rebuild_tensor_v2") + arguments + b"R"


def state_dict(*items: tuple[str, bytes]) -> bytes:
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in items) + b"u."


def archive(file: Path, program: bytes, storages: dict[str, bytes] | None = None, **options: Any) -> Path:
    with zipfile.ZipFile(file, "w", **options) as out:
        out.writestr("archive/data.pkl", program)
        for key, data in ({"0": bytes(32)} if storages is None else storages).items():
            out.writestr(f"archive/data/{key}", data)
    return file


SMALL = ("w", tensor(8, 0, (2, 4), (4, 1)))
BYTES_DTYPE = name("numpy.dtype") + row(text("S8"), b"\x89", b"\x88") + b"R"
STATE = row(number(3), text("|"), b"N", b"N", b"N", number(1 << 30), number(1), number(2))
RECONSTRUCT = name("numpy._core.multiarray._reconstruct")
ARRAY = RECONSTRUCT + row(name("numpy.ndarray"), number(0) + b"\x85", text("b")) + b"R"
SCALAR = name("numpy._core.multiarray.scalar") + row(BYTES_DTYPE, ARRAY) + b"R"


@pytest.mark.parametrize(
    "beside",
    [
        BYTES_DTYPE + STATE + b"b",
        ARRAY + row(number(1), number(1) + b"\x85", BYTES_DTYPE, b"\x89", text("A" * 8)) + b"b",
        SCALAR,
        name("numpy._core.multiarray._reconstruct")
        + row(name("numpy.matrix"), number(1 << 40) + b"\x85", text("b"))
        + b"R",
        name("numpy.memmap") + row(text("victim"), text("w+")) + b"R",
        name("numpy.fromfile") + row(text("victim")) + b"R",
        name("_codecs.encode") + row(text("a" * 1000), text("zip")) + b"R",
        name("torch._utils._rebuild_sparse_tensor") + row(number(1), number(2)) + b"R",
        name("torch.Tensor") + b")\x81" + row(storage(1 << 40), number(0)) + b"b",
        tensor(8, 0, (1 << 40,), (1,)),
    ],
)
def test_what_lies_beside_the_weights_is_thrown_away(beside: bytes, tmp_path: Path) -> None:
    file = archive(tmp_path / "w.pt", state_dict(("state_dict", b"}(" + text("w") + SMALL[1] + b"u"), ("x", beside)))
    assert load_file(file)["w"].shape == (2, 4)
    with pytest.raises(WeightsError):  # and is no weight itself
        load_file(archive(tmp_path / "x.pt", state_dict(SMALL, ("x", beside))))


@pytest.mark.parametrize(
    "named",
    [
        *("os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.getattr", "builtins.__import__"),
        *("subprocess.Popen", "torch.load", "torch.hub.load", "torch.storage._load_from_bytes", "pickle.loads"),
        *("torch.jit.load", "models.weights.checkpoint.load_file", "operator.attrgetter", "nt.system", "numpyx.a"),
    ],
)
def test_a_name_that_is_no_data_is_refused(named: str, tmp_path: Path) -> None:
    call = name(named) + row(text("touch PWNED")) + b"R"
    with pytest.raises(WeightsError, match=f"holds pickled Python objects \\({named}\\), which could run code"):
        load_file(archive(tmp_path / "w.pt", state_dict(SMALL, ("x", call))))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (tensor(1 << 40, 0, (2, 4), (4, 1)), "storage '0' has 32 bytes, it claims"),
        (tensor(9, 0, (2, 4), (4, 1)), "storage '0' has 32 bytes, it claims 36"),
        (tensor(8, 0, (2, 4), (4, 1), key="7"), "storage '7' has 0 bytes"),
        (tensor(8, 0, (2, 4), (4, 1), key="../data.pkl"), "has 0 bytes, it claims 32"),
        (tensor(8, 1, (2, 4), (4, 1)), "reaches beyond its storage"),
        (tensor(8, 1 << 60, (2, 4), (4, 1)), "reaches beyond its storage"),
        (tensor(8, 0, (2, 4), (1 << 60, 1)), "reaches beyond its storage"),
        (tensor(8, -1, (2, 4), (4, 1)), "negative size"),
        (tensor(8, 7, (2, 4), (-4, 1)), "negative size"),
        (tensor(8, 0, (-2, -4), (4, 1)), "negative size"),
        (tensor(8, 0, (2,), (4, 1)), "shape and strides differ"),
        (tensor(8, 0, (1 << 30, 1 << 30), (0, 0)), "its tensors have 1152921504606846976 elements"),
        (tensor(8, 0, (2,) * 40, (0,) * 40), "elements"),
        (tensor(8, 0, (1,) * 40, (0,) * 40), "reaches beyond its storage"),
        (storage(8), "expected a state_dict"),
        (storage(8, kind="QInt8Storage"), "QInt8Storage"),
        (b"N", "expected a state_dict"),
        (name("collections.OrderedDict") + row(number(3)) + b"R", "no pairs"),
        (b"h\x05", "is truncated, damaged"),
        (b"i" + name("os.system")[1:], "INST"),
        (b"(" + name("torch.Size") + b"o", "OBJ"),
    ],
)
def test_a_tensor_that_is_not_in_the_file_is_one_line(item: bytes, message: str, tmp_path: Path) -> None:
    file = archive(tmp_path / "w.pt", state_dict(("w", item)))
    tracemalloc.start()
    with pytest.raises(WeightsError, match=message) as caught:
        load_file(file)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_long_programs_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_pickle, "MOST_STEPS", 1000)
    with pytest.raises(WeightsError, match="more than 1000 steps"):
        load_file(archive(tmp_path / "w.pt", b"\x80\x02" + b"N" * 5000 + b"."))


def test_deep_nests_and_huge_memo_places_are_nothing(tmp_path: Path) -> None:
    deep = b")" + b"\x85" * 200_000  # a tuple in a tuple: as a key it ends Python itself
    put = b"Nr\xff\xff\xff\x7f0"
    with pytest.raises(WeightsError, match="expected a state_dict"):
        load_file(archive(tmp_path / "w.pt", b"\x80\x02}" + put + deep + b"Ns."))


def test_zips_that_promise_more_than_they_hold(tmp_path: Path) -> None:
    good = state_dict(SMALL)
    assert load_file(archive(tmp_path / "good.pt", good))["w"].shape == (2, 4)
    bomb = archive(
        tmp_path / "bomb.pt", good, {"0": bytes(32), "1": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(WeightsError, match="compressed or encrypted"):
        load_file(bomb)
    data = bytearray(archive(tmp_path / "flags.pt", good).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + at] |= 1
    (tmp_path / "flags.pt").write_bytes(data)
    with pytest.raises(WeightsError, match="compressed or encrypted"):
        load_file(tmp_path / "flags.pt")
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as out:
        for place in ("a", "b"):
            out.writestr(f"{place}/data.pkl", good)
    (tmp_path / "twice.pt").write_bytes(twice.getvalue())
    with pytest.raises(WeightsError, match=r"2 data\.pkl, expected one"):
        load_file(tmp_path / "twice.pt")


def test_storages_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    file = archive(tmp_path / "w.pt", state_dict(SMALL), {str(n): bytes(100_000 if n == 0 else 10) for n in range(40)})
    data = bytearray(file.read_bytes())
    at, claimed = data.find(b"PK\x01\x02"), struct.pack("<II", 100_000, 100_000)
    while at >= 0:  # every entry of the directory claims the size of the first
        data[at + 20 : at + 28] = claimed
        at = data.find(b"PK\x01\x02", at + 4)
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="overlap"):
        load_file(file)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_mutations_are_our_error_or_nothing(tmp_path: Path, new: bool) -> None:
    file = tmp_path / "w.pt"
    torch.save({"model": tensors() if new else {"w": torch.ones(5)}}, file, _use_new_zipfile_serialization=new)
    good, random_, refused = file.read_bytes(), random.Random(7), 0
    program = good.find(b"\x80\x02") + 2
    for _ in range(400):
        data = bytearray(good)
        for _ in range(random_.choice((1, 1, 2, 4))):
            at = random_.randrange(program, min(len(data), program + 4000))
            data[at] = random_.choice(
                (0, 255, ord("."), ord("R"), ord("b"), ord("N"), data[at] ^ 1, random_.randrange(256))
            )
        file.write_bytes(data)
        try:
            load_file(file)
        except WeightsError:
            refused += 1
    assert refused > 100


def test_a_plain_pickle_is_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    for held in ({"w": np.ones(3)}, [1], {"w": [1.0]}):
        file.write_bytes(pickle.dumps(held))
        with pytest.raises(WeightsError, match="expected a state_dict"):
            load_file(file)
