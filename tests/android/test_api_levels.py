"""Every reference of core and app to the platform against the levels it has, and the stubs against the platform."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import pytest

from tools.android import apilevels, build, parts, resources, toolchain

KOTLIN = parts.SAMPLE / "hearpack/src/main/kotlin/hearpack/android"
GUARDED = re.compile(r"\.Api(\d+)(?:\$|$)")


@pytest.fixture(scope="module")
def known(tools: toolchain.Toolchain) -> dict[str, apilevels.ApiClass]:
    return apilevels.read_typings(tools.file("android-api.d.ts"))


@pytest.fixture(scope="module")
def compiled(tools: toolchain.Toolchain) -> apilevels.Compiled:
    made = [apilevels.read_classes(part.file) for part in (build.core(tools), build.library(tools), build.app(tools))]
    above = {name: types for part in made for name, types in part.above.items()}
    return apilevels.Compiled(above, set().union(*(part.references for part in made)))


def test_the_typings_are_read_as_they_are_meant(known: dict[str, apilevels.ApiClass]) -> None:
    assert len(known) > 3000
    record = "android.media.AudioRecord"
    assert apilevels.level(known, record, "getTimestamp", 2) == 24
    assert apilevels.level(known, record, "registerAudioRecordingCallback", 2) == 29  # by its interface
    assert apilevels.level(known, record, "startRecording", 0) == 21
    assert apilevels.level(known, "android.app.Notification.Builder", "<init>", 2) == 26
    assert apilevels.level(known, "android.app.Notification.Builder", "<init>", 1) == 21
    assert apilevels.level(known, "android.app.Service", "startForeground", 3) == 29
    assert apilevels.level(known, "android.app.Service", "startForeground", 2) == 21
    assert apilevels.level(known, "android.os.PowerManager", "getThermalHeadroom", 1) == 30
    assert apilevels.level(known, "android.app.Activity", "checkSelfPermission", 1) == 23  # of Context
    assert apilevels.level(known, "android.media.AudioRecord", "startRecordings", 0) is None
    assert apilevels.level(known, "java.io.InputStream", "readAllBytes", 0) == 33
    assert apilevels.level(known, "java.lang.Math", "floorDiv", 2) == 24


def test_every_reference_exists_on_every_supported_version(
    known: dict[str, apilevels.ApiClass], compiled: apilevels.Compiled
) -> None:
    lowest = resources.gradle_facts().min_sdk
    checked, faults = dict.fromkeys(apilevels.PLATFORM, 0), []
    for reference in sorted(compiled.references, key=str):
        found = apilevels.resolved(known, compiled, reference)
        if found is None:
            continue
        owner, level = found
        checked[next(prefix for prefix in checked if owner.startswith(prefix))] += 1
        guard = GUARDED.search(reference.user)
        allowed = int(guard[1]) if guard else lowest
        if level is None:
            faults.append(f"{reference.user}: {owner}.{reference.name} does not exist")
        elif level > allowed:
            faults.append(f"{reference.user}: {owner}.{reference.name} needs API {level}, it runs from {allowed}")
    assert not faults, "\n".join(faults)
    assert checked["android."] > 250
    assert checked["java."] > 300


def test_newer_calls_are_made_behind_a_check_of_the_version() -> None:
    used = set()
    for file in [*parts.sources("hearpack/src/main"), *parts.sources("app/src/main")]:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            for level in re.findall(r"\bApi(\d+)\.", line):
                assert f"SDK_INT >= {level}" in line, f"{file.name}:{number}: Api{level} without its check"
                used.add(level)
    declared = set(re.findall(r"object Api(\d+)", (KOTLIN / "NewerApis.kt").read_text(encoding="utf-8")))
    assert used == declared


def test_a_call_that_is_too_new_is_found(
    tools: toolchain.Toolchain, known: dict[str, apilevels.ApiClass], tmp_path: Path
) -> None:
    source = tmp_path / "TooNew.kt"
    text = "package planted\n\nfun heat(power: android.os.PowerManager) = power.getThermalHeadroom(0)\n"
    source.write_text(text, encoding="utf-8")
    jar = tmp_path / "planted.jar"
    classpath = [*tools.kotlin_libraries, build.stubs(tools).file, tools.file("android-23.jar")]
    parts.kotlinc(tools, [source], classpath, jar, "planted")
    found = apilevels.read_classes(jar)
    levels = [apilevels.resolved(known, found, r) for r in found.references]
    assert ("android.os.PowerManager", 30) in levels


def _members(jar: Path, names: list[str]) -> dict[str, set[str]]:
    """Public and protected members of classes, with their descriptors, as javap prints them; those that there are."""
    command = ["javap", "-s", "-protected", "-cp", str(jar), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, set[str]] = {}
    members: set[str] = set()
    for line, after in itertools.pairwise(map(str.strip, [*done.stdout.splitlines(), ""])):
        if header := re.match(r"(?:[\w ]+ )?(?:class|interface) (android[\w.$]+)", line):
            members = found.setdefault(header[1], set())
        elif after.startswith("descriptor: "):
            members.add(f"{re.split(r'[(;]', line)[0].split()[-1]} {after}")
    return found


def test_the_stubs_say_what_the_platform_says(tools: toolchain.Toolchain, known: dict[str, apilevels.ApiClass]) -> None:
    jar = build.stubs(tools).file
    names = sorted({n for n in apilevels.read_classes(jar).above if n.startswith("android.")})
    assert len(names) >= 15
    ours, old = _members(jar, names), _members(tools.file("android-23.jar"), names)
    assert sorted(ours) == names
    newer = 0
    for name in names:
        dotted = name.replace("$", ".")
        assert dotted in known, f"{dotted} is no class of the platform"
        for member in ours[name] - old.get(name, set()):
            # Not in the API 23 jar with this descriptor: then it must be newer, by name and number of arguments.
            called, descriptor = member.split(" descriptor: ")
            called = "<init>" if called == name else called
            arguments = apilevels.descriptor_arguments(descriptor)
            level = apilevels.level(known, dotted, called, arguments)
            assert level is not None, f"{dotted}.{called} {descriptor} does not exist"
            assert level > 23, f"{dotted}.{called} {descriptor}: API 23 has it with another descriptor"
            newer += 1
    assert newer >= 10
