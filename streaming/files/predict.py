"""Any .mlpackage or .tflite on arrays of an .npz, once."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from models.common.errors import UsageError
from runtimes.zips import ZipError, bounded_zip

MOST_INPUT_BYTES = 1 << 30


@dataclass(frozen=True)
class PredictReport:
    """What `hearpack predict` did.

    Attributes:
        package: the package that ran.
        function: its function; "" for the only one.
        mode: number mode.
        output: the .npz written.
        outputs: "float32 [1, 521]" and the like by array name.
    """

    package: Path
    function: str
    mode: str
    output: Path
    outputs: dict[str, str]


def predict(
    package: str | Path, inputs: str | Path, output: str | Path, *, mode: str = "fp32", function: str | None = None
) -> PredictReport:
    """Run an .mlpackage once on the arrays of a .npz, emulated on this CPU.

    Args:
        package: the .mlpackage.
        inputs: .npz of arrays by input name; an image input as uint8 [H, W, 3], [H, W], or float32 [H, W] for halves.
        output: the .npz to write. A classifier's probabilities come in two arrays, NAME and NAME.labels.
        mode: number mode, see runtimes.mil.
        function: function of a multi-function package.

    Returns:
        what was written.

    Raises:
        UsageError: no usable .npz, or an unknown mode.
        ArtefactError: the package cannot be run, or the inputs do not fit it.
        OutputError: the output cannot be written; nothing is left behind.
    """
    import numpy as np

    from models.common.files import atomic_file, check_place
    from runtimes.mil import MLModel

    package, output = Path(package), Path(output)
    check_place(output, ".npz")
    arrays = _read(Path(inputs))
    model = MLModel(package, function_name=function, mode=cast(Literal["fp32", "fp16"], mode))
    pictures = {f.name for f in model.input_features if f.type.WhichOneof("Type") == "imageType"}
    data = {name: _picture(name, value) if name in pictures else value for name, value in arrays.items()}
    state = model.make_state() if model.is_stateful else None
    results: dict[str, Any] = {}
    for name, value in model.predict(data, state).items():
        if isinstance(value, dict):
            results[name], results[f"{name}.labels"] = np.array(list(value.values())), np.array(list(value))
        else:
            results[name] = np.asarray(value)
    with atomic_file(output) as stream:
        np.savez(stream, **results)
    shown = {name: f"{a.dtype} {list(a.shape)}" for name, a in results.items()}
    return PredictReport(package, model.function_name or "", mode, output, shown)


def _read(path: Path) -> dict[str, Any]:
    expected = "expected a .npz with an array for each input (numpy.savez)"
    if not path.is_file():
        raise UsageError(f"{path} does not exist; {expected}")
    try:
        with bounded_zip(path, MOST_INPUT_BYTES) as archive:
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in archive.infolist()}
    except ZipError as exc:
        if path.suffix == ".npy":
            raise UsageError(f"{path} holds a single array without a name; {expected}") from exc
        raise UsageError(f"{path} cannot be read: {exc}; {expected}") from exc


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Any:
    """One array, its header compared with what the archive holds before room is made for it."""
    import numpy as np

    form: Any = np.lib.format  # untyped
    with archive.open(entry) as stream:
        try:
            version = form.read_magic(stream)
            reader = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
            shape, _, dtype = reader(stream)
        except Exception as exc:  # numpy evaluates the header as Python and raises whatever that gives
            raise ZipError(f"{entry.filename[:60]!r} is no array ({type(exc).__name__})") from exc
        if dtype.hasobject or stream.tell() + math.prod(shape) * dtype.itemsize != entry.file_size:
            raise ZipError(f"{entry.filename[:60]!r} promises {dtype} {list(shape)[:8]}, the file holds another size")
    with archive.open(entry) as stream:
        return form.read_array(stream, allow_pickle=False)


def _picture(name: str, value: Any) -> Any:
    """An array as the PIL image that an image input takes."""
    from PIL import Image

    try:
        return Image.fromarray(value)
    except (TypeError, ValueError) as exc:
        raise UsageError(
            f"input {name!r} is an image; expected uint8 [H, W, 3] or [H, W], got {value.dtype} {list(value.shape)}"
        ) from exc
