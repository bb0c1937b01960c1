"""The layout of the package and of its tests."""

from processes import ROOT

PACKAGE, TESTS = ROOT / "brats_jax", ROOT / "tests"
LONGEST = 450  # lines
COMMANDS = {"main", "prepare", "grid", "predict", "report", "calibrate", "export", "phantom"}
ROOT_MODULES = COMMANDS | {"__init__", "about", "errors"}
PACKAGES = {
    "data", "evaluation", "experiments", "inference", "losses", "metrics", "models", "pretexts",
    "reporting", "runs", "runtime", "tasks", "training", "viewer",
}  # fmt: skip


def test_every_module_has_a_test_file_of_its_name():
    """brats_jax/x/y.py -> tests/x/test_y.py."""
    modules = [m.relative_to(PACKAGE) for m in PACKAGE.rglob("*.py") if m.name != "__init__.py"]
    assert modules
    missing = [str(m) for m in modules if not (TESTS / m.parent / f"test_{m.name}").is_file()]
    assert not missing


def test_the_root_of_the_package_holds_commands_and_a_few_modules():
    assert {module.stem for module in PACKAGE.glob("*.py")} == ROOT_MODULES


def test_the_package_has_fourteen_packages():
    assert {module.parent.name for module in PACKAGE.glob("*/__init__.py")} == PACKAGES
    assert len(PACKAGES) <= 14


def test_no_python_file_is_longer_than_450_lines():
    folders = ("brats_jax", "benchmarks", "configs", "examples", "launch", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert files
    lengths = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in files}
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST}
