"""requirements.lock, -cuda, -coreai and -batch: every package with its hashes, for Linux x86-64 and macOS arm64.

    python tools/lock.py UV     resolve pyproject.toml and constraints.txt with that uv, for Python 3.11 to 3.13

The second file has what the index's torch needs on Linux and a CPU build of torch does not, the others what the extras
`coreai` and `batch` add to the first. Where PIP_FIND_LINKS has
such a CPU build of the locked version, its hash is accepted too. No name of a registry is written.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAIN, CUDA = (ROOT / f"requirements{which}.lock" for which in ("", "-cuda"))
EXTRAS = ("coreai", "batch")
CUDA_ONLY = ("cuda-", "nvidia-")
UNUSED = "triton"  # writes GPU kernels; importing it beside LiteRT ended the process (torch 2.13.0, triton 3.7.1)
_COMPILE = (
    "pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links "
    "--no-header --no-annotate --quiet --extra export --extra dev -c constraints.txt pyproject.toml"
)
# Markers of all that `make lock` resolves for (tool.uv.environments): they say nothing.
_LINUX = "platform_machine == 'x86_64' and sys_platform == 'linux'"
_ANYWHERE = f"((platform_machine == 'arm64' and sys_platform == 'darwin') or ({_LINUX}))"
_HEAD = (
    "# Made by `make lock`{more}. Packages with their hashes, for Linux x86-64 and macOS arm64, Python 3.11 to 3.13.\n"
)


def simplified(text: str) -> str:
    """The lock without the markers that hold everywhere."""
    for always in (f"python_full_version < '3.14' and {_ANYWHERE}", f"python_full_version < '3.14' and {_LINUX}"):
        only = " ; sys_platform == 'linux'" if always.endswith(_LINUX) else ""
        text = text.replace(f" ; {always}", only)
    text = text.replace(f" and {_ANYWHERE}", "")
    # CPython only: what is left of these markers holds everywhere too.
    return re.sub(r" ; python_full_version < '3\.14' and [^\\\n]*(?:PyPy)[^\\\n]*(?= \\)", "", text)


def with_local_builds(entry: str, folders: str) -> str:
    """torch's entry, its CPU builds in these folders accepted too."""
    version = re.match(r"torch==([\w.]+)", entry)
    if version is None:
        return entry
    files = [f for folder in folders.split() for f in sorted(Path(folder).glob(f"torch-{version[1]}+cpu-*.whl"))]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return entry + "".join(f" \\\n    --hash=sha256:{digest}" for digest in digests if digest not in entry)


def resolved(uv: str, *more: str) -> list[str]:
    """Every package that is needed, an entry each."""
    command = [uv, *_COMPILE.split(), *more]
    text = simplified(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    entries = [entry.rstrip() for entry in re.split(r"^(?=\S)", text, flags=re.M) if entry.strip()]
    return [entry for entry in entries if not entry.startswith(UNUSED)]


def lock_extra(uv: str, extra: str) -> None:
    """What an extra adds to the lock that is there."""
    text = "".join(file.read_text(encoding="utf-8") for file in (MAIN, CUDA))
    locked = set(re.findall(r"^[\w.-]+(?===)", text, re.M))
    entries = resolved(uv, "--extra", extra, "-c", MAIN.name)
    added = [entry for entry in entries if entry.partition("==")[0] not in locked]
    text = _HEAD.format(more=f": for the extra {extra}") + "\n".join(added) + "\n"
    (ROOT / f"requirements-{extra}.lock").write_text(text, encoding="utf-8")


def main(uv: str) -> None:
    entries = resolved(uv)
    cuda = [entry for entry in entries if entry.startswith(CUDA_ONLY)]
    rest = [with_local_builds(entry, os.environ.get("PIP_FIND_LINKS", "")) for entry in entries if entry not in cuda]
    MAIN.write_text(_HEAD.format(more="") + "\n".join(rest) + "\n", encoding="utf-8")
    CUDA.write_text(_HEAD.format(more=": for torch with CUDA") + "\n".join(cuda) + "\n", encoding="utf-8")
    for extra in EXTRAS:
        lock_extra(uv, extra)


if __name__ == "__main__":
    main(sys.argv[1])
