"""A .keras file looked through before Keras loads it: sizes, names, state, and objects that are or name code.

Keras' safe mode refuses much of this as well, in the versions that hearpack takes; it has been got round five times.
Here nothing is made: config.json is data, and an object that is not Keras' own layer, initializer and the like is
refused with a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.common.errors import UsageError
from models.common.parsing import parse_json
from runtimes.zips import ZipError, bounded_zip

MOST_BYTES, MOST_CONFIG_BYTES = 4_000_000_000, 32 * 1024 * 1024
LOWEST_VERSION = (3, 14)
_FILES = ("metadata.json", "config.json", "model.weights.h5", "model.weights.npz")
# Of Keras itself, and code all the same: a Python function, a SavedModel, a pickled torch module, another file.
_CODE = {
    "Lambda": "a Python function",
    "__lambda__": "a Python function",
    "function": "a function by its name",
    "TFSMLayer": "a SavedModel from elsewhere",
    "TorchModuleWrapper": "a pickled torch module",
    "JaxLayer": "a function of JAX",
    "FlaxLayer": "a function of JAX",
}


def check_keras_file(file: Path) -> None:
    """Raise UsageError unless a .keras file holds weights and layers of Keras' own, none stateful, and nothing else."""
    try:
        with bounded_zip(file, MOST_BYTES) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            others = [name for name in sizes if name not in _FILES and not name.startswith("assets/")]
            if others:
                raise ZipError(f"it has the entry {others[0][:60]!r}, which Keras does not write")
            if sizes.get("config.json", MOST_CONFIG_BYTES + 1) > MOST_CONFIG_BYTES:
                raise ZipError(f"expected a config.json of at most {MOST_CONFIG_BYTES} bytes")
            config = parse_json(archive.read("config.json").decode("utf-8"))
    except (ZipError, ValueError) as exc:
        raise UsageError(f"{file.name}: cannot be loaded: {exc}; save it again with model.save") from exc
    if not isinstance(config, Mapping):
        raise UsageError(f"{file.name}: cannot be loaded: its config.json is no object; save it again with model.save")
    for place, held in _objects({key: value for key, value in config.items() if key != "compile_config"}):
        kind, module = held.get("class_name"), held.get("module")
        what = _CODE.get(kind) if isinstance(kind, str) else "no name"
        if what is not None:
            raise UsageError(
                f"{file.name}: {place} is a {kind!r:.40}, which holds {what}: code, and hearpack runs none of a model "
                f"file; build the net of Keras' own layers"
            )
        inner = held.get("config")
        if isinstance(inner, Mapping) and inner.get("stateful") is True:
            raise UsageError(
                f"{file.name}: {place} has stateful=True, state that a converted model could not hand over: build it "
                f"with stateful=False and the same weights, for windows; a net for streams is a step net in torch"
            )
        if module is not None and (not isinstance(module, str) or module.split(".")[0] != "keras"):
            raise UsageError(
                f"{file.name}: {place} is {module!r:.40}.{kind!s:.40}, which is not Keras' own: it would be code, and "
                f"hearpack runs none of a model file; build the net of Keras' own layers"
            )


def _objects(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every serialised object, however deep, and where it is: the innermost layer that has a name."""
    pending: list[tuple[str, Any]] = [("the model", config)]
    while pending:
        place, value = pending.pop()
        if isinstance(value, Mapping):
            inner = value.get("config")
            if "class_name" in value:
                if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
                    place = f"layer {inner['name']!r:.40}"
                yield place, value
            pending += [(place, part) for part in value.values()]
        elif isinstance(value, list):
            pending += [(place, part) for part in value]
