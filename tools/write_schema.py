"""Writes docs/manifest.schema.json from the frozen manifest models; a test holds the two together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from runtimes.bundle import Manifest  # noqa: E402 -- the checkout comes first on the path


def schema_text() -> str:
    """The JSON schema of manifest.json, as text."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Manifest.model_json_schema(by_alias=True),
        "title": "manifest.json of a hearpack bundle, schema hearpack/1",
    }
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "manifest.schema.json").write_text(schema_text(), encoding="utf-8")
