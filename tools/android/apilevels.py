"""Which Android version has what: every class and member of the platform that compiled code refers to, API 21 to 37.

The platform's declarations come from pinned typings that carry `@since` (nothing stated: 21 or older). A member
without one that a supertype or interface declares has that declaration's level. References are read with javap.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from models.common.errors import ConversionError
from tools.android.parts import run

OLDEST = 21
PLATFORM = ("android.", "java.", "javax.", "org.json.")
_SINCE = re.compile(r"@since (\d+)")
_CLASS = re.compile(r"export (?:abstract )?(?:class|interface) (\w+)")
_MODULE = re.compile(r"(?:declare|export) (?:module|namespace) ([\w.]+) \{")
_MEMBER = re.compile(r"(?:public |protected |static |abstract |readonly )*(\w+)\s*(\(|<|\??:)")
_REFERENCE = re.compile(r"= (Methodref|InterfaceMethodref|Fieldref)\s+\S+\s+// ([\w/$]+)\.\"?([\w<>$]+)\"?:(\S+)")
_USED_CLASS = re.compile(r"= Class\s+\S+\s+// \"?\[*L?([\w/$]+);?\"?")


@dataclass
class ApiClass:
    """A class of the platform: its level, its supertypes, and its members' levels by name and number of arguments."""

    since: int
    above: list[str] = field(default_factory=list)
    members: dict[tuple[str, int], int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """What a compiled class of ours refers to. `name` is empty for the class itself; arguments -1 for a field."""

    user: str
    owner: str
    name: str
    arguments: int


def _arguments(text: str) -> int:
    """How many parameters stand between the first parentheses of a declaration."""
    inside = text[text.index("(") + 1 :]
    depth, commas, empty = 0, 0, True
    for character in inside:
        if character in "([{<":
            depth += 1
        elif character in "]}>" or (character == ")" and depth):
            depth -= 1
        elif character == ")":
            break
        elif character == "," and depth == 0:
            commas += 1
        empty = empty and character.isspace()
    return 0 if empty else commas + 1


@lru_cache(maxsize=2)
def read_typings(path: Path) -> dict[str, ApiClass]:
    """Classes of the platform by their dotted name; a nested class is Outer.Inner."""
    known: dict[str, ApiClass] = {}
    stack: list[tuple[str, str]] = []
    since: int | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if found := _SINCE.search(text):
            since = int(found[1])
        if found := _MODULE.match(text):
            stack.append(("module", found[1]))
            since = None
        elif (found := _CLASS.match(text)) and text.endswith("{"):
            name = ".".join([part for _, part in stack] + [found[1]])
            entry = known.setdefault(name, ApiClass(since or OLDEST))
            for above in re.findall(r"(?:extends|implements) ([^{]+?)(?= implements |\{|$)", text):
                entry.above += [part.strip().split("<")[0] for part in above.split(",")]
            stack.append(("class", found[1]))
            since = None
        elif text.startswith("}") and stack:
            if text == "}":
                stack.pop()
            since = None
        elif stack and stack[-1][0] == "class" and not text.startswith(("*", "/")):
            if found := _MEMBER.match(text):
                entry = known[".".join(part for _, part in stack)]
                key = (found[1], -1 if found[2].endswith(":") else _arguments(text))
                entry.members[key] = since if key not in entry.members else _least(entry.members[key], since)
            if text.endswith(("{", "({")) and not found:
                raise ConversionError(f"{path.name}: cannot read {text!r}")
            since = None
    return known


def _least(a: int | None, b: int | None) -> int | None:
    """The lower of two levels of overloads; None, the oldest, is the lowest."""
    return None if a is None or b is None else min(a, b)


def level(known: dict[str, ApiClass], owner: str, name: str, arguments: int) -> int | None:
    """The API level a member or class appeared in; None if the platform does not know it."""
    entry = known.get(owner)
    if entry is None:
        return None
    if not name:
        return entry.since
    key = ("constructor" if name == "<init>" else name, arguments)
    inherited = [found for above in entry.above if (found := level(known, above, name, arguments)) is not None]
    if name == "<init>":
        # A class without a declared constructor has the default one.
        return max(entry.since, entry.members.get(key) or OLDEST) if key in entry.members or not arguments else None
    if key in entry.members:
        own = entry.members[key]
        # The typings leave @since out where the member came with an interface that is younger than the class.
        return max(entry.since, own if own is not None else max(inherited, default=OLDEST))
    if inherited:
        return max(entry.since, min(inherited))
    return None


@dataclass
class Compiled:
    """Our own classes: what each extends, declares and refers to."""

    above: dict[str, list[str]]
    references: set[Reference]


def descriptor_arguments(descriptor: str) -> int:
    """How many arguments a method's descriptor has; -1 for a field."""
    if not descriptor.startswith("("):
        return -1
    return len(re.findall(r"\[*(?:L[^;]+;|[BCDFIJSZ])", descriptor[1 : descriptor.index(")")]))


def read_classes(jar: Path) -> Compiled:
    """References of a jar's classes, by javap."""
    with zipfile.ZipFile(jar) as archive:
        names = [n.removesuffix(".class").replace("/", ".") for n in archive.namelist() if n.endswith(".class")]
    printed = run(["javap", "-v", "-p", "-cp", jar, *names], f"javap of {jar.name}")
    compiled = Compiled({}, set())
    user = ""
    for line in printed.splitlines():
        if found := re.match(
            r"(?:[\w ]+ )?(?:class|interface) ([\w.$]+)(?:<.*>)?(?: extends ([^{]*?))?(?: implements (.*))?$", line
        ):
            user = found[1]
            above = ",".join(filter(None, (found[2], found[3])))
            compiled.above[user] = [part.strip().split("<")[0] for part in above.split(",") if part.strip()]
        elif found := re.match(r"  super_class: #\d+\s+// ([\w/$]+)", line):
            compiled.above.setdefault(user, []).append(found[1].replace("/", "."))
        elif found := _REFERENCE.search(line):
            owner, name, descriptor = found[2], found[3], found[4]
            compiled.references.add(Reference(user, owner.replace("/", "."), name, descriptor_arguments(descriptor)))
        elif found := _USED_CLASS.search(line):
            compiled.references.add(Reference(user, found[1].replace("/", "."), "", 0))
    return compiled


def resolved(known: dict[str, ApiClass], compiled: Compiled, reference: Reference) -> tuple[str, int | None] | None:
    """The platform's member that a reference means, and its level; None where it is not the platform's.

    A reference through a class of ours (`MainActivity.findViewById`) means what that class inherits.
    """
    owner = reference.owner
    if owner.startswith(PLATFORM):
        dotted = owner.replace("$", ".")
        return dotted, level(known, dotted, reference.name, reference.arguments)
    if not reference.name or reference.name == "<init>":
        return None
    for above in compiled.above.get(owner, ()):
        found = resolved(known, compiled, Reference(reference.user, above, reference.name, reference.arguments))
        if found is not None and found[1] is not None:
            return found
    return None
