"""Compiles the Android sample without Gradle: stubs, core, app, the JVM tests, and the APK.

Each part is kept in the user's cache under the hash of everything that goes into it, so that unchanged sources are
compiled once whatever asks for them; a lock keeps two processes from building the same part.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import ConversionError, HearpackError
from models.common.hashing import sha256_bytes, sha256_file
from models.weights.fetch import cache_dir
from tools.android import toolchain

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "android-sample"
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
    lines += [f"{path.relative_to(ROOT)} {sha256_file(path)}" for path in sorted(inputs)]
    lines += [sha256_file(Path(__file__))]
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
    tools: toolchain.Toolchain, files: Sequence[Path], classpath: Sequence[Path], out: Path, module: str
) -> None:
    """Compile Kotlin into a jar; every warning is an error."""
    lib = tools.file("kotlinc")
    jars = ":".join(
        str(lib / f"{n}.jar")
        for n in (
            "kotlin-compiler",
            "kotlin-stdlib",
            "kotlin-script-runtime",
            "kotlin-reflect",
            "kotlinx-coroutines-core-jvm",
            "annotations-13.0",
        )
    )
    options = ["-no-stdlib", "-no-reflect", "-no-jdk", "-jvm-target", JVM_TARGET, "-Werror", "-module-name", module]
    options += ["-Xstring-concat=inline", "-Xlambdas=class", "-Xsam-conversions=class", "-Xno-call-assertions"]
    if module != "app":
        options.remove("-no-jdk")
    path = ":".join(map(str, classpath))
    compiler = [*JAVA, "-cp", jars, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    run([*compiler, *options, "-cp", path, "-d", out, *files], f"kotlinc of {module}")


def javac(files: Sequence[Path], classpath: Sequence[Path], out: Path) -> None:
    """Compile the Java stubs into a jar."""
    with tempfile.TemporaryDirectory() as classes:
        path = ":".join(map(str, classpath))
        # Our stubs belong to packages of the class path's jar, hence no module system: release 8.
        options = ["-Xlint:-options", "-source", "8", "-target", "8", "-bootclasspath", path, "-implicit:none"]
        run(
            ["javac", "-nowarn", *options, "-sourcepath", SAMPLE / "stubs", "-d", classes, *files], "javac of the stubs"
        )
        run(["jar", "--create", "--date=1980-01-01T00:00:02Z", "--file", out, "-C", classes, "."], "jar of the stubs")


def stubs(tools: toolchain.Toolchain) -> Part:
    """Declarations newer than the API 23 jar, for the compiler only."""
    files = sources("stubs", "*.java")
    return built("stubs", files, (), lambda out: javac(files, [tools.file("android-23.jar")], out), ".jar")


def core(tools: toolchain.Toolchain) -> Part:
    """The pure core: neither Android nor LiteRT on its class path."""
    files = sources("core/src/main")
    classpath = [*tools.kotlin_libraries, tools.file("json.jar")]
    return built("core", files, (), lambda out: kotlinc(tools, files, classpath, out, "core"), ".jar")


def litert_api(tools: toolchain.Toolchain) -> Part:
    """LiteRT's Kotlin API by the same names, run by libLiteRt.so through JNA: for the compiler and the JVM tests."""
    files = sources("jvm/litert")
    classpath = [*tools.kotlin_libraries, tools.file("jna.jar"), tools.file("android-23.jar")]
    return built("litert", files, (), lambda out: kotlinc(tools, files, classpath, out, "litert"), ".jar")


def app(tools: toolchain.Toolchain) -> Part:
    """The app's classes."""
    from tools.android import apk

    files = sources("app/src/main")
    parts = (core(tools), litert_api(tools), stubs(tools), apk.resources(tools))
    classpath = [*tools.kotlin_libraries, *(p.file for p in parts), tools.file("android-23.jar")]
    return built("app", files, parts, lambda out: kotlinc(tools, files, classpath, out, "app"), ".jar")


def jvm_tests(tools: toolchain.Toolchain) -> Part:
    """Tests of the core and of the app's LiteRT adapter, and the bench."""
    files = sources("jvm/tests")
    parts = (core(tools), litert_api(tools), app(tools))
    return built(
        "tests", files, parts, lambda out: kotlinc(tools, files, test_classpath(tools, parts), out, "tests"), ".jar"
    )


def test_classpath(tools: toolchain.Toolchain, parts: Sequence[Part]) -> list[Path]:
    """json.jar stands before android-23.jar, whose org.json is a stub that throws."""
    names = (
        "json.jar",
        "kotlinc/kotlin-test.jar",
        "kotlinc/kotlin-test-junit.jar",
        "junit.jar",
        "hamcrest.jar",
        "jna.jar",
    )
    return [*(p.file for p in parts), *tools.kotlin_libraries, *map(tools.file, names), tools.file("android-23.jar")]


def litert_library() -> Path:
    """libLiteRt.so of the installed ai-edge-litert."""
    import ai_edge_litert

    return Path(ai_edge_litert.__file__).parent / "libLiteRt.so"


def java_command(tools: toolchain.Toolchain, main: str, properties: dict[str, str], *arguments: str) -> list[str]:
    """The command that runs a main class of the JVM tests, with LiteRT and JNA in reach."""
    parts = (jvm_tests(tools), core(tools), litert_api(tools), app(tools))
    given = {
        "litert.so": str(litert_library()),
        "java.library.path": str(tools.file("native")),  # where Debian's JNA looks for its own library
        "jna.nosys": "false",
    } | properties
    flags = [f"-D{k}={v}" for k, v in given.items()]
    classpath = ":".join(map(str, test_classpath(tools, parts)))
    return ["java", "-Xmx1g", "-XX:+UseSerialGC", *flags, "-cp", classpath, main, *arguments]


def main() -> None:
    """Compile everything and build the APK, with the bundles that are installed, in the folder named."""
    from tools.android import apk

    tools = toolchain.find()
    jvm_tests(tools)
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "build/android").resolve()
    target.mkdir(parents=True, exist_ok=True)
    assets = SAMPLE / "app/src/main/assets"
    made = apk.build_apk(tools, target / "hearpack.apk", assets if assets.is_dir() else None)
    sys.stdout.write(f"{made}\n")


if __name__ == "__main__":
    try:
        main()
    except HearpackError as exc:
        sys.exit(f"android: {exc}")
