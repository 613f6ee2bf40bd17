"""What is made of a user's net once and kept as long as the net is."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from models.custom.entry import CustomEntry

Made = TypeVar("Made")


def kept_with_net(make: Callable[[CustomEntry, int], Made]) -> Callable[[CustomEntry, int], Made]:
    """A function of an entry and a number of hops, computed once for each net, description of it and number."""
    kept: weakref.WeakKeyDictionary[nn.Module, dict[Any, Made]] = weakref.WeakKeyDictionary()

    @functools.wraps(make)
    def made(entry: CustomEntry, hops: int) -> Made:
        own, key = kept.setdefault(entry.net, {}), (entry.offline_key(), hops)
        if key not in own:
            own[key] = make(entry, hops)
        return own[key]

    return made
