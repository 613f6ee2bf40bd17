"""Seeded damage to files: bytes, lines of text, and trees of JSON. The same generator, the same damage."""

from __future__ import annotations

import copy
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63)),
    *(0.5, -0.5, 1e-9, 1e9, 1e12, 1e15, 1e300, -1e300, 5e-324, float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *("", " ", "a", "0", "-1", "NaN", "null", "../../x", "/dev/zero", "a/b", "C:\\x", "nul\0", "=cmd|' /C calc'!A0"),
    *("\x1b[2J\x1b[31m", "[/b]", "[1]", "\u202egnp", "\ud800", "\ufeff", "é" * 40, "x" * 300, "y" * 70_000, "a\nb\rc"),
)
_FIGURE = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_QUOTED = re.compile(r'"[^"\n]*"')

Mutation = Callable[[Random, bytes], bytes]


def damage_bytes(random: Random, data: bytes) -> bytes:
    """One to eight edits anywhere, more often near the begin, where headers are."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        size = len(changed)
        at = random.randrange(size) if size else 0
        if size > 256 and random.random() < 0.3:
            at = random.randrange(256)
        kind = random.randrange(9)
        if kind == 0 and size:
            changed[at] ^= 1 << random.randrange(8)
        elif kind == 1 and size:
            changed[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        elif kind == 2:
            width = random.choice((2, 4, 8))
            value = int(random.choice([n for n in NUMBERS if isinstance(n, int)])) & (2 ** (8 * width) - 1)
            changed[at : at + width] = value.to_bytes(width, random.choice(("little", "big")))
        elif kind == 3:
            del changed[at : at + random.choice((1, 4, 16, 256, 4096))]
        elif kind == 4:
            changed[at:at] = random.randbytes(random.choice((1, 4, 16, 256)))
        elif kind == 5:
            changed[at:at] = changed[at : at + random.choice((4, 64, 1024))]
        elif kind == 6:
            del changed[at:]
        elif kind == 7:
            changed[at : at + random.choice((4, 64))] = bytes(random.choice((4, 64)))
        else:
            changed[at : at + 4] = struct.pack("<f", random.choice((float("nan"), float("inf"), 1e30, -1.0)))
    return bytes(changed)


def damage_zip(random: Random, data: bytes) -> bytes:
    """A whole archive with a damaged member, or a damaged archive."""
    if random.random() < 0.3:
        return damage_bytes(random, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = random.choice(sorted(members))
    damage = damage_text if members[chosen].isascii() or random.random() < 0.3 else damage_bytes
    members[chosen] = damage(random, members[chosen])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def damage_text(random: Random, data: bytes) -> bytes:
    """Figures, quoted texts and lines replaced, doubled, taken out; now and then plain bytes."""
    if random.random() < 0.15:
        return damage_bytes(random, data)
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(random.choice((1, 1, 2, 4))):
        found = list((_FIGURE if random.random() < 0.6 else _QUOTED).finditer(text))
        if found and random.random() < 0.7:
            place = random.choice(found)
            new = repr(random.choice(NUMBERS)) if random.random() < 0.7 else random.choice(TEXTS)
            quoted = place.group().startswith('"') and random.random() < 0.8
            new = json.dumps(new) if quoted else new
            text = text[: place.start()] + new + text[place.end() :]
            continue
        lines = text.split("\n")
        at = random.randrange(len(lines))
        action = random.randrange(5)
        if action == 0:
            del lines[at]
        elif action == 1:
            lines[at:at] = [lines[at]] * random.choice((1, 1, 50))
        elif action == 2:
            lines[at] = lines[at][: random.randrange(len(lines[at]) + 1)]
        elif action == 3:
            lines[at] = random.choice(TEXTS) + lines[at]
        else:
            other = random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")


def damage_json(random: Random, data: bytes) -> bytes:
    """Values, keys and branches of the tree changed; the result is JSON nearly always."""
    if random.random() < 0.1:
        return damage_text(random, data)
    tree = json.loads(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        tree = _damaged(random, tree)
    text = json.dumps(tree)
    if random.random() < 0.01:
        text = text.replace("[", "[" * random.choice((900, 100_000)), 1)
    if random.random() < 0.02:
        text = text.replace("0", random.choice(("0" * 5_000, "1e999", "-")), 1)
    return text.encode()


def _damaged(random: Random, tree: Any) -> Any:
    if not isinstance(tree, dict | list) or not tree:
        return _value(random, tree)
    parent = tree
    while True:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        key = random.choice(keys)
        child = parent[key]
        if isinstance(child, dict | list) and child and random.random() < 0.85:
            parent = child
            continue
        break
    action = random.randrange(6)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, list):
        parent[key:key] = [copy.deepcopy(child)] * random.choice((1, 2, 300))
    elif action == 1:
        parent[random.choice(TEXTS)] = child
    elif action == 2:
        other = random.choice(keys)
        parent[key], parent[other] = parent[other], parent[key]
    else:
        parent[key] = _value(random, child)
    return tree


def _value(random: Random, old: Any) -> Any:
    """Mostly another value of the same type: a reader refuses the others at once."""
    same = random.random() < 0.6
    if same and isinstance(old, bool | int | float):
        near = (old + 1, old - 1, old * 2, -old, old * 1000)
        return random.choice((*NUMBERS, *near, float(old), int(old) if old == old and abs(old) < 1e300 else 0))
    if same and isinstance(old, str):
        return random.choice((*TEXTS, old[:-1], old + "x", old.upper()))
    if same and isinstance(old, list) and old:
        return random.choice((old[:1], old[:-1], old[::-1], old * 2, []))
    nested: Any = []
    for _ in range(random.choice((1, 3, 200)) if random.random() < 0.1 else 1):
        nested = [nested]
    return random.choice((None, True, False, [], {}, [None], {"a": 1}, nested, *NUMBERS[:8], *TEXTS[:8]))
