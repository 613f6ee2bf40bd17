"""Parts of the Android sample: compiled once, and kept in the user's cache under the hash of all that goes into them.

A lock keeps two processes from building the same part.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import ConversionError
from models.common.hashing import sha256_bytes, sha256_file
from models.weights.fetch import cache_dir
from tools.android import toolchain

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "android-sample"
RECIPES = [Path(__file__).with_name(f"{name}.py") for name in ("parts", "resources", "build", "apk")]
KEPT_BUILDS = 12
JVM_TARGET = "11"
# Less work for compilers that run for seconds: one collector thread, the first compiler tier only.
JAVA = ("java", "-Xmx1500m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


@dataclass(frozen=True)
class Part:
    """A compiled part: its jar (or apk), and the key that names what went into it."""

    file: Path
    key: str


def sources(folder: str, pattern: str = "*.kt") -> list[Path]:
    """Source files below a folder of the sample, in order."""
    found = sorted((SAMPLE / folder).rglob(pattern))
    if not found:
        raise ConversionError(f"{SAMPLE / folder}: expected {pattern} files, found none")
    return found


def run(command: Sequence[str | Path], what: str, **keywords: str) -> str:
    """Run a tool and return what it printed.

    Raises:
        ConversionError: it failed; the message holds its output.
    """
    env = os.environ | keywords
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise ConversionError(f"{what} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def built(name: str, inputs: Iterable[Path], after: Iterable[Part], make: Callable[[Path], None], suffix: str) -> Part:
    """The part made of these inputs and parts, from the cache or from `make(file to write)`."""
    stamp = toolchain.folder() / toolchain.STAMP
    lines = [name, stamp.read_text(encoding="ascii"), *(part.key for part in after)]
    lines += [f"{path.relative_to(ROOT)} {sha256_file(path)}" for path in [*sorted(inputs), *RECIPES]]
    key = sha256_bytes("\n".join(lines).encode())[:24]
    folder = cache_dir() / "android-build"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{key}{suffix}"
    with (folder / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as scratch:
                made = Path(scratch) / f"made{suffix}"
                make(made)
                made.rename(target)
            for old in sorted(folder.glob(f"{name}-*{suffix}"), key=lambda p: p.stat().st_mtime)[:-KEPT_BUILDS]:
                old.unlink()
        target.touch()
    return Part(target, key)


def kotlinc(
    tools: toolchain.Toolchain,
    files: Sequence[Path],
    classpath: Sequence[Path],
    out: Path,
    module: str,
    friends: Sequence[Path] = (),
) -> None:
    """Compile Kotlin into a jar; every warning is an error. What is internal to `friends` may be used."""
    names = ["compiler", "stdlib", "script-runtime", "reflect"]
    names = [*(f"kotlin-{name}" for name in names), "kotlinx-coroutines-core-jvm", "annotations-13.0"]
    jars = ":".join(str(tools.file(f"kotlinc/{name}.jar")) for name in names)
    options = ["-no-stdlib", "-no-reflect", "-jvm-target", JVM_TARGET, "-Werror", "-module-name", module]
    options += ["-Xstring-concat=inline", "-Xlambdas=class", "-Xsam-conversions=class", "-Xno-call-assertions"]
    if friends:
        options.append(f"-Xfriend-paths={','.join(map(str, friends))}")
    if module in ("library", "app"):
        options.append("-no-jdk")  # Android's java.* comes from its own jar
    path = ":".join(map(str, classpath))
    compiler = [*JAVA, "-cp", jars, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    run([*compiler, *options, "-cp", path, "-d", out, *files], f"kotlinc of {module}")


def javac(files: Sequence[Path], classpath: Sequence[Path], out: Path) -> None:
    """Compile the Java stubs into a jar."""
    with tempfile.TemporaryDirectory() as classes:
        path = ":".join(map(str, classpath))
        # Our stubs belong to packages of the class path's jar, hence no module system: release 8.
        options = ["-Xlint:-options", "-source", "8", "-target", "8", "-bootclasspath", path, "-implicit:none"]
        command: list[str | Path] = ["javac", "-nowarn", *options, "-sourcepath", SAMPLE / "stubs", "-d", classes]
        run([*command, *files], "javac of the stubs")
        run(["jar", "--create", "--date=1980-01-01T00:00:02Z", "--file", out, "-C", classes, "."], "jar of the stubs")
