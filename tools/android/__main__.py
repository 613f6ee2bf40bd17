"""`python -m tools.android [FOLDER]`: compile everything and build the APK, with the bundles that are installed."""

from __future__ import annotations

import sys
from pathlib import Path

from models.common.errors import HearpackError
from tools.android import toolchain
from tools.android.apk import build_apk
from tools.android.build import jvm_tests
from tools.android.parts import SAMPLE


def main(folder: str = "build/android") -> None:
    """Write hearpack.apk into a folder and print its path."""
    tools = toolchain.find()
    jvm_tests(tools)
    target = Path(folder).resolve()
    target.mkdir(parents=True, exist_ok=True)
    assets = SAMPLE / "app/src/main/assets"
    made = build_apk(tools, target / "hearpack.apk", assets if assets.is_dir() else None)
    sys.stdout.write(f"{made}\n")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except HearpackError as exc:
        sys.exit(f"android: {exc}")
