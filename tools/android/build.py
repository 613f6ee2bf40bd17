"""Compiles the Android sample without Gradle: stubs, core, app and the JVM tests; and the command that runs those."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.android import toolchain
from tools.android.parts import Part, built, javac, kotlinc, sources
from tools.android.resources import resources


def stubs(tools: toolchain.Toolchain) -> Part:
    """Declarations newer than the API 23 jar, for the compiler only."""
    files = sources("stubs", "*.java")
    return built("stubs", files, (), lambda out: javac(files, [tools.file("android-23.jar")], out), ".jar")


def core(tools: toolchain.Toolchain) -> Part:
    """The pure core: neither Android nor LiteRT on its class path."""
    files = sources("core/src/main")
    classpath = [tools.file("kotlinc/kotlin-stdlib.jar"), tools.file("json.jar")]
    return built("core", files, (), lambda out: kotlinc(tools, files, classpath, out, "core"), ".jar")


def litert_api(tools: toolchain.Toolchain) -> Part:
    """LiteRT's Kotlin API by the same names, run by libLiteRt.so through JNA: for the compiler and the JVM tests."""
    files = sources("jvm/litert")
    classpath = [*tools.kotlin_libraries, tools.file("jna.jar"), tools.file("android-23.jar")]
    return built("litert", files, (), lambda out: kotlinc(tools, files, classpath, out, "litert"), ".jar")


def library(tools: toolchain.Toolchain) -> Part:
    """The Android library: microphone, speaker, LiteRT's engine."""
    files = sources("hearpack/src/main")
    parts = (core(tools), litert_api(tools), stubs(tools))
    classpath = [*tools.kotlin_libraries, *(p.file for p in parts), tools.file("android-23.jar")]
    return built("library", files, parts, lambda out: kotlinc(tools, files, classpath, out, "library"), ".jar")


def app(tools: toolchain.Toolchain) -> Part:
    """The app's classes."""
    files = sources("app/src/main")
    parts = (core(tools), library(tools), stubs(tools), resources(tools))
    classpath = [*tools.kotlin_libraries, *(p.file for p in parts), tools.file("android-23.jar")]
    return built("app", files, parts, lambda out: kotlinc(tools, files, classpath, out, "app"), ".jar")


def jvm_tests(tools: toolchain.Toolchain) -> Part:
    """Tests of the core and of the library's LiteRT adapter, and the bench."""
    files = [*sources("core/src/test"), *sources("jvm/tests")]
    parts = (core(tools), litert_api(tools), library(tools))
    classpath = test_classpath(tools, parts)
    friends = [part.file for part in parts]
    return built("tests", files, parts, lambda out: kotlinc(tools, files, classpath, out, "tests", friends), ".jar")


def test_classpath(tools: toolchain.Toolchain, parts: Sequence[Part]) -> list[Path]:
    """json.jar stands before android-23.jar, whose org.json is a stub that throws."""
    names = ("json", "kotlinc/kotlin-test", "kotlinc/kotlin-test-junit", "junit", "hamcrest", "jna", "android-23")
    return [*(p.file for p in parts), *tools.kotlin_libraries, *(tools.file(f"{name}.jar") for name in names)]


def litert_library() -> Path:
    """libLiteRt.so of the installed ai-edge-litert."""
    import ai_edge_litert

    return Path(ai_edge_litert.__file__).parent / "libLiteRt.so"


def java_command(tools: toolchain.Toolchain, main: str, properties: dict[str, str], *arguments: str) -> list[str]:
    """The command that runs a main class of the JVM tests, with LiteRT and JNA in reach."""
    parts = (jvm_tests(tools), core(tools), litert_api(tools), library(tools))
    given = {
        "litert.so": str(litert_library()),
        "java.library.path": str(tools.file("native")),  # where Debian's JNA looks for its own library
        "jna.nosys": "false",
    } | properties
    flags = [f"-D{k}={v}" for k, v in given.items()]
    classpath = ":".join(map(str, test_classpath(tools, parts)))
    return ["java", "-Xmx1g", "-XX:+UseSerialGC", *flags, "-cp", classpath, main, *arguments]
