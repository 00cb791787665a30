"""The pages of documentation, what they name, and what the source has."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = (
    *("engines", "files", "http_server", "mcp_server", "openai_compat", "mlx_local_inference"),
    *("demo", "training", "bench", "tests"),
)
PAGES = [
    *(ROOT / name for name in ("README.md", "SKILL.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("references/*.md")),
]
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```", re.S | re.M)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def codes(page: Path) -> list[str]:
    """What stands between backticks, once each, without the fenced examples."""
    return list(dict.fromkeys(CODE.findall(FENCE.sub("", text_of(page)))))


def links(page: Path) -> list[str]:
    """Targets within the project, without their anchors."""
    return [link.partition("#")[0] for link in LINK.findall(text_of(page)) if "://" not in link and link[0] != "#"]


@cache
def files() -> frozenset[str]:
    """Every file of the source and the documentation, and every folder with a slash at its end."""
    found = [path for name in SOURCE for path in (ROOT / name).rglob("*") if "__pycache__" not in path.parts]
    found += [ROOT / name for name in SOURCE]
    found += [path for path in ROOT.iterdir() if path.is_file()] + PAGES
    return frozenset(f"{path.relative_to(ROOT)}{'/' * path.is_dir()}" for path in found)


def is_file(name: str) -> bool:
    """Whether a file or folder is called so, by its whole path or by the end of it."""
    return any(f"/{path}".endswith((f"/{name}", f"/{name}/")) for path in files())


def trees() -> Iterator[ast.Module]:
    """Of all modules but the tests."""
    for path in sorted(files()):
        if path.endswith(".py") and not path.startswith("tests/"):
            yield ast.parse((ROOT / path).read_text(encoding="utf-8"))


@cache
def members() -> dict[str, frozenset[str]]:
    """The names of all classes, with what they and their objects have (without what is inherited)."""
    found: dict[str, set[str]] = {}
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(_names(node))
    return {name: frozenset(names) for name, names in found.items()}


@cache
def vocabulary() -> frozenset[str]:
    """Every identifier of the source, and every word of its texts but the docstrings."""
    return frozenset(name for tree in trees() for name in _names(tree))


def _names(tree: ast.AST) -> Iterator[str]:
    nodes = list(ast.walk(tree))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        match node:
            case ast.Constant() if id(node) in docstrings:
                continue
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.alias(name=name) | ast.ImportFrom(module=str(name)):
                yield from name.split(".")
            case ast.Constant(value=str(text)):
                yield from re.findall(r"\w+", text)
