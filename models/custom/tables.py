"""A table of a geometry.toml, read strictly. Light."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from models.common.errors import UsageError

_MISSING = object()


class Table:
    """A table whose keys are taken out one by one; what is left at the end was not known."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise UsageError(f"{where}: expected a table, got {values!r}")
        self.left, self.where = dict(values), where
        self.known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self.left

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        self.known.append(key)
        if key not in self.left:
            if default is _MISSING:
                raise UsageError(f"{self.where}: {key} is missing; it has to be said")
            return default
        value = self.left.pop(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
            wanted = " or ".join(k.__name__ for k in kinds)
            raise UsageError(f"{self.where}: {key}: expected {wanted}, got {value!r}")
        return value

    def number(self, key: str, default: Any = _MISSING) -> Any:
        value = self.take(key, (int, float), default)
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def choice(self, key: str, valid: Sequence[str], default: Any = _MISSING) -> str:
        value: str = self.take(key, str, default)
        if value not in valid:
            raise UsageError(f"{self.where}: {key}: expected one of {', '.join(valid)}, got {value!r}")
        return value

    def end(self) -> None:
        for key in self.left:
            near = difflib.get_close_matches(key, self.known, n=1, cutoff=0.5)
            offer = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"{self.where}: unknown key {key!r}; {offer}known: {', '.join(self.known)}")
