"""Where things stand and what they are called: the tests of a module at its path, a class by a name of its own."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
PRODUCT = ("engines", "files", "http_server", "mcp_server", "openai_compat", "mlx_local_inference")
BESIDE = ("bench", "demo", "training", "tests")
# Whole servers and the project itself have no single module.
WHOLE = {"end_to_end", "soak"}
PROJECT = {"documentation", "event_loop", "find_python", "layout", "project", "promises", "scripted"}


def files_of_tests() -> list[Path]:
    """Those that belong to a module, relative to `tests/`."""
    found = (path.relative_to(TESTS) for path in TESTS.rglob("test_*.py"))
    return sorted(path for path in found if path.parts[0] not in WHOLE)


def source_of(test: Path) -> Path | None:
    """The module or package that `test_X.py` or `test_X_ASPECT.py` is about: X, at the same path."""
    words = test.stem.removeprefix("test_").split("_")
    for count in range(len(words), 0, -1):
        name = ROOT / test.with_name("_".join(words[:count]))
        for source in (name.with_suffix(".py"), name / "__init__.py"):
            if source.exists():
                return source
    return None


def test_every_file_of_tests_stands_where_its_module_does() -> None:
    without = [str(path) for path in files_of_tests() if source_of(path) is None]
    assert without == sorted(f"test_{name}.py" for name in PROJECT)


def classes() -> dict[str, list[str]]:
    """The paths in which a class of each name is defined, files of tests aside."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(path for name in (*PRODUCT, *BESIDE) for path in (ROOT / name).rglob("*.py")):
        if not path.name.startswith("test_"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    found[node.name].append(str(path.relative_to(ROOT)))
    return found


def test_no_two_classes_have_the_same_name() -> None:
    assert {name: paths for name, paths in classes().items() if len(paths) > 1} == {}
