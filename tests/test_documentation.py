"""README and docs/: links lead somewhere, commands and flags exist, Python compiles."""

import ast
import errno
import os
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from configs import base

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = ("main", "prepare", "grid", "predict", "report", "calibrate", "export", "phantom")


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


def command_lines(page: Path) -> list[list[str]]:
    """The words of every command of this project in a page's shell blocks."""
    text = "\n".join(blocks(page, "", "bash")).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        for start, word in enumerate(words):
            if word.startswith("brats_jax.") or word.startswith(("launch/", "benchmarks/")):
                found.append(words[start:])
    return found


@cache
def flags_of(command: str) -> set[str]:
    """The names of a command's own flags, as its help lists them."""
    done = subprocess.run(
        [sys.executable, "-m", f"brats_jax.{command}", "--help"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    return set(re.findall(r"--(?:\[no\])?(\w+)", done.stdout))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    local = [t.split("#")[0] for t in targets if not t.startswith(("http", "#"))]
    assert [t for t in local if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_the_repository_that_is_named_exists(page):
    named = re.findall(
        r"(?<![\w/.])((?:brats_jax|configs|launch|tests|benchmarks|docs)/[\w./]*\w)",
        page.read_text(),
    )
    assert [n for n in named if not (ROOT / n).exists()] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_in_the_documentation_exists(command):
    for page in PAGES:
        for name, *words in command_lines(page):
            if name != f"brats_jax.{command}":
                continue
            given = [w[2:].split("=")[0] for w in words if w.startswith("--")]
            settings = [n.removeprefix("config.") for n in given if n.startswith("config.")]
            plain = {n for n in given if not n.startswith("config.")}
            assert plain <= flags_of(command) | {"help"}, page.name
            for setting in settings:
                value = base.get_config()
                for part in setting.split("."):
                    assert part in value, f"{page.name}: {setting}"
                    value = value[part]


def test_every_script_in_the_documentation_exists():
    for page in PAGES:
        for name, *_ in command_lines(page):
            if not name.startswith("brats_jax."):
                assert (ROOT / name).is_file(), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_example_compiles(page):
    for text in blocks(page, "python"):
        ast.parse(text)


def test_the_architecture_names_every_module_of_the_packages_that_it_lists():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([\w/]+/)` \| [^|]* \| ([^|]*`[^|]*) \|$", text, re.MULTILINE)
    assert len(rows) >= 10
    for package, modules in rows:
        named = set(re.findall(r"`([\w*]+)`", modules))
        there = {p.stem for p in (ROOT / "brats_jax" / package).glob("*.py")} - {"__init__"}
        missing = {m for m in there if not any(fnmatch(m, pattern) for pattern in named)}
        assert not missing, (package, missing)
        unknown = {n for n in named if not any(fnmatch(m, n) for m in there)}
        assert not unknown, (package, unknown)


def test_the_architecture_names_files_and_functions_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    files = re.findall(r"`(\w[\w/]*/\w+\.py)\b", text)
    assert [f for f in files if not any((r / f).exists() for r in (ROOT, ROOT / "brats_jax"))] == []
    named = re.findall(r"`([\w/]+\.py):([\w.]+)`", text)
    assert len(named) >= 15
    for path, name in named:
        scope = ast.parse((ROOT / "brats_jax" / path).read_text()).body
        for part in name.split("."):
            (found,) = [node for node in scope if getattr(node, "name", "") == part]
            scope = getattr(found, "body", [])


def messages() -> list[str]:
    """The texts in the code; a value within an f-string is a NUL."""
    found = []
    for path in (ROOT / "brats_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def fragments(quote: str) -> list[str]:
    """The fixed words of a quoted message, without ellipses, capitals and numbers."""
    pieces = re.split(r"\.\.\.|\b[A-Z][A-Z_]*\b|\b\d+\b|[=:',;]", quote)
    return [p.strip() for p in pieces if len(p.strip().split()) > 1]


def test_every_message_in_troubleshooting_is_one_of_the_program():
    page = (ROOT / "docs/troubleshooting.md").read_text()
    rows = re.findall(r"^\| (`.+?) \|", page, re.MULTILINE)
    quotes = [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]
    texts = [*messages(), os.strerror(errno.ENOSPC)]
    words = {quote: fragments(quote) for quote in quotes}
    unknown = [q for q in quotes if not any(all(f in t for f in words[q]) for t in texts)]
    assert len(quotes) > 20 and unknown == []
