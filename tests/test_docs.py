"""The pages name what exists: links, paths, modules, commands and their options, calls of the API."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

import hearpack
from hearpack.cli import app

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("models", "runtimes", "streaming", "converters", "hearpack")
FOLDERS = (*TOPS, "tests", "bench", "tools", "docs", "android-sample", "ios-sample", ".ci")
EXAMPLES = ("quiet/", "path/", "moved/")  # files of the user's in examples
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        ROOT / "llms.txt",
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("*-sample/README.md"),
        *(ROOT / "models" / "nets").glob("*/card*.md"),
    ]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, FOLDERS))})/(?!\d)[\w./*-]*[\w*/]")
SOURCE = re.compile(r"`([\w./-]+\.(?:py|kt|swift))(?::\w+)?`")
DOTTED = re.compile(rf"(?<![\w./-])(?:{'|'.join(TOPS)})(?:\.[A-Za-z_]\w*)+(?![\w/])")
COMMAND = re.compile(r"(?<![\w./'-])hearpack (?P<name>[a-z][a-z-]*)(?P<rest>(?:(?!&&|\bhearpack [a-z]).)*)")
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z](?!\S))")


@cache
def files() -> tuple[str, ...]:
    found = [f for top in FOLDERS for f in (ROOT / top).rglob("*") if f.suffix in {".py", ".kt", ".swift"}]
    return tuple("/" + f.relative_to(ROOT).as_posix() for f in found)


def text_of(page: Path) -> str:
    """A page; the changelog without the old names in its table."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^ *\| `[^|]*\|", "", text, flags=re.M) if page.name == "CHANGELOG.md" else text


def dead_links(text: str, folder: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = folder / path if path else None
        if file is not None and not file.exists():
            yield target
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8") if file else text, re.M)
            if anchor not in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}:
                yield target


def dead_paths(text: str) -> Iterator[str]:
    for path in PATH.findall(text):
        pattern = re.sub(r"\bNAME\b", "*", path).rstrip("/")
        if not any(ROOT.glob(pattern)):
            yield path
    for path in SOURCE.findall(text):
        if not path.startswith((*EXAMPLES, *(f"{top}/" for top in FOLDERS))) and not any(
            file.endswith("/" + path) for file in files()
        ):
            yield path


def names_of(module: Path) -> set[str]:
    """What a module binds: definitions, variables, imports; in an __init__ also the lazy names, which are strings."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.Constant) and module.name == "__init__.py":
            names.add(str(node.value))
    return names


def dead_names(text: str) -> Iterator[str]:
    kotlin = re.compile(r"^```kotlin\n.*?^```$", re.M | re.S)  # compiled by tests/android/test_own_app.py
    for name in DOTTED.findall(kotlin.sub("", text)):
        place, rest = ROOT, name.split(".")
        if rest[-1] in {"md", "apk", "toml", "json", "css", "py"}:
            continue
        while rest and (place / rest[0]).is_dir():
            place = place / rest.pop(0)
        module = place / f"{rest[0]}.py" if rest and (place / f"{rest[0]}.py").exists() else place / "__init__.py"
        rest = rest[1:] if module.name != "__init__.py" else rest
        known = set(hearpack.__all__) if module == ROOT / "hearpack" / "__init__.py" else names_of(module)
        if rest and rest[0] not in known:
            yield name


def wrong_commands(text: str) -> Iterator[str]:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    blocks = [body for _, body in FENCE.findall(text)] + re.findall(r"^ {4}.*$", text, re.M)
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for line in "\n".join([*blocks, *spans]).splitlines():
        for found in COMMAND.finditer(line):
            if found["name"] not in commands:
                yield f"hearpack {found['name']}"
                continue
            known = {o for p in commands[found["name"]].params for o in (*p.opts, *p.secondary_opts)}
            yield from (f"hearpack {found['name']} {o}" for o in OPTION.findall(found["rest"]) if o not in known)


def wrong_calls(text: str) -> Iterator[str]:
    for language, body in FENCE.findall(text):
        for node in ast.walk(ast.parse(body)) if language == "python" else ():
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in TOPS:
                assert importlib.util.find_spec(node.module), node.module
            call = node.func if isinstance(node, ast.Call) else None
            if not (
                isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) and call.value.id == "hearpack"
            ):
                continue
            assert isinstance(node, ast.Call)
            try:
                signature = inspect.signature(getattr(hearpack, call.attr))
                signature.bind(*node.args, **{k.arg: k.value for k in node.keywords if k.arg})
            except (AttributeError, TypeError) as exc:
                yield f"{ast.unparse(node)}: {exc}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_what_exists(page: Path) -> None:
    text = text_of(page)
    assert not [*dead_links(text, page.parent)]
    assert not [*dead_paths(text)]
    assert not [*dead_names(text)]
    assert not [*wrong_commands(text)]
    assert not [*wrong_calls(text)]


def test_the_pages_are_found_and_hold_much_to_check() -> None:
    text = "\n".join(map(text_of, PAGES))
    assert {"README.md", "CONTRIBUTING.md", "llms.txt"} <= {page.name for page in PAGES}
    assert len(PATH.findall(text)) > 60
    assert len(COMMAND.findall(text)) > 60
    assert len(DOTTED.findall(text)) > 5
    assert text.count("](") > 60


@pytest.mark.parametrize("index", ["docs/README.md", "llms.txt"])
def test_an_index_names_every_page(index: str) -> None:
    links = {(ROOT / index).parent / link for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / index).read_text())}
    pages = {*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.json"), *ROOT.glob("*-sample/README.md")}
    assert not {page.name for page in pages - {ROOT / index}} - {link.resolve().name for link in links}


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (lambda text: dead_links(text, ROOT), "see [that](docs/none.md)"),
        (lambda text: dead_links(text, ROOT), "see [that](docs/models.md#no-such-heading)"),
        (dead_paths, "`streaming/loop.py` has it"),
        (dead_paths, "`models/nets/NAME/nothing.py`"),
        (dead_paths, "`ManifestReader.swift` has it"),
        (dead_names, "`models.own.OwnEntry`"),
        (dead_names, "`hearpack.nothing`"),
        (wrong_commands, "```sh\nhearpack simulat a.hearpack\n```"),
        (wrong_commands, "```sh\nhearpack verify a.hearpack --second 3\n```"),
        (wrong_commands, "    hearpack pull dtln && hearpack export dtln --weigths x"),
        (wrong_commands, "so `hearpack run b -x` fails"),
        (wrong_calls, "```python\nhearpack.verify()\n```"),
        (wrong_calls, "```python\nhearpack.nothing(1)\n```"),
    ],
)
def test_a_planted_fault_is_found(check: Callable[[str], Iterator[str]], text: str) -> None:
    assert [*check(text)]
