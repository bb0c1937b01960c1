"""The commands in the README and in docstrings of benchmarks."""

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))
PAGES = sorted((ROOT / "benchmarks").rglob("*.md"))
# Scripts that extend the flags of another.
INHERITED = {"continued.py": "precision.py", "ablations.py": "rows.py", "missing.py": "rows.py"}


def text_of(path: Path) -> str:
    if path.suffix == ".md":
        return "\n".join(re.findall(r"^```bash\n(.*?)^```", path.read_text(), re.M | re.S))
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def commands(path: Path) -> list[list[str]]:
    """The words of each command, from the path of the script on."""
    lines = re.sub(r"\\\n", " ", text_of(path)).splitlines()
    found = [re.search(r"^\s*(?:python|TORCH) (benchmarks/.*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


def flags_of(script: Path) -> set[str]:
    flags = {
        node.value
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.Constant) and str(node.value).startswith("--")
    }
    if script.name in INHERITED:
        flags |= flags_of(script.with_name(INHERITED[script.name]))
    return flags


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=lambda path: path.name)
def test_every_command_names_a_script_and_its_flags(path):
    for script, *words in commands(path):
        assert (ROOT / script).is_file(), script
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        assert given <= flags_of(ROOT / script), script


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_page_links_to_existing_files(path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []
